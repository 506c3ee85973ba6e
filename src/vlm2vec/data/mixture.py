"""Which row of which source stands at which place of a step? Mixing as arithmetic, without state."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from math import gcd, lcm
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import ConfigError

_MAX_TURNS = 2**18
"""Turns that an even order plans one by one; a longer one is made of such pieces."""

_BLOCK = 2048
"""Turns that a sampled order draws at once."""

_PASSES = 48
"""Rounds in which the neighbours of an even order may change places."""

_ROUNDS = 4
"""Of the network that shuffles the rows of a source."""


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
            random order (see `_EvenOrder` for weights without a common period in runs beyond 262,144 sub-batches).
            "sampled": each sub-batch is drawn by weight, independently of the others, as published.
        stage_starts: first step of the second and of each later stage.
    """

    sizes: Mapping[str, int]
    weights: Mapping[str, float | Sequence[float]]
    batch_size: int
    sub_batch: int
    seed: int
    draw: Literal["even", "sampled"] = "even"
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
        stages, before = [], np.zeros(len(sources), dtype=np.int64)
        for number, (start, end) in enumerate(pairwise((0, *self.stage_starts, steps))):
            num_groups = (end - start) * per_step
            # Each stage has a seed of its own, or equal stages would repeat their order.
            build = _EvenOrder if self.draw == "even" else _SampledOrder
            order: _Order = build.build(table[number], num_groups, (self.seed, number))
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
        if any(one >= other for one, other in pairwise((0, *self.stage_starts, steps))):
            raise ConfigError(f"stages that start at {list(self.stage_starts)} do not fit into {steps} steps")
        if self.sub_batch < 0 or self.batch_size < 1 or self.batch_size % (self.sub_batch or 1):
            raise ConfigError(f"sub_batch={self.sub_batch} must divide batch_size={self.batch_size}")
        return table


class _Stage(NamedTuple):
    first_group: int
    before: NDArray[np.int64]
    order: _Order


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
        stage = next(stage for stage in reversed(self._stages) if stage.first_group <= groups[0])
        distinct, which = np.unique(groups, return_inverse=True)
        sources, occurrence = stage.order.places(distinct - stage.first_group)
        occurrence = occurrence + stage.before[sources]
        source, turn = sources[which], occurrence[which] * group_size + inside
        sizes = np.array([self.mixture.sizes[name] for name in self.sources])[source]
        epochs, offsets = np.divmod(turn, sizes)
        keys = _mixed(np.uint64(self.mixture.seed % 2**64), source.astype(np.uint64), epochs.astype(np.uint64))
        return source, _shuffled(offsets, sizes, keys)

    def counts(self) -> dict[str, int]:
        """Rows that each source gives over the whole run."""
        last = self._stages[-1]
        group_size = self.mixture.sub_batch or 1
        num_groups = self.steps * self.mixture.batch_size // group_size - last.first_group
        turns = last.before + last.order.counts(num_groups)
        return {name: int(number) * group_size for name, number in zip(self.sources, turns, strict=True)}


class _Order(Protocol):
    """A sequence of turns, each of one source."""

    def places(self, turns: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Source of each turn, and how many turns the same source had before it."""

    def counts(self, turns: int) -> NDArray[np.int64]:
        """Turns of each source among the first so many."""


@dataclass(frozen=True, slots=True)
class _EvenOrder:
    """After any number of turns every source has had its exact share, less than one turn more or less.

    The k-th turn of a source with share p falls into the places floor((k - 1) / p) to ceil(k / p) - 1, counted from 0.
    The source that must go first is served first, which always works out (Pfair scheduling: Baruah, Cohen, Plaxton and
    Varvel, Algorithmica 1996); then neighbours change places at random as often as these bounds allow.

    Shares are ratios of whole numbers, so the order can start anew when all have had exactly theirs: a long order is
    put together from random pieces of that length. Shares without such a length below 2^18 turns are rounded to
    multiples of 2^-18 in orders that are longer.
    """

    weights: NDArray[np.int64]
    pieces: NDArray[np.int16]
    occurrence: NDArray[np.int32]
    key: int

    @classmethod
    def build(cls, weights: NDArray[np.float64], turns: int, seed: tuple[int, int]) -> _EvenOrder:
        """Plan an order of at least that many turns."""
        whole = _whole_weights(weights, turns)
        period = int(whole.sum())
        generator = np.random.default_rng(seed)
        length = min(period, turns + 1)
        number = 1 if length < period else max(1, min(-(-turns // period), _MAX_TURNS // period))
        pieces = _shuffled_pieces(_earliest_deadline_first(whole, length), whole, number, generator)
        return cls(whole, pieces, _occurrence(pieces, len(whole)), int(generator.integers(2**63)))

    def places(self, turns: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        length = self.pieces.shape[1]
        rounds, inside = turns // length, turns % length
        piece = self._piece(rounds)
        sources = self.pieces[piece, inside].astype(np.int64)
        occurrence: NDArray[np.int64] = self.occurrence[piece, inside].astype(np.int64) + rounds * self.weights[sources]
        return sources, occurrence

    def counts(self, turns: int) -> NDArray[np.int64]:
        rounds, rest = divmod(turns, self.pieces.shape[1])
        piece = int(self._piece(np.array([rounds]))[0])
        started = np.bincount(self.pieces[piece, :rest], minlength=len(self.weights))
        counts: NDArray[np.int64] = started.astype(np.int64) + rounds * self.weights
        return counts

    def _piece(self, rounds: NDArray[np.int64]) -> NDArray[np.int64]:
        number = len(self.pieces)
        # The first rounds take the pieces in turn; a run that is longer draws among them.
        drawn = _mixed(np.uint64(self.key), rounds.astype(np.uint64)) % np.uint64(number)
        return np.where(rounds < number, rounds, drawn.astype(np.int64))


@dataclass(frozen=True, slots=True)
class _SampledOrder:
    """Every turn is drawn by weight, independently of all others.

    Drawn in blocks, first how often each source occurs, then in which order: the same distribution as one by one, but a
    block needs none before it.
    """

    before: NDArray[np.int64]
    seed: tuple[int, int]
    _cache: dict[int, tuple[NDArray[np.int16], NDArray[np.int32]]] = field(default_factory=dict, repr=False)

    @classmethod
    def build(cls, weights: NDArray[np.float64], turns: int, seed: tuple[int, int]) -> _SampledOrder:
        """Plan an order of at least that many turns."""
        blocks = turns // _BLOCK + 1
        drawn = np.random.default_rng(seed).multinomial(_BLOCK, weights / weights.sum(), size=blocks)
        before = np.zeros((blocks + 1, len(weights)), dtype=np.int64)
        np.cumsum(drawn, axis=0, out=before[1:])
        return cls(before, seed)

    def places(self, turns: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        blocks, inside = np.divmod(turns, _BLOCK)
        sources, occurrence = np.empty_like(turns), np.empty_like(turns)
        for block in np.unique(blocks):
            at = blocks == block
            order, earlier = self._block(int(block))
            sources[at] = order[inside[at]]
            occurrence[at] = earlier[inside[at]] + self.before[block, sources[at]]
        return sources, occurrence

    def counts(self, turns: int) -> NDArray[np.int64]:
        block, rest = divmod(turns, _BLOCK)
        started = np.bincount(self._block(block)[0][:rest], minlength=self.before.shape[1])
        counts: NDArray[np.int64] = self.before[block] + started.astype(np.int64)
        return counts

    def _block(self, block: int) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
        if block not in self._cache:
            counts = self.before[block + 1] - self.before[block]
            order = np.repeat(np.arange(len(counts), dtype=np.int16), counts)
            order = np.random.default_rng((*self.seed, block)).permutation(order)
            if len(self._cache) > 2:
                self._cache.clear()
            self._cache[block] = order, _occurrence(order[None], len(counts))[0]
        return self._cache[block]


def _whole_weights(weights: NDArray[np.float64], turns: int) -> NDArray[np.int64]:
    """Whole numbers in proportion to the weights, with a small sum where there is one."""
    fractions = [Fraction(str(float(weight))) for weight in weights]
    scale = lcm(*(fraction.denominator for fraction in fractions))
    numbers = [int(fraction * scale) for fraction in fractions]
    divisor = gcd(*numbers)
    numbers = [number // divisor for number in numbers]
    if sum(numbers) <= _MAX_TURNS:
        return np.array(numbers, dtype=np.int64)
    # No turn comes twice in a short order, so its shares may be as fine as the arithmetic below can hold.
    unit = 2**40 if turns <= _MAX_TURNS else _MAX_TURNS
    exact = weights / weights.sum() * unit
    whole = np.where(weights > 0, np.maximum(1, np.floor(exact)), 0).astype(np.int64)
    short = unit - int(whole.sum())
    # The largest remainders get what is left; it is negative only where tiny weights were lifted to 1.
    receivers = np.argsort(whole - exact, kind="stable")[:short] if short >= 0 else [int(np.argmax(whole))]
    whole[receivers] += 1 if short >= 0 else short
    return whole


def _earliest_deadline_first(weights: NDArray[np.int64], length: int) -> NDArray[np.int16]:
    """The first `length` turns: of all sources that may go, the one that must go soonest."""
    total = int(weights.sum())
    shares = [int(weight) for weight in weights]
    waiting: list[list[int]] = [[] for _ in range(length + 1)]
    waiting[0] = [source for source, weight in enumerate(shares) if weight]
    done = [0] * len(shares)
    ready: list[tuple[int, int]] = []
    order = np.empty(length, dtype=np.int16)
    for place in range(length):
        for source in waiting[place]:
            heapq.heappush(ready, (-(-(done[source] + 1) * total // shares[source]), source))
        source = heapq.heappop(ready)[1]
        order[place] = source
        done[source] += 1
        # The next turn may not come before floor(done / share).
        waiting[min(max(place + 1, done[source] * total // shares[source]), length)].append(source)
    return order


def _shuffled_pieces(
    order: NDArray[np.int16], weights: NDArray[np.int64], number: int, generator: np.random.Generator
) -> NDArray[np.int16]:
    """Copies [number, length] in which neighbours changed places at random, within the bounds of their turns."""
    total, length, share = int(weights.sum()), len(order), weights[order]
    turn = _occurrence(order[None], len(weights))[0].astype(np.int64)
    first = (turn * total // share).astype(np.int32)
    last = np.minimum(-(-(turn + 1) * total // share) - 1, length).astype(np.int32)
    index = np.tile(np.arange(length, dtype=np.int32), (number, 1))
    places = np.arange(length, dtype=np.int32)
    for step in range(_PASSES):
        here = places[step % 2 : length - 1 : 2]
        one, other = index[:, here], index[:, here + 1]
        swap = (first[other] <= here) & (last[one] > here)
        swap &= generator.integers(0, 2, size=swap.shape, dtype=np.int8).astype(bool)
        index[:, here] = np.where(swap, other, one)
        index[:, here + 1] = np.where(swap, one, other)
    return order[index]


def _occurrence(orders: NDArray[np.int16], num_sources: int) -> NDArray[np.int32]:
    """For each turn of each row, how many turns of the same source stand before it in that row."""
    before = np.empty(orders.shape, dtype=np.int32)
    for source in range(num_sources):
        at = orders == source
        before[at] = (np.cumsum(at, axis=1, dtype=np.int32) - 1)[at]
    return before


def _shuffled(offsets: NDArray[np.int64], sizes: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Place of each offset in a permutation of `range(size)` that its key alone decides, element by element.

    A Feistel network permutes a rectangle that is hardly larger than `size`; what falls outside is sent round again
    until it falls inside, which keeps it a permutation (Black and Rogaway, CT-RSA 2002).
    """
    found, limits = offsets.astype(np.uint64), sizes.astype(np.uint64)
    columns = np.ceil(np.sqrt(sizes)).astype(np.uint64)
    rows = (limits + columns - np.uint64(1)) // columns
    todo = np.arange(len(found))
    while len(todo):
        found[todo] = _feistel(found[todo], rows[todo], columns[todo], keys[todo])
        todo = todo[found[todo] >= limits[todo]]
    return found.astype(np.int64)


def _feistel(
    values: NDArray[np.uint64], rows: NDArray[np.uint64], columns: NDArray[np.uint64], keys: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    row, column = np.divmod(values, columns)
    for number in range(_ROUNDS):
        row = (row + _mixed(keys + np.uint64(2 * number), column) % rows) % rows
        column = (column + _mixed(keys + np.uint64(2 * number + 1), row) % columns) % columns
    return row * columns + column


def _mixed(*words: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """64 well-mixed bits of the words, element by element (the finaliser of SplitMix64, Steele et al. 2014)."""
    state = np.zeros(1, dtype=np.uint64)
    # Products are meant to wrap; arrays do so silently where scalars would warn.
    for word in words:
        state = (state ^ word) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state
