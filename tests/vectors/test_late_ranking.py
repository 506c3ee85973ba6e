"""Which candidates are nearest where every token has a vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vlm2vec.errors import InputError
from vlm2vec.model.similarity import maxsim_with_graph
from vlm2vec.vectors.ranking import AtOnce, rank, rank_late
from vlm2vec.vectors.store import StoredTokens, TokenStore

Tokens = NDArray[np.float32]


def _keys(*numbers: int) -> list[bytes]:
    return [bytes([one]) * 16 for one in numbers]


def _tokens(*rows: list[float]) -> Tokens:
    return np.array(rows, dtype=np.float32)


def _names(count: int, prefix: str = "c") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


ONE, TWO, THREE = _tokens([1, 2]), _tokens([3, 4], [5, 6]), _tokens([7, 8], [9, 10], [11, 12])


def _plain(queries: list[Tokens], candidates: list[Tokens]) -> Tokens:
    """By the definition, token by token."""
    return np.array(
        [
            [
                sum(max(float(np.dot(q.astype(float), c.astype(float))) for c in candidate) for q in query)
                for candidate in candidates
            ]
            for query in queries
        ],
        dtype=np.float32,
    ).reshape(len(queries), len(candidates))


def test_the_score_sums_the_best_candidate_token_of_every_query_token() -> None:
    query = _tokens([1, 0], [0, 2])
    candidates = [_tokens([1, 1]), _tokens([3, 0], [0, 3], [0, -9]), _tokens([-1, 0], [-1, 0])]
    order, scores = rank_late([query], candidates, 3, query_ids=["q"], candidate_ids=["a", "b", "c"])
    assert (order.tolist(), scores.tolist()) == ([[1, 0, 2]], [[9.0, 3.0, -1.0]])
    assert (order.dtype.name, scores.dtype.name) == ("int64", "float32")


def test_items_of_one_token_are_ranked_as_single_vectors() -> None:
    generator = np.random.default_rng(3)
    queries, candidates = (generator.integers(-2, 3, (n, 2)).astype(np.float32) for n in (6, 40))
    names: dict[str, Any] = {"query_ids": _names(6, "q"), "candidate_ids": _names(40)}
    single = rank(queries, candidates, 40, **names)
    several = rank_late(list(queries[:, None]), list(candidates[:, None]), 40, **names)
    for one, other in zip(single, several, strict=True):
        np.testing.assert_array_equal(one, other)


def test_scores_are_those_that_training_takes_the_mean_of() -> None:
    generator = np.random.default_rng(4)

    def unit(*lengths: int) -> list[Tokens]:
        rows = [generator.standard_normal((length, 8)) for length in lengths]
        return [(one / np.linalg.norm(one, axis=1, keepdims=True)).astype(np.float32) for one in rows]

    queries, candidates = unit(3, 1, 7), unit(5, 2, 9, 1, 4)
    order, scores = rank_late(queries, candidates, 5, query_ids=_names(3, "q"), candidate_ids=_names(5))
    sides = [(torch.from_numpy(np.concatenate(side)), [len(one) for one in side]) for side in (queries, candidates)]
    expected = maxsim_with_graph(*sides[0], *sides[1]).numpy()
    np.testing.assert_array_equal(order, np.argsort(-expected, axis=1))
    np.testing.assert_allclose(scores, np.take_along_axis(expected, order, axis=1), atol=1e-6)


@st.composite
def _tables(draw: st.DrawFn) -> dict[str, Any]:
    dim = draw(st.integers(1, 2))
    # Small whole numbers: many ties, and no rounding in the expected scores.
    token = st.lists(st.integers(-2, 2).map(float), min_size=dim, max_size=dim)
    item = st.lists(token, min_size=1, max_size=4).map(lambda rows: np.array(rows, dtype=np.float32))
    candidates = draw(st.lists(item, min_size=1, max_size=12))
    queries = draw(st.lists(item, max_size=4))
    some = st.lists(st.integers(0, len(candidates) - 1), max_size=12)
    pools = draw(st.none() | st.lists(some, min_size=len(queries), max_size=len(queries)))
    empty = draw(st.lists(st.booleans(), min_size=len(candidates), max_size=len(candidates)))
    return {
        "queries": queries,
        "candidates": candidates,
        "pools": None if pools is None else [np.array(pool, dtype=np.int64) for pool in pools],
        "empty": np.array(empty),
        "k": draw(st.integers(1, 14)),
        "order": draw(st.permutations(range(len(candidates)))),
        "chunk": draw(st.sampled_from([1, 3, 1000])),
    }


@settings(max_examples=50, deadline=None)
@given(_tables())
def test_rank_late_is_the_head_of_a_sort_of_plain_scores_for_every_order_and_chunk_size(table: dict[str, Any]) -> None:
    queries, candidates, pools, empty = (table[name] for name in ("queries", "candidates", "pools", "empty"))
    width = min(table["k"], len(candidates))
    # Ties are taken in the order that the rule for single vectors gives to equal ones.
    ties, _ = rank(
        np.zeros((len(queries), 1), np.float32),
        np.zeros((len(candidates), 1), np.float32),
        len(candidates),
        query_ids=_names(len(queries), "q"),
        candidate_ids=_names(len(candidates)),
    )
    expected, plain = [], _plain(queries, candidates)
    for row in range(len(queries)):
        pool = set(range(len(candidates))) if pools is None else set(pools[row].tolist())
        chosen = [place for place in ties[row].tolist() if place in pool]
        chosen.sort(key=lambda place: (empty[place], 0 if empty[place] else -plain[row, place]))
        expected.append((chosen[:width] + [-1] * width)[:width])
    # The same table with candidates in another order.
    order = np.array(table["order"])
    place_of = np.argsort(order)
    moved = None if pools is None else [place_of[pool] for pool in pools]
    chunk = table["chunk"]
    got, scores = rank_late(
        queries,
        [candidates[place] for place in order],
        table["k"],
        query_ids=_names(len(queries), "q"),
        candidate_ids=[f"c{place}" for place in order],
        pools=moved,
        empty=empty[order],
        at_once=AtOnce(scores=3 * chunk, candidates=chunk, tokens=chunk, pairs=2 * chunk),
    )
    named = np.where(got < 0, -1, order[got])
    assert named.tolist() == expected
    for row, places in enumerate(expected):
        assert scores[row].tolist() == [
            -np.inf if place < 0 or empty[place] else float(plain[row, place]) for place in places
        ]


def test_many_scores_equal_the_plain_ones_in_chunks_and_whole() -> None:
    generator = np.random.default_rng(5)

    def some(count: int) -> list[Tokens]:
        lengths = generator.integers(1, 9, count)
        return [generator.standard_normal((length, 16)).astype(np.float32) for length in lengths]

    queries, candidates = some(7), some(300)
    names: dict[str, Any] = {"query_ids": _names(7, "q"), "candidate_ids": _names(300)}
    expected = _plain(queries, candidates)
    whole = rank_late(queries, candidates, 300, **names)
    at_once = AtOnce(candidates=64, tokens=50, pairs=600)
    for order, scores in (whole, rank_late(queries, candidates, 300, **names, at_once=at_once)):
        np.testing.assert_array_equal(scores, -np.sort(-expected, axis=1))
        np.testing.assert_array_equal(np.take_along_axis(expected, order, axis=1), scores)


def test_stored_token_vectors_are_ranked_as_if_they_were_in_memory(tmp_path: Path) -> None:
    generator = np.random.default_rng(6)
    items = [generator.integers(-2, 3, (length, 2)).astype(np.float32) for length in (1, 4, 2, 3, 2)]
    store = TokenStore.open(tmp_path, 2)
    store.put(_keys(0, 1), items[:2])
    store.put(_keys(2, 3, 4), items[2:])
    # The last candidate is empty, and nothing is stored for it.
    names: dict[str, Any] = {
        "query_ids": ["q", "r"],
        "candidate_ids": _names(4),
        "empty": np.array([False, False, False, True]),
    }
    from_memory = rank_late(items[:2], [*items[2:], np.empty((0, 2), np.float32)], 4, **names)
    queries, candidates = store.rows(_keys(0, 1)), store.rows([*_keys(2, 3, 4), b""])
    assert (len(candidates), candidates.dim, candidates.lengths.tolist()) == (4, 2, [2, 3, 2, 0])
    for one, other in zip(from_memory, rank_late(queries, candidates, 4, **names), strict=True):
        np.testing.assert_array_equal(one, other)


def test_candidates_are_asked_for_a_few_tokens_at_a_time(tmp_path: Path) -> None:
    class Watched(StoredTokens):
        def take(self, places: NDArray[np.int64]) -> list[Tokens]:
            tokens = super().take(places)
            taken.append(sum(map(len, tokens)))
            return tokens

    taken: list[int] = []
    store = TokenStore.open(tmp_path, 2)
    store.put(_keys(*range(40)), [np.ones((1 + number % 3, 2), np.float32) for number in range(40)])
    watched, names = Watched(store, _keys(*range(40))), _names(40)
    rank_late([ONE], watched, 3, query_ids=["q"], candidate_ids=names, at_once=AtOnce(tokens=8))
    assert (max(taken), sum(taken)) == (8, sum(1 + number % 3 for number in range(40)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"queries": [ONE], "candidates": [np.ones((1, 3), np.float32)]}, "queries with 2 numbers a token and candid"),
        ({"candidates": [np.ones(2, np.float32), TWO]}, r"candidate tokens of shapes such as \(2,\), \(2, 2\) cannot"),
        ({"queries": [np.empty((0, 2), np.float32)]}, "query 0 has no tokens: give at least one"),
        ({"candidates": [ONE, np.empty((0, 2), np.float32)]}, "candidate 1 has no tokens: give at least one"),
        ({"candidates": [ONE, _tokens([1, 1], [-np.inf, 0])]}, "a token's is not finite"),
        ({"queries": [_tokens([np.nan, 0])]}, "a token's is not finite"),
        ({"queries": [_tokens([1e30, 0])], "candidates": [_tokens([1e30, 0])] * 2}, "a score is not finite"),
        ({"query_ids": []}, "0 query ids and 2 candidate ids do not fit 1 queries and 2 candidates"),
        ({"pools": [np.array([2])]}, "the pool of query 0 names candidate 2 of 2"),
        ({"empty": np.array([True])}, r"empty has the shape \(1,\): give one value for each of 2 candidates"),
        ({"k": 0}, "k is 0: ask for at least one"),
    ],
)
def test_tokens_that_cannot_be_ranked_are_refused(changed: dict[str, Any], message: str) -> None:
    fitting: dict[str, Any] = {
        "queries": [ONE],
        "candidates": [TWO, THREE],
        "k": 1,
        "query_ids": ["q"],
        "candidate_ids": ["a", "b"],
    }
    with pytest.raises(InputError, match=message):
        rank_late(**(fitting | changed))
