"""Mixing is arithmetic: exact shares, pure groups, every row once an epoch."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm2vec.data.mixture import Mixture, Schedule, _shuffled
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
    return [source for step in range(steps) for source in schedule.rows(step)[0][::4].tolist()]


def test_every_sub_batch_is_of_one_source() -> None:
    schedule = _mixture().schedule(50)
    for step in range(50):
        groups = schedule.rows(step)[0].reshape(4, 4)
        assert (groups == groups[:, :1]).all()


def _turns(weights: list[float], turns: int, seed: int, **changes: object) -> list[int]:
    """Source of each of so many sub-batches, a multiple of 40, which make a step."""
    names = [f"{i:02}" for i in range(len(weights))]
    mixture = _mixture(
        sizes=dict.fromkeys(names, 10),
        weights=dict(zip(names, weights, strict=True)),
        batch_size=160,
        sub_batch=4,
        seed=seed,
        **changes,
    )
    return _groups(mixture.schedule(turns // 40), turns // 40)


@given(weights=st.lists(st.floats(0.01, 10), min_size=1, max_size=30), seed=st.integers(0, 5))
@settings(deadline=None, max_examples=10)
def test_after_any_number_of_sub_batches_every_source_is_within_one_of_its_share(
    weights: list[float], seed: int
) -> None:
    order = np.array(_turns(weights, 400, seed))
    counts = np.cumsum(order[:, None] == np.arange(len(weights)), axis=0)
    exact = np.outer(np.arange(1, 401), np.array(weights) / sum(weights))
    assert np.abs(counts - exact).max() < 1 + 1e-9


def test_shares_stay_exact_over_a_run_longer_than_any_planned_piece() -> None:
    weights = {"a": 10.0, "b": 12.0, "c": 5.0, "d": 0.5}
    mixture = _mixture(sizes=dict.fromkeys(weights, 100), weights=weights, batch_size=1024, sub_batch=0)
    counts = mixture.schedule(100_000).counts()
    for name, weight in weights.items():
        assert abs(counts[name] - 102_400_000 * weight / 27.5) < 1


def test_counts_are_the_rows_that_come() -> None:
    for draw in ("even", "sampled"):
        weights = {"a": [5, 0], "b": 1, "c": [2, 7]}
        # More sub-batches than a sampled order draws at once.
        schedule = _mixture(draw=draw, batch_size=320, stage_starts=(2,), weights=weights).schedule(35)
        seen = Counter(schedule.sources[s] for step in range(35) for s in schedule.rows(step)[0])
        assert schedule.counts() == seen


def test_the_order_is_random_and_not_the_same_in_every_period() -> None:
    order = _turns([3, 2, 1], 6 * 40, seed=1)
    assert len({tuple(order[at : at + 6]) for at in range(0, 240, 6)}) > 10


@pytest.mark.slow
def test_sampled_draws_are_independent_draws_by_weight() -> None:
    order = np.array(_turns([3, 1], 6_000, seed=2, draw="sampled"))
    assert order.mean() == pytest.approx(0.25, abs=0.01)
    # Of independent draws, the share of a source does not depend on the one before.
    assert order[1:][order[:-1] == 1].mean() == pytest.approx(0.25, abs=0.03)


def test_a_stage_has_weights_of_its_own_and_goes_on_with_the_rows() -> None:
    schedule = _mixture(
        sizes={"a": 1000, "b": 7}, weights={"a": [1, 1], "b": [1, 0]}, sub_batch=16, stage_starts=(10,)
    ).schedule(20)
    sources = [schedule.sources[schedule.rows(step)[0][0]] for step in range(20)]
    assert Counter(sources[:10]) == {"a": 5, "b": 5}
    assert set(sources[10:]) == {"a"}
    rows = [row for step in range(20) if sources[step] == "a" for row in schedule.rows(step)[1].tolist()]
    assert len(set(rows)) == 15 * 16


@pytest.mark.parametrize("sub_batch", [0, 64, 256, 1024])
@pytest.mark.parametrize("world", [2, 4, 8])
def test_the_parts_of_all_ranks_are_the_batch_of_one(sub_batch: int, world: int) -> None:
    schedule = _mixture(batch_size=1024, sub_batch=sub_batch).schedule(5)
    for step in range(5):
        parts = [schedule.rows(step, rank=rank, world=world) for rank in range(world)]
        for whole, pieces in zip(schedule.rows(step), zip(*parts, strict=True), strict=True):
            assert np.concatenate(pieces).tolist() == whole.tolist()


@given(size=st.integers(1, 500), key=st.integers(0, 2**63))
@settings(deadline=None)
def test_a_shuffle_is_a_permutation(size: int, key: int) -> None:
    rows = _shuffled(np.arange(size), np.full(size, size), np.full(size, key, dtype=np.uint64))
    assert sorted(rows.tolist()) == list(range(size))


def test_every_order_of_three_rows_is_equally_frequent() -> None:
    keys = np.arange(6000, dtype=np.uint64).repeat(3)
    orders = _shuffled(np.tile(np.arange(3), 6000), np.full(18000, 3), keys).reshape(-1, 3)
    counts = Counter(map(tuple, orders.tolist()))
    assert len(counts) == 6
    # Four standard deviations of a count with p = 1/6.
    assert max(abs(count - 1000) for count in counts.values()) < 4 * (6000 * 5 / 36) ** 0.5


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
        (
            {"weights": {"a": [1.0], "b": 1.0, "c": 1.0}, "stage_starts": (2,)},
            "source 'a' has 1 weights, but there are 2",
        ),
        ({"weights": {"a": [1, 0], "b": [1, 0], "c": [1, 0]}, "stage_starts": (2,)}, "stage 2: no source has a weight"),
        ({"stage_starts": (5,)}, "stages that start at [5] do not fit into 5 steps"),
        ({"weights": {"a": 1.0}}, "sources ['a', 'b', 'c'] and weights ['a'] do not name the same"),
        ({"sizes": {"a": 1, "b": 0, "c": 1}}, "source 'b' has 0 rows"),
        ({"weights": {"a": 1.0, "b": -1.0, "c": 1.0}}, "source 'b' has 7 rows and weight -1.0"),
    ],
)
def test_a_mixture_that_cannot_be_planned_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        _mixture(**changes).schedule(5)


def test_a_batch_that_the_processes_cannot_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size=16 cannot be shared by 3 processes; use a multiple of 3"):
        _mixture().schedule(5).rows(0, rank=0, world=3)
