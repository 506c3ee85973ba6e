"""Which candidates are nearest, and in which order when they are equally near."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from vlm2vec.errors import InputError
from vlm2vec.vectors import ranking
from vlm2vec.vectors.ranking import top_k

Matrix = NDArray[np.float32]


def _rows(values: list[list[float]]) -> Matrix:
    return np.array(values, dtype=np.float32)


def _expected(scores_QC: Matrix, k: int, exclude: list[NDArray[np.int64]]) -> tuple[NDArray[np.int64], Matrix]:
    """By a full stable sort."""
    scores = scores_QC.copy()
    for row, of_query in enumerate(exclude):
        scores[row, of_query] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, axis=1)
    return np.where(np.isneginf(best), -1, order), best


@st.composite
def _tables(draw: st.DrawFn) -> tuple[Matrix, Matrix, int, list[NDArray[np.int64]], int]:
    num_queries, num_candidates, dim = draw(st.integers(0, 4)), draw(st.integers(1, 30)), draw(st.integers(1, 3))
    # Small whole numbers: many ties, and no rounding in the expected scores.
    numbers = st.integers(-2, 2).map(float)
    queries = draw(arrays(np.float32, (num_queries, dim), elements=numbers))
    candidates = draw(arrays(np.float32, (num_candidates, dim), elements=numbers))
    some = st.lists(st.integers(0, num_candidates - 1), max_size=8)
    exclude = [np.array(draw(some), dtype=np.int64) for _ in range(num_queries)]
    return queries, candidates, draw(st.integers(1, 40)), exclude, draw(st.sampled_from([1, 7, 1000]))


@settings(max_examples=150, deadline=None)
@given(_tables())
def test_top_k_is_the_head_of_a_full_stable_sort(
    table: tuple[Matrix, Matrix, int, list[NDArray[np.int64]], int],
) -> None:
    queries, candidates, k, exclude, chunk = table
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_CANDIDATES_AT_ONCE", chunk)
        patch.setattr(ranking, "_SCORES_AT_ONCE", 3 * chunk)
        indices, scores = top_k(queries, candidates, k, exclude=exclude)
    expected_indices, expected_scores = _expected(queries @ candidates.T, min(k, len(candidates)), exclude)
    assert (indices.dtype, scores.dtype) == (np.int64, np.float32)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_array_equal(scores, expected_scores)


def test_best_first_and_of_equals_the_lower_index() -> None:
    indices, scores = top_k(_rows([[1, 0]]), _rows([[0.5, 1], [1, 2], [0.5, 3], [-1, 4], [1, 5]]), 4)
    assert indices.tolist() == [[1, 4, 0, 2]]
    assert scores.tolist() == [[1.0, 1.0, 0.5, 0.5]]


def test_a_k_beyond_the_candidates_is_clipped() -> None:
    indices, scores = top_k(_rows([[1]]), _rows([[1], [2]]), 9)
    assert (indices.tolist(), scores.tolist()) == ([[1, 0]], [[2.0, 1.0]])
    assert top_k(_rows([[1]]), np.empty((0, 1), np.float32), 9)[0].shape == (1, 0)


def test_where_all_others_are_excluded_the_index_is_minus_one() -> None:
    indices, scores = top_k(_rows([[1], [1]]), _rows([[1], [2], [3]]), 2, exclude=[np.array([2, 0]), np.array([], int)])
    assert indices.tolist() == [[1, -1], [2, 1]]
    assert scores.tolist() == [[2.0, -np.inf], [3.0, 2.0]]


def test_equal_vectors_tie_wherever_they_stand() -> None:
    generator = np.random.default_rng(0)
    candidates = np.tile(generator.standard_normal((1, 333)).astype(np.float32), (20_001, 1))
    indices, scores = top_k(generator.standard_normal((3, 333)).astype(np.float32), candidates, 5)
    assert indices.tolist() == [[0, 1, 2, 3, 4]] * 3
    assert [len(set(row)) for row in scores.tolist()] == [1, 1, 1]


def test_scores_of_many_candidates_equal_those_of_a_float64_product() -> None:
    generator = np.random.default_rng(1)
    queries, candidates = (generator.standard_normal((n, 16)).astype(np.float32) for n in (5, 30_000))
    indices, scores = top_k(queries, candidates, 10)
    expected = (queries.astype(np.float64) @ candidates.T.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(indices, np.argsort(-expected, axis=1, kind="stable")[:, :10])
    np.testing.assert_array_equal(scores, np.take_along_axis(expected, indices, axis=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((1, 2)), np.ones((1, 3)), 1), r"queries \(1, 2\) and candidates \(1, 3\) cannot be ranked"),
        ((np.ones(2), np.ones((1, 2)), 1), r"queries \(2,\) and candidates \(1, 2\) cannot be ranked"),
        ((np.ones((1, 2)), np.ones((1, 2)), 0), "k is 0: ask for at least one"),
        ((np.full((1, 2), np.nan), np.ones((1, 2)), 1), "a score is not finite"),
        ((np.full((1, 2), 1e30), np.full((1, 2), 1e30), 1), "a score is not finite"),
    ],
)
def test_what_cannot_be_ranked_is_refused(arguments: tuple[Matrix, Matrix, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        top_k(*arguments)


def test_exclusions_must_be_given_for_every_query() -> None:
    with pytest.raises(InputError, match="exclude names candidates for 1 queries of 2"):
        top_k(_rows([[1], [1]]), _rows([[1]]), 1, exclude=[np.array([0])])
