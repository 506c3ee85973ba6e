"""What would a ranking in random order score?"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np

from vlm2vec.errors import InputError
from vlm2vec.vectors.metrics import CUTOFFS, METRICS


def chance_metrics(
    pool_sizes: Sequence[int], found: Sequence[Sequence[float]], grades: Sequence[Sequence[float]]
) -> dict[str, float]:
    """The expected value of each metric, over all orders of each query's pool alike, averaged over queries.

    Exact: with N candidates of which R are right, the number of right ones among the first k is hypergeometric, and
    every candidate is equally often at every rank.

    Args:
        pool_sizes: how many different candidates each query ranks.
        found: grades of the right candidates that are in its pool.
        grades: grades of all its right candidates.

    Raises:
        InputError: there are no queries, or more right candidates than candidates.
    """
    if not pool_sizes:
        raise InputError("there are no queries to take a mean of; look whether the task's table has rows")
    each = [_of_query(*one) for one in zip(pool_sizes, found, grades, strict=True)]
    return {key: float(np.mean([one[key] for one in each])) for key in METRICS}


def _of_query(size: int, found: Sequence[float], grades: Sequence[float]) -> dict[str, float]:
    right = len(found)
    if right > size:
        raise InputError(f"{right} right candidates cannot be among {size}")
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
            f"map@{k}": _precisions(size, right, depth) / min(max(len(grades), 1), k),
            f"mrr@{k}": sum((none[i - 1] - none[i]) / i for i in range(1, depth + 1)),
            f"ndcg_linear@{k}": _ndcg(size, depth, k, found, grades),
            f"ndcg_exponential@{k}": _ndcg(size, depth, k, [2**g - 1 for g in found], [2**g - 1 for g in grades]),
        }
    return result


def _precisions(size: int, right: int, depth: int) -> float:
    """Expected sum of the precisions at the ranks up to `depth` that hold a right candidate."""
    if not right:
        return 0.0
    others = (right - 1) / (size - 1) if size > 1 else 0.0
    return sum(right / size * (1 + (rank - 1) * others) / rank for rank in range(1, depth + 1))


def _ndcg(size: int, depth: int, k: int, found: Sequence[float], gains: Sequence[float]) -> float:
    ideal = sum(gain / np.log2(rank + 1) for rank, gain in enumerate(sorted(gains, reverse=True)[:k], 1))
    expected = sum(found) / size * sum(1 / np.log2(rank + 1) for rank in range(1, depth + 1)) if size else 0.0
    return float(expected / ideal) if ideal else 0.0
