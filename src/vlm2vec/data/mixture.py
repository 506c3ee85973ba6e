"""Which row of which source stands at which place of which step: mixing as arithmetic, without state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Mixture:
    """Weighted mixing of sources in sub-batches (arXiv 2507.04590, section 3.4).

    Args:
        sizes: rows of each source.
        weights: share of each source, in any unit.
        batch_size: rows of one step.
        sub_batch: rows of one source that stand together; must divide `batch_size`.
        seed: of the order of sources and rows.
    """

    sizes: Mapping[str, int]
    weights: Mapping[str, float]
    batch_size: int
    sub_batch: int
    seed: int

    def schedule(self, steps: int) -> Schedule:
        """Plan that many steps.

        After any number of sub-batches every source is within one sub-batch of its exact share.

        Raises:
            ConfigError: a source is empty, a weight is missing or not positive, or `sub_batch` does not divide
                `batch_size`.
        """
        if set(self.sizes) != set(self.weights):
            raise ConfigError(f"sources {sorted(self.sizes)} and weights {sorted(self.weights)} do not name the same")
        for name, size in self.sizes.items():
            if size < 1 or self.weights[name] <= 0:
                raise ConfigError(f"source {name!r} has {size} rows and weight {self.weights[name]}: both must be > 0")
        if self.sub_batch < 1 or self.batch_size % self.sub_batch:
            raise ConfigError(f"sub_batch={self.sub_batch} must divide batch_size={self.batch_size}")
        sources = tuple(sorted(self.sizes))
        shares = np.array([self.weights[name] for name in sources], dtype=np.float64)
        groups = _even_order(shares / shares.sum(), steps * self.batch_size // self.sub_batch, self.seed)
        return Schedule(sources, self, groups, _occurrence(groups, len(sources)))


@dataclass(frozen=True, slots=True)
class Schedule:
    """A planned order. `rows` is a pure function of its arguments."""

    sources: tuple[str, ...]
    mixture: Mixture
    groups: NDArray[np.int32]
    occurrence: NDArray[np.int64]

    def rows(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Source (index in `sources`) and row of each of the `batch_size` places of a step."""
        mixture = self.mixture
        per_step = mixture.batch_size // mixture.sub_batch
        sources, rows = [], []
        for group in range(step * per_step, (step + 1) * per_step):
            source = int(self.groups[group])
            size = mixture.sizes[self.sources[source]]
            places = self.occurrence[group] * mixture.sub_batch + np.arange(mixture.sub_batch)
            epochs, offsets = places // size, places % size
            rows.append(
                np.array(
                    [
                        _permutation(mixture.seed, source, int(epoch), size)[offset]
                        for epoch, offset in zip(epochs, offsets, strict=True)
                    ]
                )
            )
            sources.append(np.full(mixture.sub_batch, source, dtype=np.int64))
        return np.concatenate(sources), np.concatenate(rows)


def _even_order(shares: NDArray[np.float64], groups: int, seed: int) -> NDArray[np.int32]:
    """Sources in seeded order, each spread evenly: its k-th turn falls at a random place of its k-th interval."""
    generator = np.random.default_rng(seed)
    times, owners = [], []
    for source, share in enumerate(shares):
        turns = int(np.ceil(groups * share)) + 1
        times.append((np.arange(turns) + generator.random(turns)) / share)
        owners.append(np.full(turns, source, dtype=np.int32))
    order = np.argsort(np.concatenate(times), kind="stable")[:groups]
    return np.concatenate(owners)[order]


def _occurrence(groups: NDArray[np.int32], num_sources: int) -> NDArray[np.int64]:
    """For each sub-batch, how many of the same source came before it."""
    before = np.empty(len(groups), dtype=np.int64)
    for source in range(num_sources):
        places = np.flatnonzero(groups == source)
        before[places] = np.arange(len(places))
    return before


@lru_cache(maxsize=256)
def _permutation(seed: int, source: int, epoch: int, size: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, source, epoch)).permutation(size)
