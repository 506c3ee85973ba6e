"""The questions that scores are compared with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from support.places import ROOT
from support.toy_family import make_toy
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.background import background_questions, read_background


def test_there_are_400_different_questions_of_1_to_12_words() -> None:
    questions = background_questions()
    assert len({question.casefold() for question in questions}) == 400
    assert {len(question.split()) for question in questions} == {*range(1, 11), 12}


def test_none_of_them_is_a_question_of_the_demo() -> None:
    asked = {entry.get("text") for entry in json.loads((ROOT / "demo" / "queries.json").read_text("utf-8"))}
    assert not asked & set(background_questions())


def test_a_background_is_what_a_model_makes_of_the_questions_and_is_made_once(tmp_path: Path) -> None:
    model = Embedder.load(make_toy(tmp_path / "toy"))
    background = read_background(model)
    np.testing.assert_array_equal(background.vectors, model.encode(background_questions()))
    assert read_background(model) is background
