"""Which candidates are nearest, and in which order when they are equally near."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from vlm2vec.errors import InputError
from vlm2vec.vectors import ranking
from vlm2vec.vectors.ranking import AtOnce, rank, top_k

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


@settings(max_examples=50, deadline=None)
@given(_tables())
def test_top_k_is_the_head_of_a_full_stable_sort(
    table: tuple[Matrix, Matrix, int, list[NDArray[np.int64]], int],
) -> None:
    queries, candidates, k, exclude, chunk = table
    at_once = AtOnce(scores=3 * chunk, candidates=chunk)
    indices, scores = top_k(queries, candidates, k, exclude=exclude, at_once=at_once)
    expected_indices, expected_scores = _expected(queries @ candidates.T, min(k, len(candidates)), exclude)
    assert (indices.dtype.name, scores.dtype.name) == ("int64", "float32")
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


# For measuring


def _names(count: int, prefix: str = "c") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def _tie_number(query: str, candidate: str) -> int:
    """The written rule, in whole numbers of any size."""

    def named(name: str) -> int:
        return int.from_bytes(blake2b(name.encode(), digest_size=4).digest(), "big")

    x = named(query) ^ named(candidate)
    x = ((x ^ x >> 16) * 0x85EBCA6B) % 2**32
    x = ((x ^ x >> 13) * 0xC2B2AE35) % 2**32
    return x ^ x >> 16


@st.composite
def _local_tables(draw: st.DrawFn) -> tuple[Matrix, Matrix, list[NDArray[np.int64]], NDArray[np.bool_], int, int]:
    num_queries, num_candidates, dim = draw(st.integers(0, 4)), draw(st.integers(1, 30)), draw(st.integers(1, 2))
    numbers = st.integers(-2, 2).map(float)
    queries = draw(arrays(np.float32, (num_queries, dim), elements=numbers))
    candidates = draw(arrays(np.float32, (num_candidates, dim), elements=numbers))
    some = st.lists(st.integers(0, num_candidates - 1), max_size=30)
    pools = [np.array(draw(some), dtype=np.int64) for _ in range(num_queries)]
    empty = draw(arrays(np.bool_, num_candidates))
    return queries, candidates, pools, empty, draw(st.integers(1, 12)), draw(st.sampled_from([1, 7, 1000]))


@settings(max_examples=50, deadline=None)
@given(_local_tables())
def test_rank_is_the_head_of_a_sort_by_emptiness_score_and_tie_number(
    table: tuple[Matrix, Matrix, list[NDArray[np.int64]], NDArray[np.bool_], int, int],
) -> None:
    queries, candidates, pools, empty, k, chunk = table
    query_ids, names = _names(len(queries), "q"), _names(len(candidates))
    at_once = AtOnce(scores=3 * chunk, candidates=chunk)
    got, scores = rank(
        queries, candidates, k, query_ids=query_ids, candidate_ids=names, pools=pools, empty=empty, at_once=at_once
    )
    assert (got.dtype.name, scores.dtype.name) == ("int64", "float32")
    width = min(k, len(candidates))
    for row, pool in enumerate(pools):
        product = candidates @ queries[row]
        keys = {
            c: (not empty[c], 0 if empty[c] else product[c], _tie_number(f"q{row}", f"c{c}")) for c in pool.tolist()
        }
        expected = sorted(keys, key=keys.__getitem__, reverse=True)[:width]
        missing = width - len(expected)
        assert got[row].tolist() == expected + [-1] * missing
        assert scores[row].tolist() == [-np.inf if empty[c] else product[c] for c in expected] + [-np.inf] * missing


def test_without_pools_every_candidate_ranks() -> None:
    order, scores = rank(
        _rows([[1], [-1]]), _rows([[1], [3], [2]]), 9, query_ids=["x", "y"], candidate_ids=["a", "b", "c"]
    )
    assert order.tolist() == [[1, 2, 0], [0, 2, 1]]
    assert scores.tolist() == [[3, 2, 1], [-1, -2, -3]]


def test_the_order_of_a_tie_does_not_depend_on_where_candidates_and_queries_stand() -> None:
    names, queries = _names(50), _names(20, "q")
    generator = np.random.default_rng(0)
    rows, columns = generator.permutation(20), generator.permutation(50)
    first, _ = rank(
        np.ones((20, 1), np.float32), np.ones((50, 1), np.float32), 10, query_ids=queries, candidate_ids=names
    )
    again, _ = rank(
        np.ones((20, 1), np.float32),
        np.ones((50, 1), np.float32),
        10,
        query_ids=[queries[row] for row in rows],
        candidate_ids=[names[column] for column in columns],
    )
    assert columns[again].tolist() == first[rows].tolist()


def test_no_place_is_favoured_in_a_tie() -> None:
    # 8,000 queries over four equal candidates: each is first in a quarter, give or take four standard deviations (155).
    order, _ = rank(
        np.zeros((8000, 1), np.float32),
        np.zeros((4, 1), np.float32),
        1,
        query_ids=_names(8000, "q"),
        candidate_ids=["right", "wrong", "other", "none"],
    )
    assert np.abs(np.bincount(order[:, 0]) - 2000).max() < 155


def test_candidates_whose_hashes_meet_are_still_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_hash", lambda name: 2**32 - 1)
    arguments = (np.ones((1, 1), np.float32), np.ones((3, 1), np.float32), 3)
    order, _ = rank(*arguments, query_ids=["q"], candidate_ids=["a", "b", "c"])
    assert sorted(order[0].tolist()) == [0, 1, 2]
    turned, _ = rank(*arguments, query_ids=["q"], candidate_ids=["c", "b", "a"])
    assert turned[0].tolist() == [2 - place for place in order[0]]


def test_an_empty_candidate_may_have_any_vector() -> None:
    order, scores = rank(
        _rows([[1]]),
        _rows([[np.nan], [-5]]),
        2,
        query_ids=["q"],
        candidate_ids=["", "b"],
        empty=np.array([True, False]),
    )
    assert (order.tolist(), scores.tolist()) == ([[1, 0]], [[-5.0, -np.inf]])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"query_ids": []}, "0 query ids and 2 candidate ids do not fit 1 queries and 2 candidates"),
        ({"candidate_ids": ["a", "a"]}, "two candidates have the id 'a'"),
        ({"pools": []}, "pools are given for 0 queries of 1"),
        ({"pools": [np.array([0, 2])]}, "the pool of query 0 names candidate 2 of 2"),
        ({"pools": [np.array([-1, 1])]}, "the pool of query 0 names candidate -1 of 2"),
        ({"empty": np.array([True])}, r"empty has the shape \(1,\): give one value for each of 2 candidates"),
    ],
)
def test_what_does_not_fit_together_is_refused(changed: dict[str, Any], message: str) -> None:
    fitting: dict[str, Any] = {"query_ids": ["q"], "candidate_ids": ["a", "b"]}
    with pytest.raises(InputError, match=message):
        rank(_rows([[1]]), _rows([[1], [2]]), 1, **(fitting | changed))
