"""What a text finds in an index with words: by them, by their meaning, by looks, or by all together."""

from __future__ import annotations

import itertools
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.index_folders import library_of_rows, rows_of
from support.places import ROOT
from support.toy_family import make_toy
from vlm2vec.errors import InputError, ModelError
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.background import read_background
from vlm2vec.search.library import Library
from vlm2vec.search.retrieve import Mode, Question
from vlm2vec.search.store import DEFAULT_NAME, FileRows, Hit, IndexInfo, StoredUnit, Vector, Words
from vlm2vec.search.stores import create_store


def _page(number: int, text: str, about: str = "", vector: Vector | None = None) -> StoredUnit:
    return StoredUnit("page", number, None, vector, Words(text, about))


def _picture(x: float = 1, y: float = 0) -> StoredUnit:
    return StoredUnit("image", None, None, np.array([x, y], np.float32))


def _places(hits: list[Hit]) -> list[tuple[str, int | None]]:
    return [(hit.path, hit.page) for hit in hits]


@pytest.fixture
def written(tmp_path: Path) -> Library:
    """Files with words, of a model that is nowhere."""
    return library_of_rows(
        tmp_path,
        rows_of("letters.pdf", _page(1, "the invoice of march"), _page(2, "march on, said the general")),
        rows_of("invoice march.pdf", _page(1, "dear sir"), _page(2, "the sum")),
        rows_of("notes.txt", StoredUnit("text", 1, None, None, Words("we march to the sea, invoice in hand"))),
        rows_of("red_apple.png", _picture()),
    )


@pytest.fixture
def toy(tmp_path: Path) -> Embedder:
    return Embedder.load(make_toy(tmp_path / "model"))


def _library(folder: Path, model: Embedder, *files: FileRows) -> Library:
    """An index of these files with the background of a model that reads 16 kinds of words, and sees colours."""
    info = IndexInfo(model.name, model.fingerprint, model.dim, model.dtype, "..")
    at = folder / DEFAULT_NAME
    with closing(create_store(at, info, background=read_background(model))) as store, store.writing():
        store.commit([], files)
    return Library.open(folder, model=model)


def _section(model: Embedder, path: str, text: str) -> FileRows:
    return rows_of(path, StoredUnit("text", 1, None, None, Words(text), (model.encode(text),)))


# Words


def test_words_alone_need_no_model_and_a_hit_says_what_was_found(written: Library) -> None:
    [hit] = written.search("general", mode="words")
    assert replace(hit, score=round(hit.score, 3)) == Hit(
        "letters.pdf", "page", 0.967, page=2, why=("words",), snippet="march on, said the \x02general\x03"
    )
    with pytest.raises(ModelError):
        written.search("general")


def test_a_phrase_as_typed_a_name_and_all_words_come_in_this_order(written: Library) -> None:
    hits = written.search("invoice of march", mode="words")
    assert _places(hits) == [("letters.pdf", 1), ("invoice march.pdf", 1), ("notes.txt", 1), ("letters.pdf", 2)]
    assert [hit.weak for hit in hits] == [False, False, False, True]
    assert [hit.why for hit in hits] == [("words",), ("name",), ("words",), ("words",)]


def test_in_quotes_only_the_phrase_matches(written: Library) -> None:
    hits = written.search('"invoice in hand" march', mode="words")
    assert [(hit.path, hit.weak) for hit in hits[:2]] == [("notes.txt", False), ("invoice march.pdf", True)]


def test_operators_filter_and_exclude(written: Library) -> None:
    assert _places(written.search("march kind:text", mode="words")) == [("notes.txt", 1)]
    assert _places(written.search("march -invoice", mode="words")) == [("letters.pdf", 2)]
    assert written.search("red", mode="words", kind="page") == []


@pytest.mark.parametrize("question", ["kind:page", "-march", "in:a -b"])
def test_filters_alone_are_no_question(written: Library, question: str) -> None:
    with pytest.raises(InputError, match="say what is looked for"):
        written.search(question, mode="words")


def test_signs_alone_have_no_words(written: Library) -> None:
    with pytest.raises(InputError, match=r"there are no words in '\?!'"):
        written.search("?!", mode="words")


def test_scores_fall_and_the_smallest_one_may_be_chosen(written: Library) -> None:
    hits = written.search("invoice march", mode="words")
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 and (score < 0.5) == hit.weak for score, hit in zip(scores, hits, strict=True))
    assert written.search("invoice march", mode="words", min_score=0.5) == [hit for hit in hits if not hit.weak]


def test_the_pages_of_hits_are_all_hits_in_order(tmp_path: Path) -> None:
    pages = [_page(number, f"march {'sea ' * (number % 7)}") for number in range(1, 301)]
    library = library_of_rows(tmp_path, rows_of("a.pdf", *pages))
    every = library.search("march", 1000, mode="words")
    shown = [library.search("march", 50, mode="words", offset=offset) for offset in range(0, 350, 50)]
    assert len(every) == 300
    assert list(itertools.chain(*shown)) == every


@pytest.mark.parametrize(
    ("mode", "message"), [("fast", r"no mode 'fast': use auto, words, meaning"), (3, r"no mode 3")]
)
def test_there_are_three_modes(mode: Mode, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Question("march", mode=mode)


def test_the_smallest_score_is_a_number() -> None:
    with pytest.raises(InputError, match="min_score is 'high': it must be a number"):
        Question("march", min_score="high")  # type: ignore[arg-type]


# Words and vectors


def test_a_word_that_is_there_wins_and_what_only_means_the_same_follows(tmp_path: Path, toy: Embedder) -> None:
    library = _library(
        tmp_path,
        toy,
        *(_section(toy, f"{number}.txt", text) for number, text in enumerate(["north wind", "harbour", "wheel"])),
    )
    hits = library.search("harbour")
    assert (hits[0].path, hits[0].why, hits[0].weak) == ("1.txt", ("words", "meaning"), False)
    by_meaning = library.search("harbour", mode="meaning")
    assert (by_meaning[0].path, by_meaning[0].why, by_meaning[0].snippet) == ("1.txt", ("meaning",), "")
    assert {hit.path for hit in by_meaning} == {"0.txt", "1.txt", "2.txt"}


def test_words_that_must_not_be_there_leave_what_vectors_find_too(tmp_path: Path, toy: Embedder) -> None:
    library = _library(
        tmp_path,
        toy,
        _section(toy, "a.txt", "harbour wall"),
        _section(toy, "b.txt", "harbour light"),
        _section(toy, "wall.txt", "harbour"),
    )
    modes: tuple[Mode, ...] = ("auto", "words", "meaning")
    for mode in modes:
        assert _places(library.search("harbour -wall", mode=mode)) == [("b.txt", 1)]


@pytest.mark.slow
def test_letters_that_the_model_cannot_read_are_looked_for_as_words(tmp_path: Path) -> None:
    model = Embedder.load("bundled")
    unit = StoredUnit("text", 1, None, None, Words("今日は数学公式を習う"))
    library = _library(tmp_path, model, rows_of("a.txt", unit))
    assert _places(library.search("数学")) == [("a.txt", 1)]


def test_an_index_without_background_has_no_line(tmp_path: Path, toy: Embedder) -> None:
    info = IndexInfo(toy.name, toy.fingerprint, toy.dim, toy.dtype, "..")
    with closing(create_store(tmp_path / DEFAULT_NAME, info)) as store, store.writing():
        store.commit([], [_section(toy, "a.txt", "harbour"), _section(toy, "b.txt", "wheel")])
    hits = Library.open(tmp_path, model=toy).search("harbour")
    assert [(hit.path, hit.weak) for hit in hits] == [("a.txt", False), ("b.txt", False)]


@pytest.mark.slow
def test_the_default_model_tells_what_is_there_from_nonsense(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "samples" / "objects", tmp_path / "objects")
    for number, path in enumerate(sorted((tmp_path / "objects").iterdir())):
        path.rename(path.with_name(f"{number}.webp"))
    library = Library.open(tmp_path)
    library.sync()
    octopus, guitar = library.search("an octopus", 1)[0], library.search("a guitar", 1)[0]
    assert [(hit.path, hit.weak, hit.why) for hit in (octopus, guitar)] == [
        ("objects/4.webp", False, ("look",)),
        ("objects/3.webp", False, ("look",)),
    ]
    assert all(hit.weak for hit in library.search("asdfgh qwerty"))
    assert library.search("asdfgh qwerty", min_score=0.5) == []
