"""How do the rows of files and of units stand in the tables, each with its checksum, and how are they held in memory?

A checksum is the CRC-32 of what a row says, written by `ascii`, and of its vector. SQLite itself notices a changed byte
only where it breaks the order of its pages.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TypeAlias, get_args
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from vlm2vec.items import Kind
from vlm2vec.search.scan import ending
from vlm2vec.search.store import FileRows, Filter, Hit, Look, StoredFile, StoredUnit, Vector

KINDS: tuple[Kind, ...] = get_args(Kind)

HEAD = np.dtype(
    [("id", "i8"), ("file", "i8"), ("kind", "i1"), ("page", "i8"), ("start_s", "f8"), ("end_s", "f8"), ("sum", "i8")]
)
"""A unit without its vector: kind is a place in `KINDS`; page 0 and start -1 stand for none."""

SELECT_UNITS = (
    "SELECT id, file, kind, ifnull(page, 0), ifnull(start_s, -1.0), ifnull(end_s, -1.0), vector, sum FROM units"
)

# As SQLite gives and takes them.
_Values: TypeAlias = tuple[Any, ...]

_ROWS_AT_ONCE = 4096
_NO_SPAN = (-1.0, -1.0)
_STRAY = re.compile("[\ud800-\udfff]")


class FileRow(NamedTuple):
    """A row of the table of files.

    Args:
        id: its number.
        name: its path; bytes if it is no text.
        first_unit: number of the first of its units, which have consecutive ones.
        sum: its checksum.
    """

    id: int
    name: str | bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    content_hash: str
    num_units: int
    num_stored: int
    first_unit: int
    sum: int

    @classmethod
    def of(cls, number: int, path: str, stored: StoredFile, first_unit: int) -> Self:
        """A row that is to be written."""
        values = (number, cls.name_of(path), *stored.look, *stored[1:], first_unit)
        return cls(*values, _file_sum(values))

    @staticmethod
    def name_of(path: str) -> str | bytes:
        # A file name need not be text: Python shows its stray bytes as lone surrogates, which SQLite does not take.
        return path.encode("utf-8", "surrogatepass") if _STRAY.search(path) else path

    @property
    def path(self) -> str:
        return _path_of(self.name)

    @property
    def stored(self) -> StoredFile:
        return _stored(self)

    @property
    def units(self) -> tuple[int, int]:
        """Numbers of its first and its last unit."""
        return self.first_unit, self.first_unit + self.num_stored - 1

    def unit_rows(self, units: Iterable[StoredUnit]) -> list[_Values]:
        """Rows of its units that are to be written."""
        rows = []
        for number, unit in enumerate(units, self.first_unit):
            [look] = unit.vectors
            vector = look.astype("<f4", copy=False).tobytes()
            span_s = unit.span_s and tuple(map(float, unit.span_s))
            checksum = _unit_sum((number, self.id, unit.kind, unit.page or 0, *(span_s or _NO_SPAN)), vector)
            rows.append((number, self.id, unit.kind, unit.page, *(span_s or (None, None)), vector, checksum))
        return rows

    def parse(self, rows: list[_Values]) -> FileRows:
        """The file with its units, from its rows of `SELECT_UNITS`.

        Raises:
            ValueError: one is missing, or not as it was written.
        """
        if len(rows) != self.num_stored:
            raise ValueError(f"some vectors of {self.path} are missing")
        heads, vectors = _parse_units(rows)
        units = [
            StoredUnit(KINDS[kind], *_place_of(page, start_s, end_s), vector)
            for (_, _, kind, page, start_s, end_s, _), vector in zip(heads.tolist(), vectors, strict=True)
        ]
        return FileRows(self.path, self.stored.look, self.content_hash, self.num_units, tuple(units))


class Files(Mapping[str, StoredFile]):
    """Files by their paths. Of a hundred thousand, few are ever looked at: a row stays the tuple that SQLite gave."""

    def __init__(self, rows: Mapping[str, _Values]) -> None:
        self._rows = dict(rows)
        self._sorted: _SortedFiles | None = None

    @classmethod
    def parse(cls, rows: list[_Values]) -> Self:
        """Files as they were read.

        Raises:
            ValueError: one is not as it was written.
        """
        for row in rows:
            if _file_sum(row[:-1]) != row[-1]:
                raise ValueError(f"its file {row[0]} is not as it was written")
        return cls({_path_of(row[1]): row for row in rows})

    def __getitem__(self, path: str) -> StoredFile:
        return _stored(self._rows[path])

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

    def put(self, row: FileRow) -> None:
        self._rows[row.path], self._sorted = row, None

    def remove(self, path: str) -> None:
        del self._rows[path]
        self._sorted = None

    def ids_where(self, where: Filter) -> NDArray[np.int64]:
        """Numbers of the files that a filter lets through."""
        if self._sorted is None:
            self._sorted = _SortedFiles(self._rows)
        return self._sorted.ids_where(where)


class _SortedFiles:
    """Files in the order of their paths, for filters."""

    def __init__(self, rows: Mapping[str, _Values]) -> None:
        self._paths = sorted(rows)
        self._ids = np.array([rows[path][0] for path in self._paths], np.int64)
        self._mtimes_ns = np.array([rows[path][3] for path in self._paths], np.int64)
        self._types: dict[str, int] = {}
        self._type_of = np.array([self._types.setdefault(ending(path), len(self._types)) for path in self._paths], int)

    def ids_where(self, where: Filter) -> NDArray[np.int64]:
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


@dataclass(frozen=True, slots=True)
class Units:
    """Units in the order of their numbers, without their files.

    Args:
        heads: [N] of `HEAD`.
        vectors: float32 [N, dim].
        next_unit: number of the first that is not among them.
        made: of which index they are, as its totals say.
    """

    heads: NDArray[np.void]
    vectors: Vector
    next_unit: int
    made: str

    def fill(self, at: int, rows: list[_Values]) -> int:
        """Put rows of `SELECT_UNITS` into a place among the units; the place after them.

        Raises:
            ValueError: one is not as it was written.
        """
        upto = at + len(rows)
        self.heads[at:upto], self.vectors[at:upto] = _parse_units(rows)
        return upto

    def nearest(self, query: Vector, limit: int, chosen: NDArray[np.bool_] | None) -> list[tuple[int, Hit]]:
        """Those that are or may be among the `limit` nearest, ties included, by number of their file.

        A score depends on the two vectors alone. In float32, sums of equal products differ by the order of their
        terms, which for a whole matrix depends on a row's place; so what is near is summed again, in float64.
        """
        scores = self.vectors @ query
        if chosen is not None:
            scores[~chosen] = -np.inf
            limit = min(limit, int(np.count_nonzero(chosen)))
        limit = min(limit, len(scores))
        if limit < 1:
            return []
        error = len(query) * np.finfo(np.float32).eps * float(np.linalg.norm(query))
        (near,) = np.nonzero(scores >= np.partition(scores, -limit)[-limit] - error)
        exact = []
        for start in range(0, len(near), _ROWS_AT_ONCE):
            some = self.vectors[near[start : start + _ROWS_AT_ONCE]].astype(np.float64)
            exact += (some * query.astype(np.float64)).sum(axis=1).tolist()
        return [
            (file, Hit("", KINDS[kind], min(1.0, score), *_place_of(page, start_s, end_s)))
            for (_, file, kind, page, start_s, end_s, _), score in zip(self.heads[near].tolist(), exact, strict=True)
        ]


def _parse_units(rows: list[_Values]) -> tuple[NDArray[np.void], Vector]:
    """Heads [N] of `HEAD` and vectors [N, dim]."""
    heads = np.array(list(map(_head, rows)), HEAD)
    return heads, np.frombuffer(b"".join([row[6] for row in rows]), "<f4").reshape(len(rows), -1)


def _place_of(page: int, start_s: float, end_s: float) -> tuple[int | None, tuple[float, float] | None]:
    """Page and span of a unit, from what `HEAD` says."""
    return page or None, None if start_s < 0 else (start_s, end_s)


def _stored(row: _Values) -> StoredFile:
    return StoredFile(Look._make(row[2:6]), *row[6:9])


def _path_of(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode("utf-8", "surrogatepass")


def _file_sum(values: _Values) -> int:
    return crc32(ascii(values).encode())


def _head(values: _Values) -> _Values:
    number, file, kind, page, start_s, end_s, vector, checksum = values
    if _unit_sum(values[:6], vector) != checksum:
        raise ValueError(f"its vector {number} is not as it was written")
    return number, file, KINDS.index(kind), page, start_s, end_s, checksum


def _unit_sum(head: _Values, vector: bytes) -> int:
    return crc32(vector, crc32(ascii(head).encode()))
