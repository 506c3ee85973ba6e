"""The benchmark of search draws the questions that it promises, and its yardstick computes BM25."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from support.scripts import script


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks" / "speed"))
    return script(monkeypatch, "benchmarks/search/questions.py")


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch, questions: ModuleType) -> ModuleType:
    return script(monkeypatch, "benchmarks/search/reading.py")


def test_words_run_on_over_a_line_end_and_stop_at_punctuation_and_broken_words(questions: ModuleType) -> None:
    runs = questions.runs_of_words("The red\nhat, he wore. Co-op x7 and")
    assert runs == [["the", "red", "hat"], ["he", "wore"], ["and"]]


def test_a_phrase_and_a_rare_word_are_drawn_only_where_no_other_part_has_them(
    questions: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("one two three four five, lantern")
    (tmp_path / "b.txt").write_text("one two three four five six, lanterns")
    assert [asked for asked in questions.draw(tmp_path) if asked.kind != "name"] == [
        questions.Asked("phrase", "two three four five six", "b.txt"),
        questions.Asked("word", "lanterns", "b.txt"),
    ]


def test_a_name_is_asked_only_if_its_words_are_in_no_other_name(questions: ModuleType, tmp_path: Path) -> None:
    for name in ("LadyBird.txt", "lady_bird_2.txt", "storm.txt"):
        (tmp_path / name).write_text("")
    paths = {asked.path for asked in questions.draw(tmp_path)}
    assert paths == {"lady_bird_2.txt", "storm.txt"}


def test_a_paraphrase_that_shares_a_rare_word_with_its_page_is_told(questions: ModuleType, reading: ModuleType) -> None:
    parts = [reading.Part("a.pdf", page, text) for page, text in ((1, "the old mill"), (2, "the barn"), (3, "the"))]
    parts += [reading.Part("b.txt", None, "the inn")]
    asked = questions.Asked("paraphrase", "the ancient mill and barn", "a.pdf", 1)
    assert questions.shared_rare_words(asked, parts) == {"mill"}


def test_words_of_slides_web_pages_and_texts_are_read(
    monkeypatch: pytest.MonkeyPatch, reading: ModuleType, tmp_path: Path
) -> None:
    made = script(monkeypatch, "benchmarks/search/made.py")
    (tmp_path / "a.pptx").write_bytes(made.as_pptx([("Bees", ["Fish & chips"]), ("Honey", [])]))
    (tmp_path / "b.html").write_text("<title>T</title><style>s</style><p>one <b>two</b></p><p>three</p>")
    (tmp_path / "c.txt").write_bytes("caf\xe9".encode("latin-1"))
    parts = [(part.path, part.page, part.text.split()) for part in reading.read_parts(tmp_path)]
    assert parts == [
        ("a.pptx", 1, ["Bees", "Fish", "&", "chips"]),
        ("a.pptx", 2, ["Honey"]),
        ("b.html", None, ["T", "one", "two", "three"]),
        ("c.txt", None, ["café"]),
    ]


def test_a_name_is_parted_at_capitals_digits_and_punctuation(reading: ModuleType) -> None:
    assert reading.name_words("Pictures/LadyBird_PDFScan-2024.jpg") == ["lady", "bird", "pdf", "scan", "2024"]


def test_bm25_weighs_a_rare_word_and_a_short_document_more(monkeypatch: pytest.MonkeyPatch) -> None:
    bm25 = script(monkeypatch, "benchmarks/search/bm25.py")
    index = bm25.BM25([["a", "a", "b", "c"], ["a", "c"], ["c"], ["d"]], k1=1.2, b=0.75)
    # Documents have two words in the mean. Two a of four words count 2 * 2.2 / (2 + 1.2 * 1.75), one of two 2.2 / 2.2.
    assert index.search(["a"], 5) == [0, 1]
    # One c of four words counts 2.2 / (1 + 1.2 * 1.75), of two 1, of one 2.2 / (1 + 1.2 * 0.625).
    assert index.search(["c"], 5) == [2, 1, 0]
    # ln(1 + 3.5 / 1.5) for d, which one document has, ln(1 + 2.5 / 2.5) for a, which two have.
    assert index.search(["d", "a"], 5) == [3, 0, 1]
    assert index.search(["e"], 5) == []


def test_the_written_questions_are_a_hundred_each_and_a_quarter_of_each_kind_of_nonsense(questions: ModuleType) -> None:
    nonsense = [asked.kind for asked in questions.read_nonsense()]
    assert {kind: nonsense.count(kind) for kind in nonsense} == {
        "nonsense: letters": 25,
        "nonsense: unknown names": 25,
        "nonsense: other languages": 25,
        "nonsense: not in the folder": 25,
    }
    assert len(questions.read_paraphrases()) == 100
