"""Mixing is arithmetic: exact shares, pure groups, every row once an epoch."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm2vec.data.mixture import Mixture, Schedule
from vlm2vec.errors import ConfigError


def _mixture(**changes: object) -> Mixture:
    values: dict[str, object] = {
        "sizes": {"a": 100, "b": 7, "c": 30},
        "weights": {"a": 5.0, "b": 1.0, "c": 2.0},
        "batch_size": 16,
        "sub_batch": 4,
        "seed": 0,
    }
    return Mixture(**(values | changes))  # type: ignore[arg-type]


def _groups(schedule: Schedule, steps: int) -> list[int]:
    return [int(group[0]) for step in range(steps) for group in schedule.rows(step)[0].reshape(-1, 4)]


def test_every_sub_batch_is_of_one_source() -> None:
    schedule = _mixture().schedule(50)
    for step in range(50):
        groups = schedule.rows(step)[0].reshape(4, 4)
        assert (groups == groups[:, :1]).all()


@given(weights=st.lists(st.floats(0.1, 10), min_size=1, max_size=6), seed=st.integers(0, 5))
def test_after_any_number_of_sub_batches_every_source_is_near_its_share(weights: list[float], seed: int) -> None:
    names = [str(i) for i in range(len(weights))]
    schedule = Mixture(
        sizes=dict.fromkeys(names, 10),
        weights=dict(zip(names, weights, strict=True)),
        batch_size=4,
        sub_batch=4,
        seed=seed,
    ).schedule(200)
    counts = np.zeros(len(weights))
    shares = np.array(weights) / sum(weights)
    for number, source in enumerate(_groups(schedule, 200), 1):
        counts[source] += 1
        assert np.abs(counts - number * shares).max() < len(weights)


def test_a_source_gives_every_row_once_before_any_row_twice() -> None:
    schedule = _mixture().schedule(200)
    seen: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for step in range(200):
        for source, row in zip(*schedule.rows(step), strict=True):
            seen[int(source)].append(int(row))
    for source, size in enumerate((100, 7, 30)):
        rows = seen[source]
        for epoch in range(len(rows) // size):
            assert sorted(rows[epoch * size : (epoch + 1) * size]) == list(range(size))
        assert Counter(rows).most_common(1)[0][1] <= len(rows) // size + 1


def test_a_step_depends_on_nothing_but_its_number() -> None:
    forwards, backwards = _mixture().schedule(20), _mixture().schedule(20)
    expected = [forwards.rows(step) for step in range(20)]
    for step in reversed(range(20)):
        for got, want in zip(backwards.rows(step), expected[step], strict=True):
            assert got.tolist() == want.tolist()


def test_another_seed_gives_another_order() -> None:
    one, other = _mixture(seed=1).schedule(5), _mixture(seed=2).schedule(5)
    assert [one.rows(s)[1].tolist() for s in range(5)] != [other.rows(s)[1].tolist() for s in range(5)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sub_batch": 5}, "sub_batch=5 must divide batch_size=16"),
        ({"weights": {"a": 1.0}}, "sources ['a', 'b', 'c'] and weights ['a'] do not name the same"),
        ({"sizes": {"a": 1, "b": 0, "c": 1}}, "source 'b' has 0 rows"),
        ({"weights": {"a": 1.0, "b": -1.0, "c": 1.0}}, "source 'b' has 7 rows and weight -1.0"),
    ],
)
def test_a_mixture_that_cannot_be_planned_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        _mixture(**changes).schedule(5)
