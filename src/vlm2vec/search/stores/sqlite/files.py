"""Which files does an index hold, and which of them does a filter let through?"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vlm2vec.search.scan import ending
from vlm2vec.search.store import Filter, StoredFile
from vlm2vec.search.stores.sqlite.rows import FileRow, Values, path_of, row_sum


class Files(Mapping[str, StoredFile]):
    """Files by their paths. Of a hundred thousand, few are ever looked at: a row stays the tuple that SQLite gave."""

    def __init__(self, rows: Mapping[str, Values]) -> None:
        self._rows = dict(rows)
        self._sorted: _SortedFiles | None = None

    @classmethod
    def parse(cls, rows: list[Values]) -> Self:
        """Files as they were read.

        Raises:
            ValueError: one is not as it was written.
        """
        for row in rows:
            if row_sum(row[:-1]) != row[-1]:
                raise ValueError(f"its file {row[0]} is not as it was written")
        return cls({path_of(row[1]): row for row in rows})

    def __getitem__(self, path: str) -> StoredFile:
        return FileRow(*self._rows[path]).stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __contains__(self, path: object) -> bool:
        return path in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def copy(self) -> Files:
        """These files, whatever becomes of the others."""
        return Files(self._rows)

    def rows(self, paths: Iterable[str]) -> list[FileRow]:
        """The rows of those files that are among these."""
        return [FileRow(*self._rows[path]) for path in paths if path in self._rows]

    def by_number(self) -> dict[int, FileRow]:
        """All rows by their numbers."""
        return {row[0]: FileRow(*row) for row in self._rows.values()}

    def put(self, row: FileRow) -> None:
        self._rows[row.path], self._sorted = row, None

    def remove(self, path: str) -> None:
        del self._rows[path]
        self._sorted = None

    def ids_where(self, where: Filter) -> NDArray[np.int64]:
        """Numbers of the files that a filter lets through."""
        return self._in_order().numbers[self._in_order().chosen(where)]

    def units_where(self, where: Filter, units: NDArray[np.int64]) -> NDArray[np.bool_]:
        """[N], True for units of files that a filter lets through."""
        files = self._in_order()
        chosen = files.chosen(where)
        firsts, ends = files.firsts[chosen], files.ends[chosen]
        order = np.argsort(firsts)
        places = np.searchsorted(firsts[order], units, "right") - 1
        return (places >= 0) & (units < ends[order][places]) if len(order) else np.zeros(len(units), bool)

    def ranks(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """[N], places of the files of units in the order of their paths."""
        files = self._in_order()
        order = np.argsort(files.firsts)
        ranks: NDArray[np.int64] = order[np.searchsorted(files.firsts[order], units, "right") - 1]
        return ranks

    def _in_order(self) -> _SortedFiles:
        if self._sorted is None:
            self._sorted = _SortedFiles(self._rows)
        return self._sorted


class _SortedFiles:
    """Files in the order of their paths, for filters: their numbers, their first units, and those after their last."""

    def __init__(self, rows: Mapping[str, Values]) -> None:
        self._paths = sorted(rows)
        self.numbers = np.array([rows[path][0] for path in self._paths], np.int64)
        self.firsts = np.array([rows[path][9] for path in self._paths], np.int64)
        self.ends = self.firsts + np.array([rows[path][8] for path in self._paths], np.int64)
        self._mtimes_ns = np.array([rows[path][3] for path in self._paths], np.int64)
        self._types: dict[str, int] = {}
        self._type_of = np.array([self._types.setdefault(ending(path), len(self._types)) for path in self._paths], int)

    def chosen(self, where: Filter) -> NDArray[np.bool_]:
        chosen = np.ones(len(self.numbers), bool)
        if where.under:
            chosen[:] = False
            for folder in where.under:
                # "0" comes next after "/".
                chosen[bisect_left(self._paths, f"{folder}/") : bisect_left(self._paths, f"{folder}0")] = True
        if where.since is not None:
            chosen &= self._mtimes_ns >= int(where.since * 1e9)
        if where.until is not None:
            chosen &= self._mtimes_ns <= int(where.until * 1e9)
        if where.types:
            chosen &= np.isin(self._type_of, [number for name, number in self._types.items() if name in where.types])
        return chosen
