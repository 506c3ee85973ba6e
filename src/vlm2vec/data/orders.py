"""Whose turn is it? Orders of sources by weight, any part of which can be had without the parts before it."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vlm2vec.data.shuffle import mixed, words

_MAX_TURNS = 2**18
"""Turns that an even order plans one by one; a longer one is made of such pieces."""

_BLOCK = 2048
"""Turns that a sampled order draws at once."""

_PASSES = 48


class Order(Protocol):
    """A sequence of turns, each of one source."""

    def places(self, turns: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Source of each turn, and how many turns the same source had before it."""

    def counts(self, turns: int) -> NDArray[np.int64]:
        """Turns of each source among the first so many."""


@dataclass(frozen=True, slots=True)
class EvenOrder:
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
    def build(cls, weights: NDArray[np.float64], turns: int, seed: tuple[int, int]) -> EvenOrder:
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
        drawn = mixed(*words(self.key), rounds.astype(np.uint64)) % np.uint64(number)
        return np.where(rounds < number, rounds, drawn.astype(np.int64))


@dataclass(frozen=True, slots=True)
class SampledOrder:
    """Every turn is drawn by weight, independently of all others.

    Drawn in blocks, first how often each source occurs, then in which order: the same distribution as one by one, but a
    block needs none before it.
    """

    before: NDArray[np.int64]
    seed: tuple[int, int]
    _cache: dict[int, tuple[NDArray[np.int16], NDArray[np.int32]]] = field(default_factory=dict, repr=False)

    @classmethod
    def build(cls, weights: NDArray[np.float64], turns: int, seed: tuple[int, int]) -> SampledOrder:
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
    divisor = int(np.gcd.reduce(np.array(numbers, dtype=object)))
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
    total = int(weights.sum())
    length = len(order)
    turn = _occurrence(order[None], len(weights))[0].astype(np.int64)
    share = weights[order]
    first = turn * total // share
    last = -(-(turn + 1) * total // share) - 1
    first, last = first.astype(np.int32), np.minimum(last, length).astype(np.int32)
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
