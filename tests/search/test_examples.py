"""How several examples, and examples of what is not wanted, become one question."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.index_folders import vector_of
from vlm2vec.errors import InputError
from vlm2vec.search.examples import Examples, combined
from vlm2vec.search.library import Library
from vlm2vec.search.retrieve import Question
from vlm2vec.search.store import Filter


def test_each_example_counts_the_same_whatever_its_length() -> None:
    np.testing.assert_allclose(combined([[3.0, 0.0], [0.0, 0.5]]), np.array([1, 1]) / np.sqrt(2), rtol=1e-6)


def test_a_share_of_the_mean_of_what_is_not_wanted_is_taken_away() -> None:
    # (1, 0, 0) less half of the mean of (0, 1, 0) and (0, 0, 1) is (1, -1/4, -1/4).
    found = combined([[2.0, 0.0, 0.0]], [[0.0, 5.0, 0.0], [0.0, 0.0, 1.0]], share=0.5)
    np.testing.assert_allclose(found, np.array([4, -1, -1]) / np.sqrt(18), rtol=1e-6)
    assert found.dtype == np.float32


def test_one_example_is_itself() -> None:
    np.testing.assert_allclose(combined([[0.6, 0.8]]), [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize(
    ("like", "unlike", "message"),
    [
        ([[1.0, 0.0], [-1.0, 0.0]], [], "what is wanted and what is not are the same"),
        ([[1.0, 0.0]], [[2.0, 0.0]], "what is wanted and what is not are the same"),
        ([[0.0, 0.0]], [], "the vector of an example is zero or not finite"),
        ([[1.0, 0.0]], [[np.nan, 0.0]], "the vector of an example is zero or not finite"),
    ],
)
def test_examples_that_give_no_direction_are_refused(
    like: list[list[float]], unlike: list[list[float]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        combined(like, unlike, share=1.0)


def test_what_is_not_wanted_alone_is_no_question() -> None:
    with pytest.raises(InputError, match="there are only examples of what is not wanted"):
        Examples((), ("a dog",))


def test_a_library_is_searched_by_examples_each_by_its_stored_vector(three: Library) -> None:
    files = [three.folder / f"{number}.png" for number in range(3)]
    zero, one, two = (vector_of(three, path.name) for path in files)
    three._model.embedder = None
    three._model.name = str(Path("no model is loaded"))
    hits = three.search(Examples(tuple(files[:2]), (files[2],)))
    assert hits == three.search(combined([zero, one], [two]))
    question = Question(Examples((files[0],)), k=1, where=Filter(under="nowhere"))
    assert three.search(question) == []
