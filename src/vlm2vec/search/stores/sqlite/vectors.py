"""Which vectors of an index, held in memory, are nearest to a query?"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from vlm2vec.items import Kind
from vlm2vec.search.store import Vector
from vlm2vec.search.stores.sqlite.rows import HEAD, KINDS, Values, parse_vectors

_ROWS_AT_ONCE = 4096
_EPS = float(np.finfo(np.float32).eps)


class Found(NamedTuple):
    """A unit that is or may be among the nearest, by its best vector: the one in this place."""

    place: int
    unit: int
    score: float
    calibrated: float


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors in the order of their numbers; those of one unit stand beside each other.

    Args:
        heads: [N] of `HEAD`.
        vectors: float32 [N, dim].
        calibration: float32 [N, 2], mean and spread of each one's scores with the background.
        next_id: number of the first that is not among them.
        made: of which index they are, as its totals say.
    """

    heads: NDArray[np.void]
    vectors: Vector
    calibration: Vector
    next_id: int
    made: str

    @classmethod
    def empty(cls, num: int, dim: int, next_id: int, made: str) -> Self:
        """Room for so many."""
        vectors, calibration = np.empty((num, dim), np.float32), np.empty((num, 2), np.float32)
        return cls(np.empty(num, HEAD), vectors, calibration, next_id, made)

    def keep(self, other: Vectors, kept: NDArray[np.bool_]) -> int:
        """Take some vectors of `other` into the first places; the place after them."""
        upto = int(np.count_nonzero(kept))
        self.heads[:upto] = other.heads[kept]
        np.compress(kept, other.vectors, axis=0, out=self.vectors[:upto])
        np.compress(kept, other.calibration, axis=0, out=self.calibration[:upto])
        return upto

    def fill(self, at: int, rows: list[Values]) -> int:
        """Put rows as they were read into a place among the vectors; the place after them.

        Raises:
            ValueError: one is not as it was written.
        """
        upto = at + len(rows)
        self.heads[at:upto], self.vectors[at:upto], self.calibration[at:upto] = parse_vectors(
            rows, self.vectors.shape[1]
        )
        return upto

    def chosen(self, kinds: Collection[Kind], files: NDArray[np.int64] | None) -> NDArray[np.bool_]:
        """[N], True for vectors of these kinds, or any if there are none, and of these files; None: of any."""
        chosen = np.ones(len(self.heads), bool)
        if kinds:
            chosen &= np.isin(self.heads["kind"], [KINDS.index(kind) for kind in kinds])
        if files is not None:
            chosen &= np.isin(self.heads["file"], files)
        return chosen

    def nearest(self, query: Vector, limit: int, chosen: NDArray[np.bool_] | None, *, calibrated: bool) -> list[Found]:
        """The units that are or may be among the `limit` best, ties included, in no order.

        A score depends on the two vectors alone. In float32, sums of equal products differ by the order of their
        terms, which for a whole matrix depends on a row's place; so what is near is summed again, in float64.
        """
        low, high = self._bounds(query, calibrated=calibrated)
        if chosen is not None:
            low[~chosen] = high[~chosen] = -np.inf
        best = self._best_of_units(low)
        limit = min(limit, int(np.count_nonzero(best > -np.inf)))
        if limit < 1:
            return []
        (near,) = np.nonzero(high >= np.partition(best, -limit)[-limit])
        found: dict[int, Found] = {}
        for start in range(0, len(near), _ROWS_AT_ONCE):
            for one in self._exact(near[start : start + _ROWS_AT_ONCE], query):
                before = found.setdefault(one.unit, one)
                if (one.calibrated > before.calibrated) if calibrated else (one.score > before.score):
                    found[one.unit] = one
        return list(found.values())

    def _bounds(self, query: Vector, *, calibrated: bool) -> tuple[Vector, Vector]:
        """Between which two numbers [N] each score lies, or each calibrated score."""
        scores = self.vectors @ query
        error = len(query) * _EPS * float(np.linalg.norm(query))
        if not calibrated:
            return scores - np.float32(error), scores + np.float32(error)
        mean, spread = self.calibration.T
        scores = (scores - mean) / spread
        slack = np.float32(error + 4 * _EPS) / spread + np.float32(4 * _EPS) * np.abs(scores)
        return scores - slack, scores + slack

    def _best_of_units(self, scores: Vector) -> Vector:
        """The largest score of each unit."""
        units = self.heads["unit"]
        if not len(units) or np.array_equal(units, self.heads["id"]):
            return scores
        starts = np.flatnonzero(np.diff(units, prepend=units[0] - 1))
        best: Vector = np.maximum.reduceat(scores, starts)
        return best

    def _exact(self, rows: NDArray[np.int64], query: Vector) -> list[Found]:
        scores = (self.vectors[rows].astype(np.float64) * query.astype(np.float64)).sum(axis=1)
        scores = np.minimum(scores, 1.0)
        mean, spread = self.calibration[rows].astype(np.float64).T
        values = rows.tolist(), self.heads["unit"][rows].tolist(), scores.tolist(), ((scores - mean) / spread).tolist()
        return list(map(Found, *values))
