"""Which of all units, held as arrays, may be hits, and which are nearest to a query?"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm2vec.search.scan import ending
from vlm2vec.search.store import Filter, Vector
from vlm2vec.search.stores.sqlite.rows import FileRow

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Units:
    """All units in the order of their numbers.

    Args:
        heads: [N] of `rows.HEAD`.
        vectors: float32 [N, dim].
        next_unit: number of the first that is not among them.
        made: of which index they are, as `_Totals` says.
    """

    heads: NDArray[np.void]
    vectors: Vector
    next_unit: int
    made: str

    def nearest(self, query: Vector, limit: int, chosen: NDArray[np.bool_] | None) -> tuple[list[int], list[float]]:
        """Places [M] and scores of those that are or may be among the `limit` nearest, all ties included.

        A score depends on the two vectors alone. In float32, sums of equal products differ by the order of their
        terms, which for a whole matrix depends on a row's place; so what is near is summed again, in float64.
        """
        scores = self.vectors @ query
        if chosen is not None:
            scores[~chosen] = -np.inf
            limit = min(limit, int(np.count_nonzero(chosen)))
        limit = min(limit, len(scores))
        if limit < 1:
            return [], []
        error = len(query) * np.finfo(np.float32).eps * float(np.linalg.norm(query))
        (near,) = np.nonzero(scores >= np.partition(scores, -limit)[-limit] - error)
        exact = []
        for start in range(0, len(near), _ROWS_AT_ONCE):
            some = self.vectors[near[start : start + _ROWS_AT_ONCE]].astype(np.float64)
            exact += (some * query.astype(np.float64)).sum(axis=1).tolist()
        return near.tolist(), exact


class SortedFiles:
    """All files in the order of their paths, for filters."""

    def __init__(self, rows: Iterable[FileRow]) -> None:
        files = sorted(rows, key=lambda row: row.path)
        self._paths = [row.path for row in files]
        self._ids = np.array([row.id for row in files], np.int64)
        self._mtimes_ns = np.array([row.stored.look.mtime_ns for row in files], np.int64)
        self._types: dict[str, int] = {}
        self._type_of = np.array([self._types.setdefault(ending(path), len(self._types)) for path in self._paths], int)

    def ids_where(self, where: Filter) -> NDArray[np.int64]:
        """Numbers of the files that a filter lets through."""
        chosen = np.ones(len(self._ids), bool)
        if where.under:
            # "0" comes next after "/".
            chosen[: bisect_left(self._paths, f"{where.under}/")] = False
            chosen[bisect_left(self._paths, f"{where.under}0") :] = False
        if where.since is not None:
            chosen &= self._mtimes_ns >= int(where.since * 1e9)
        if where.until is not None:
            chosen &= self._mtimes_ns <= int(where.until * 1e9)
        if where.types:
            chosen &= np.isin(self._type_of, [number for name, number in self._types.items() if name in where.types])
        return self._ids[chosen]
