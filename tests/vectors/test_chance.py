"""Scores of a random order are the exact expectation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vlm2vec.errors import InputError
from vlm2vec.vectors.chance import chance_metrics
from vlm2vec.vectors.metrics import METRICS, mean_metrics, query_metrics


@pytest.mark.parametrize(
    ("size", "labels"),
    [(4, {"0": 1.0}), (5, {"0": 3.0, "2": 1.0}), (6, {"1": 2.0, "3": 2.0, "gone": 4.0}), (3, {}), (2, {"gone": 1.0})],
)
def test_chance_is_the_mean_over_all_orders(size: int, labels: dict[str, float]) -> None:
    orders = np.array(list(itertools.permutations(range(size))), dtype=np.int64)
    names = [str(number) for number in range(size)]
    measured = mean_metrics(query_metrics(orders, names, [labels] * len(orders)))
    found = [grade for name, grade in labels.items() if name in names]
    expected = chance_metrics([size], [found], [list(labels.values())])
    assert list(expected) == list(METRICS)
    assert expected == pytest.approx(measured, abs=1e-12)


def test_chance_is_averaged_over_queries() -> None:
    result = chance_metrics([2, 10], [[1.0], [1.0]], [[1.0], [1.0]])
    assert result["hit@1"] == pytest.approx((1 / 2 + 1 / 10) / 2)
    assert result["hit@10"] == 1


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="there are no queries"):
        chance_metrics([], [], [])
    with pytest.raises(InputError, match="2 right candidates cannot be among 1"):
        chance_metrics([1], [[1.0, 1.0]], [[1.0, 1.0]])
