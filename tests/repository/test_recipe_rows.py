"""The rows of the bundled model's corpus: how they are asked for, and what is kept out of them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet
import pytest

from support.scripts import script
from vlm2vec.model.checkpoint import SHIPPED
from vlm2vec.model.families.qwen_inputs import _smart_resize
from vlm2vec.tasks.registry import get_tasks, packaged_root


@pytest.fixture
def instructions(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script(monkeypatch, "recipes/bundled/instructions.py")


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script(monkeypatch, "recipes/bundled/rows.py")


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script(monkeypatch, "recipes/bundled/options.py")


def test_training_rows_are_asked_for_in_every_trained_wording_and_in_no_held_one(instructions: ModuleType) -> None:
    clip, reverse = ({"video": name, "instruction": "fixed"} for name in ("a", "b"))
    given: list[dict[str, Any]] = [
        {
            "query": {"text": f"{n} rises", "instruction": "fixed"},
            "positive": clip,
            "label": "x",
            "negatives": [reverse],
        }
        for n in range(600)
    ]
    found = instructions.worded("text_to_video", given)
    asks = {row["query"]["instruction"] for row in found}
    kinds = set(instructions.QUERIES["text for videos"])
    assert asks & kinds == {words for words in kinds if not instructions.is_held_instruction(words)}
    assert kinds - asks, "some wordings are only for measuring"
    assert len(asks - kinds) > 100, "those made by a pattern"
    assert not any(map(instructions.is_held_instruction, asks))
    plain = sum(row["query"]["instruction"] == "" for row in found) / len(found)
    # Three tenths, and a tenth of the others.
    assert plain == pytest.approx(0.37, abs=0.06)
    for before, after in zip(given, found, strict=True):
        assert after["query"]["text"] == before["query"]["text"]
        # The negative could be told from the positive by its instruction, if they were not worded alike.
        assert after["negatives"] == [reverse | {"instruction": after["positive"]["instruction"]}]
    assert instructions.worded("text_to_video", given) == found


@pytest.mark.slow
def test_patterns_make_hundreds_of_instructions_of_every_kind_and_none_of_the_benchmark(
    instructions: ModuleType,
) -> None:
    assert set(instructions.PATTERNS) == instructions.QUERIES.keys() | instructions.DOCUMENTS.keys()
    asked = _instructions_of_mini()
    assert {words.rstrip(".:") for words in asked} == instructions.BENCHMARK_INSTRUCTIONS
    for kind in instructions.PATTERNS:
        rng = random.Random(kind)
        made = {instructions.instruction(kind, rng) for _ in range(2000)}
        assert len(made) > 300
        # With or without an opening, such as "Please".
        bodies = {words.removeprefix(opening).rstrip(".:") for words in made for opening in instructions.OPENINGS}
        assert not {body[:1].upper() + body[1:] for body in bodies} & instructions.BENCHMARK_INSTRUCTIONS
        assert not any("{" in words for words in made)


def _instructions_of_mini() -> set[str]:
    """Every instruction of a query or document in mmeb-mini, without the sign for the picture."""
    root = packaged_root("mmeb-mini")
    assert root is not None
    found: set[str] = set()
    for spec in get_tasks("mmeb-mini"):
        found |= {spec.instruction, getattr(spec.parser, "target_instruction", "")}
        for path in (root / "annotations" / f"mmeb-mini__{spec.name}").rglob("*.parquet"):
            rows = pyarrow.parquet.read_table(path).to_pylist()
            found |= {row.get(column) or "" for row in rows for column in ("qry_inst", "tgt_inst")}
    return {words.removeprefix("<|image_1|>").strip() for words in found} - {""}


def test_a_question_offers_its_answers_in_any_order_or_none(options: ModuleType) -> None:
    question, answers = "what comes first?", ["cat", "dog", "pig"]
    rng = random.Random(0)
    made = [options.offer(question, answers, rng) for _ in range(500)]
    offered = [one for one in made if one != (question, answers)]
    assert len(offered) / len(made) == pytest.approx(options.OPTIONS_SHARE, abs=0.06)
    orders, lettered = set(), 0
    for asked, candidates in offered:
        first, head, *lines = asked.split("\n")
        assert (first, head) == (question, "Options:")
        assert [line[:4] for line in lines] == ["(A) ", "(B) ", "(C) "]
        names = [line[4:] for line in lines]
        orders.add(tuple(names))
        lettered += candidates != answers
        assert candidates in (answers, [lines[names.index(name)] for name in answers])
    assert len(orders) == 6
    assert 0.4 < lettered / len(offered) < 0.6


def test_clips_of_corpus_and_benchmark_are_seen_at_one_size_and_slides_as_they_are() -> None:
    settings = json.loads((SHIPPED["tiny"] / "vlm2vec.json").read_text("utf-8"))
    smallest, largest, of_frames = (settings[f"{name}_pixels"] for name in ("min", "max", "max_frame"))
    assert [_smart_resize(112, 160, smallest, of_frames), _smart_resize(80, 112, smallest, of_frames)] == [
        (84, 112)
    ] * 2
    assert _smart_resize(168, 224, smallest, largest) == (168, 224)


def test_an_answer_in_words_carries_no_instruction(instructions: ModuleType) -> None:
    row = {"query": {"image": "a"}, "positive": {"text": "a dog", "instruction": ""}, "label": "dog"}
    assert {one["positive"]["instruction"] for one in instructions.worded("image_to_caption", [row] * 50)} == {""}


def test_no_training_row_says_a_question_of_the_demo(rows: ModuleType, tmp_path: Path) -> None:
    corpus = rows.Corpus(tmp_path)
    said = [rows.row(rows.text("a red apple"), rows.image("a.jpg", ""), "apple")]
    answered = [rows.row(rows.image("a.jpg", ""), rows.text("apple"), "apple", rows.text("a red apple"))]
    other = [rows.row(rows.text("the red apple"), rows.image("a.jpg", ""), "apple")]
    corpus.add("captions", [*said, *other, *answered], held=False)
    corpus.add("captions", said, held=True)
    assert corpus.files == {"captions": other, "captions_heldout": said}
