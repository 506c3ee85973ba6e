"""How good is a ranking, and how good would one in random order be?

With G the labels of a query and g(i) the grade of the candidate at rank i, 0 if it is no label:

    hit@k               1 if a label is among the first k
    precision@k         labels among the first k / k
    recall@k            labels among the first k / |G|; 1 if there are no labels
    f1@k                harmonic mean of the two, 0 if both are 0
    map@k               sum over labels at rank i <= k of precision@i, / min(|G|, k)
    mrr@k               1 / rank of the first label among the first k, 0 if none is
    ndcg_linear@k       DCG / DCG of the grades sorted down; DCG = sum over i <= k of gain(i) / log2(i + 1)
    ndcg_exponential@k  the same with gain 2^g - 1 in place of g

These are the formulas of the published MMEB-V2 evaluation. Grades go by id, which differs from it where the
grades of one query differ; docs/evaluation.md names the datasets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import InputError

CUTOFFS = (1, 5, 10)
_NAMES = ("hit", "ndcg_linear", "ndcg_exponential", "precision", "recall", "f1", "map", "mrr")

# All keys, in the order of the published score files.
METRICS = tuple(f"{name}@{k}" for name in _NAMES for k in CUTOFFS)

Numbers = NDArray[np.float64]


def query_metrics(
    ranking_QK: NDArray[np.int64],
    candidate_ids: Sequence[str],
    relevant: Sequence[Mapping[str, float]],
) -> dict[str, Numbers]:
    """Every metric of every query, as defined above.

    Args:
        ranking_QK: indices into `candidate_ids`, best first, no candidate twice; -1 past the end. At least the first
            ten ranks, or all of them.
        relevant: for each query its labels with their grades. A label that is no candidate is one never found.

    Returns:
        For each key of `METRICS` one number a query, float64 [Q].

    Raises:
        InputError: lengths do not fit, a candidate is ranked twice or does not exist, two candidates have one id,
            or a grade is not a number above 0.
    """
    top_QK = _top(ranking_QK, candidate_ids, relevant)
    grades_QK, ideal_QK, num_labels_Q = _grades(top_QK, candidate_ids, relevant)
    found_QK = grades_QK > 0
    counts_QK = np.cumsum(found_QK, axis=1)
    ranks_K = np.arange(1, top_QK.shape[1] + 1)
    first_Q = np.where(found_QK.any(axis=1), found_QK.argmax(axis=1) + 1, np.inf)
    result: dict[str, Numbers] = {}
    for k in CUTOFFS:
        count_Q = counts_QK[:, k - 1]
        precision_Q = count_Q / k
        recall_Q = np.where(num_labels_Q > 0, count_Q / np.maximum(num_labels_Q, 1), 1.0)
        precisions_QK = np.where(found_QK, counts_QK / ranks_K, 0.0)[:, :k]
        result |= {
            f"hit@{k}": (count_Q > 0).astype(np.float64),
            f"ndcg_linear@{k}": _ratio(_dcg(grades_QK, k), _dcg(ideal_QK, k)),
            f"ndcg_exponential@{k}": _ratio(_dcg(np.exp2(grades_QK) - 1, k), _dcg(np.exp2(ideal_QK) - 1, k)),
            f"precision@{k}": precision_Q,
            f"recall@{k}": recall_Q,
            f"f1@{k}": _ratio(2 * precision_Q * recall_Q, precision_Q + recall_Q),
            f"map@{k}": precisions_QK.sum(axis=1) / np.clip(num_labels_Q, 1, k),
            f"mrr@{k}": np.where(first_Q <= k, 1 / first_Q, 0.0),
        }
    return {key: result[key] for key in METRICS}


def mean_metrics(per_query: Mapping[str, Numbers]) -> dict[str, float]:
    """The mean over queries of the values of `query_metrics`.

    Raises:
        InputError: there are no queries.
    """
    if any(len(values) == 0 for values in per_query.values()):
        raise InputError("there are no queries to take a mean of; look whether the task's table has rows")
    return {key: float(values.mean()) for key, values in per_query.items()}


def chance_metrics(
    candidate_ids: Sequence[str],
    relevant: Sequence[Mapping[str, float]],
    pools: Sequence[Sequence[str]] | None = None,
) -> dict[str, float]:
    """The expected value of each metric, over all orders of each query's candidates alike, averaged over queries.

    Exact: with N candidates of which R are right, the number of right ones among the first k is hypergeometric, and
    every candidate is equally often at every rank.

    Args:
        candidate_ids, relevant: as for `query_metrics`.
        pools: for each query the ids of its own candidates; one named twice counts once. None: all are everyone's.

    Raises:
        InputError: there are no queries.
    """
    own = [set(candidate_ids)] * len(relevant) if pools is None else [set(pool) for pool in pools]
    each = [
        _expected(len(pool), [grade for name, grade in labels.items() if name in pool], list(labels.values()))
        for labels, pool in zip(relevant, own, strict=True)
    ]
    return mean_metrics({key: np.array([one[key] for one in each]) for key in METRICS})


def _top(
    ranking_QK: NDArray[np.int64], candidate_ids: Sequence[str], relevant: Sequence[Mapping[str, float]]
) -> NDArray[np.int64]:
    """The first ranks, filled up with -1 to the largest cutoff."""
    if ranking_QK.ndim != 2 or len(ranking_QK) != len(relevant):
        raise InputError(f"a ranking of shape {ranking_QK.shape} does not fit {len(relevant)} queries: give [Q, K]")
    width = max(CUTOFFS)
    top = np.full((len(ranking_QK), width), -1, dtype=np.int64)
    kept = ranking_QK[:, :width]
    top[:, : kept.shape[1]] = kept
    in_order = np.sort(top, axis=1)
    if len(top) and (in_order[:, 0].min() < -1 or in_order[:, -1].max() >= len(candidate_ids)):
        raise InputError(f"the ranking names a candidate that is not among the {len(candidate_ids)}")
    twice = ((in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] >= 0)).any(axis=1)
    if twice.any():
        raise InputError(f"the ranking of query {int(twice.argmax())} names a candidate twice")
    return top


def _grades(
    top_QK: NDArray[np.int64], candidate_ids: Sequence[str], relevant: Sequence[Mapping[str, float]]
) -> tuple[Numbers, Numbers, NDArray[np.int64]]:
    """Grades of the ranked candidates, the best possible ones, and the number of labels of each query."""
    places = {name: place for place, name in enumerate(candidate_ids)}
    if len(places) != len(candidate_ids):
        raise InputError("two candidates have the same id: give every candidate an id of its own")
    # One number for query and candidate together; place 0 of a query is that of "-1", which is no label.
    stride = len(candidate_ids) + 1
    keys: list[int] = []
    values: list[float] = []
    ideal_QK = np.zeros(top_QK.shape)
    for row, labels in enumerate(relevant):
        best = sorted(labels.values(), reverse=True)
        if best and not (best[-1] > 0 and np.isfinite(best).all()):
            raise InputError(f"a label of query {row} has a grade that is not a number above 0; leave it out")
        ideal_QK[row, : len(best)] = best[: top_QK.shape[1]]
        for name, grade in labels.items():
            if name in places:
                keys.append(row * stride + places[name] + 1)
                values.append(grade)
    order = np.argsort(np.array(keys, dtype=np.int64))
    # A last key that nothing has keeps every place that is looked up inside the table.
    known = np.append(np.array(keys, dtype=np.int64)[order], -1)
    grades = np.append(np.array(values, dtype=np.float64)[order], 0.0)
    wanted_QK = np.arange(len(top_QK), dtype=np.int64)[:, None] * stride + top_QK + 1
    found_QK = np.searchsorted(known[:-1], wanted_QK)
    grades_QK = np.where(known[found_QK] == wanted_QK, grades[found_QK], 0.0)
    return grades_QK, ideal_QK, np.array([len(labels) for labels in relevant], dtype=np.int64)


def _dcg(gains_QK: Numbers, k: int) -> Numbers:
    total: Numbers = (gains_QK[:, :k] / np.log2(np.arange(2, k + 2))).sum(axis=1)
    return total


def _ratio(part: Numbers, whole: Numbers) -> Numbers:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _expected(size: int, found: Sequence[float], grades: Sequence[float]) -> dict[str, float]:
    """Of `size` candidates of which some have these grades, where these are the grades of all labels."""
    right = len(found)
    result: dict[str, float] = {}
    for k in CUTOFFS:
        depth = min(k, size)
        # Chance that none of the first i is right, for i = 0 to depth.
        none = [comb(size - right, i) / comb(size, i) for i in range(depth + 1)]
        expected = depth * right / size if size else 0.0
        result |= {
            f"hit@{k}": 1 - none[-1],
            f"precision@{k}": expected / k,
            f"recall@{k}": expected / len(grades) if grades else 1.0,
            # Harmonic mean of h / k and h / G: linear in h.
            f"f1@{k}": 2 * expected / (k + len(grades)),
            f"map@{k}": _expected_precisions(size, right, depth) / min(max(len(grades), 1), k),
            f"mrr@{k}": sum((none[i - 1] - none[i]) / i for i in range(1, depth + 1)),
            f"ndcg_linear@{k}": _expected_ndcg(size, depth, k, found, grades),
            f"ndcg_exponential@{k}": _expected_ndcg(
                size, depth, k, [2**g - 1 for g in found], [2**g - 1 for g in grades]
            ),
        }
    return result


def _expected_precisions(size: int, right: int, depth: int) -> float:
    """Expected sum of the precisions at the ranks up to `depth` that hold a right candidate."""
    if not right:
        return 0.0
    others = (right - 1) / (size - 1) if size > 1 else 0.0
    return sum(right / size * (1 + (rank - 1) * others) / rank for rank in range(1, depth + 1))


def _expected_ndcg(size: int, depth: int, k: int, found: Sequence[float], gains: Sequence[float]) -> float:
    ideal = sum(gain / np.log2(rank + 1) for rank, gain in enumerate(sorted(gains, reverse=True)[:k], 1))
    expected = sum(found) / size * sum(1 / np.log2(rank + 1) for rank in range(1, depth + 1)) if size else 0.0
    return float(expected / ideal) if ideal else 0.0
