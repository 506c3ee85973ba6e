"""Which row of which source stands at which place of a step? Mixing as arithmetic, without state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vlm2vec.data.orders import EvenOrder, Order, SampledOrder
from vlm2vec.data.shuffle import mixed, shuffled, words
from vlm2vec.errors import ConfigError

_Draw: TypeAlias = Literal["even", "sampled"]
_Weight: TypeAlias = "float | Sequence[float]"


@dataclass(frozen=True, slots=True)
class Mixture:
    """Weighted mixing of sources in sub-batches (arXiv 2507.04590, section 3.4).

    Args:
        sizes: rows of each source.
        weights: share of each source, in any unit; with stages one for each stage, 0 where the source pauses.
        batch_size: rows of one step on all processes together.
        sub_batch: rows of one source that stand together; must divide `batch_size`. 0: every row is drawn for itself.
        seed: of the order of sources and rows.
        draw: "even": after any number of sub-batches of a stage every source is within one of its exact share, in
            random order (see `EvenOrder` for weights without a common period in runs beyond 262,144 sub-batches).
            "sampled": each sub-batch is drawn by weight, independently of the others, as published.
        stage_starts: first step of the second and of each later stage.
    """

    sizes: Mapping[str, int]
    weights: Mapping[str, _Weight]
    batch_size: int
    sub_batch: int
    seed: int
    draw: _Draw = "even"
    stage_starts: tuple[int, ...] = ()

    def schedule(self, steps: int) -> Schedule:
        """Plan that many steps.

        Raises:
            ConfigError: a source is empty, a weight is missing or negative, `sub_batch` does not divide `batch_size`,
                or the stages do not fit the steps.
        """
        sources = tuple(sorted(self.sizes))
        table = self._checked_weights(sources, steps)
        group = self.sub_batch or 1
        per_step = self.batch_size // group
        starts = (0, *self.stage_starts)
        stages, before = [], np.zeros(len(sources), dtype=np.int64)
        for number, (start, end) in enumerate(zip(starts, (*starts[1:], steps), strict=True)):
            num_groups = (end - start) * per_step
            # Each stage has a seed of its own, or equal stages would repeat their order.
            build = EvenOrder if self.draw == "even" else SampledOrder
            order: Order = build.build(table[number], num_groups, (self.seed, number))
            stages.append(_Stage(start * per_step, before, order))
            before = before + order.counts(num_groups)
        return Schedule(sources, self, steps, tuple(stages))

    def _checked_weights(self, sources: Sequence[str], steps: int) -> NDArray[np.float64]:
        """Weights [stages, sources]."""
        if set(self.sizes) != set(self.weights):
            raise ConfigError(f"sources {sorted(self.sizes)} and weights {sorted(self.weights)} do not name the same")
        num_stages = len(self.stage_starts) + 1
        columns = []
        for name in sources:
            weight = self.weights[name]
            column = [weight] * num_stages if isinstance(weight, (int, float)) else list(weight)
            if len(column) != num_stages:
                raise ConfigError(f"source {name!r} has {len(column)} weights, but there are {num_stages} stage(s)")
            if self.sizes[name] < 1 or not all(0 <= w < float("inf") for w in column) or not any(column):
                raise ConfigError(f"source {name!r} has {self.sizes[name]} rows and weight {weight}: both must be > 0")
            columns.append(column)
        table = np.array(columns, dtype=np.float64).T
        if not table.any(1).all():
            raise ConfigError(f"stage {int(table.any(1).argmin()) + 1}: no source has a weight above 0")
        bounds = (0, *self.stage_starts, steps)
        if any(one >= other for one, other in pairwise(bounds)):
            raise ConfigError(f"stages that start at {list(self.stage_starts)} do not fit into {steps} steps")
        if self.sub_batch < 0 or self.batch_size < 1 or self.batch_size % (self.sub_batch or 1):
            raise ConfigError(f"sub_batch={self.sub_batch} must divide batch_size={self.batch_size}")
        return table


@dataclass(frozen=True, slots=True)
class _Stage:
    first_group: int
    before: NDArray[np.int64]
    order: Order


@dataclass(frozen=True, slots=True)
class Schedule:
    """A planned order. `rows` is a pure function of its arguments, so resuming is asking for a later step."""

    sources: tuple[str, ...]
    mixture: Mixture
    steps: int
    _stages: tuple[_Stage, ...]

    def rows(self, step: int, *, rank: int = 0, world: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Source (index in `sources`) and row of each place of a step, for one of `world` processes.

        The processes' parts, laid end to end by rank, are the whole batch, which does not depend on `world`.

        Raises:
            ConfigError: the batch cannot be divided by the number of processes.
            IndexError: there is no such step or rank.
        """
        size = self.mixture.batch_size
        if size % world:
            raise ConfigError(f"batch_size={size} cannot be shared by {world} processes; use a multiple of {world}")
        if not (0 <= step < self.steps and 0 <= rank < world):
            raise IndexError(f"step {step} of {self.steps}, rank {rank} of {world}")
        share = size // world
        group_size = self.mixture.sub_batch or 1
        places = np.arange(step * size + rank * share, step * size + (rank + 1) * share)
        groups, inside = places // group_size, places % group_size
        stage = self._stage_of(int(groups[0]))
        distinct, which = np.unique(groups, return_inverse=True)
        sources, occurrence = stage.order.places(distinct - stage.first_group)
        occurrence = occurrence + stage.before[sources]
        source, turn = sources[which], occurrence[which] * group_size + inside
        sizes = np.array([self.mixture.sizes[name] for name in self.sources])[source]
        epochs, offsets = np.divmod(turn, sizes)
        keys = mixed(*words(self.mixture.seed), source.astype(np.uint64), epochs.astype(np.uint64))
        rows = shuffled(offsets, sizes, keys)
        return source, rows

    def counts(self) -> dict[str, int]:
        """Rows that each source gives over the whole run."""
        last = self._stages[-1]
        group_size = self.mixture.sub_batch or 1
        num_groups = self.steps * self.mixture.batch_size // group_size - last.first_group
        turns = last.before + last.order.counts(num_groups)
        return {name: int(number) * group_size for name, number in zip(self.sources, turns, strict=True)}

    def _stage_of(self, group: int) -> _Stage:
        return next(stage for stage in reversed(self._stages) if stage.first_group <= group)
