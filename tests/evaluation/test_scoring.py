"""From given vectors to scores that were worked out by hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from vlm2vec.evaluation.scoring import Ranking, chance
from vlm2vec.items import Item
from vlm2vec.tasks.data import TaskData
from vlm2vec.vectors.metrics import mean_metrics
from vlm2vec.vectors.ranking import rank, rank_late
from vlm2vec.vectors.store import TokenStore


def _data(
    relevant: dict[str, dict[str, int]],
    candidates: tuple[str, ...],
    pools: tuple[tuple[str, ...], ...] | None = None,
    empty: frozenset[str] = frozenset(),
) -> TaskData:
    return TaskData(
        query_ids=tuple(relevant),
        queries=tuple(Item(name) for name in relevant),
        candidate_names=candidates,
        candidates=tuple(Item(name) for name in candidates),
        empty=empty,
        relevant=relevant,
        pools=pools,
        warnings=(),
    )


QUERIES = np.array([[1, 0], [0, 1]], dtype=np.float32)
# Scores of the first query: a 0.9, b 0.8, c 0.1; of the second: a 0.1, b 0.6, c 0.9.
CANDIDATES = np.array([[0.9, 0.1], [0.8, 0.6], [0.1, 0.9]], dtype=np.float32)


def test_a_global_task_ranks_all_candidates_for_every_query() -> None:
    data = _data({"p": {"b": 1}, "q": {"c": 1}}, ("a", "b", "c"))
    ranking = Ranking.of(data, partial(rank, QUERIES, CANDIDATES))
    assert ranking.indices.tolist() == [[0, 1, 2], [2, 1, 0]]
    np.testing.assert_array_equal(ranking.scores, np.array([[0.9, 0.8, 0.1], [0.9, 0.6, 0.1]], dtype=np.float32))
    metrics = mean_metrics(ranking.per_query)
    assert metrics["hit@1"] == 0.5
    assert metrics["mrr@5"] == (1 / 2 + 1) / 2
    assert metrics["ndcg_linear@5"] == pytest.approx((1 / np.log2(3) + 1) / 2)


def test_a_local_task_ranks_each_querys_own_candidates() -> None:
    data = _data({"p": {"b": 1}, "q": {"a": 1}}, ("a", "b", "c"), pools=(("b", "c", "b"), ("a", "b")))
    ranking = Ranking.of(data, partial(rank, QUERIES, CANDIDATES))
    assert ranking.indices.tolist() == [[1, 2, -1], [1, 0, -1]]
    assert mean_metrics(ranking.per_query)["hit@1"] == 0.5


def test_labels_have_grades_and_may_be_several_or_absent() -> None:
    data = _data({"p": {"a": 1, "c": 2}, "q": {"gone": 1}}, ("a", "b", "c"))
    per_query = Ranking.of(data, partial(rank, QUERIES, CANDIDATES)).per_query
    assert per_query["hit@1"].tolist() == [1, 0]
    assert per_query["recall@1"].tolist() == [0.5, 0]
    # Gains 1, 0, 2 at ranks 1, 2, 3 against 2, 1 at best.
    best = 2 + 1 / np.log2(3)
    assert per_query["ndcg_linear@5"].tolist() == pytest.approx([(1 + 2 / np.log2(4)) / best, 0])


def test_an_empty_candidate_ranks_last_whatever_its_vector() -> None:
    data = _data({"p": {"b": 1}, "q": {"c": 1}}, ("a", "b", "c"), empty=frozenset({"a"}))
    ranking = Ranking.of(data, partial(rank, QUERIES, CANDIDATES))
    assert ranking.indices.tolist() == [[1, 2, 0], [2, 1, 0]]
    assert ranking.scores[:, 2].tolist() == [-np.inf, -np.inf]


def test_vectors_of_tokens_are_ranked_by_late_interaction(tmp_path: Path) -> None:
    store = TokenStore.open(tmp_path, 2)
    keys = {name: name.encode() * 16 for name in "pqbc"}
    tokens = {"p": [[1, 0], [0, 1]], "q": [[0, 1]], "b": [[1, 0], [0, 1]], "c": [[0, 3]]}
    store.put(list(keys.values()), [np.array(tokens[name], dtype=np.float32) for name in keys])
    data = _data({"p": {"c": 1}, "q": {"c": 1}}, ("a", "b", "c"), empty=frozenset({"a"}))
    queries, candidates = store.rows([keys["p"], keys["q"]]), store.rows([b"", keys["b"], keys["c"]])
    ranking = Ranking.of(data, partial(rank_late, queries, candidates))
    # Of b 1 + 1 and 1, of c 0 + 3 and 3; a is empty.
    assert ranking.indices.tolist() == [[2, 1, 0], [2, 1, 0]]
    assert ranking.scores[:, :2].tolist() == [[3, 2], [3, 1]]


def test_chance_is_that_of_each_querys_own_candidates() -> None:
    local = _data({"p": {"b": 1}, "q": {"gone": 1}}, ("a", "b", "c", "d"), pools=(("b", "c", "b"), ("a", "b")))
    assert chance(local)["hit@1"] == (1 / 2 + 0) / 2
    everything = _data({"p": {"b": 1, "a": 1}}, ("a", "b", "c", "d"))
    assert chance(everything)["hit@1"] == pytest.approx(1 / 2)
