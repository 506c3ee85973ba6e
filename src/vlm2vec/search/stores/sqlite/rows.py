"""How do files and units stand in the tables, each row with its checksum?

A checksum is the CRC-32 of what a row says, written by `ascii`, and of its vector. SQLite itself notices a changed byte
only where it breaks the order of its pages.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple, TypeAlias, get_args
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from vlm2vec.items import Target
from vlm2vec.search.store import FileRows, Look, StoredFile, StoredUnit

KINDS: tuple[Target, ...] = get_args(Target)

HEAD = np.dtype(
    [("id", "i8"), ("file", "i8"), ("kind", "i1"), ("page", "i8"), ("start_s", "f8"), ("end_s", "f8"), ("sum", "i8")]
)
"""A unit without its vector: kind is a place in `KINDS`; page 0 and start -1 stand for none."""

SELECT_UNITS = (
    "SELECT id, file, kind, ifnull(page, 0), ifnull(start_s, -1.0), ifnull(end_s, -1.0), vector, sum FROM units"
)

UnitValues: TypeAlias = tuple[int, int, str, int | None, float | None, float | None, bytes, int]

_NO_SPAN = (-1.0, -1.0)
_STRAY = re.compile("[\ud800-\udfff]")


class FileRow(NamedTuple):
    """A row of the table of files.

    Args:
        id: its number.
        first_unit: number of the first of its units, which have consecutive ones.
        sum: its checksum.
    """

    id: int
    path: str
    stored: StoredFile
    first_unit: int
    sum: int

    @property
    def units(self) -> tuple[int, int]:
        """Numbers of its first and its last unit."""
        return self.first_unit, self.first_unit + self.stored.num_stored - 1

    @property
    def values(self) -> tuple[object, ...]:
        look, content_hash, num_units, num_stored = self.stored
        return (self.id, _as_value(self.path), *look, content_hash, num_units, num_stored, self.first_unit, self.sum)


def file_row(number: int, path: str, stored: StoredFile, first_unit: int) -> FileRow:
    """A row that is to be written."""
    row = FileRow(number, path, stored, first_unit, 0)
    return row._replace(sum=crc32(ascii(row.values[:-1]).encode()))


def parse_file(values: tuple[Any, ...]) -> FileRow:
    """A row as it was read.

    Raises:
        ValueError: it is not as it was written.
    """
    number, path, size, mtime_ns, ctime_ns, inode, content_hash, num_units, num_stored, first_unit, checksum = values
    if crc32(ascii(values[:-1]).encode()) != checksum:
        raise ValueError(f"its file {number} is not as it was written")
    stored = StoredFile(Look(size, mtime_ns, ctime_ns, inode), content_hash, num_units, num_stored)
    return FileRow(number, _as_path(path), stored, first_unit, checksum)


def unit_values(number: int, file: int, unit: StoredUnit) -> UnitValues:
    """A row that is to be written."""
    vector = unit.vector.astype("<f4", copy=False).tobytes()
    start_s, end_s = (None, None) if unit.span_s is None else map(float, unit.span_s)
    span_s = _NO_SPAN if start_s is None else (start_s, end_s)
    checksum = _unit_sum((number, file, unit.kind, unit.page or 0, *span_s), vector)
    return number, file, unit.kind, unit.page, start_s, end_s, vector, checksum


def parse_units(rows: list[tuple[Any, ...]]) -> tuple[NDArray[np.void], NDArray[np.float32]]:
    """Heads [N] of `HEAD` and vectors [N, dim] of rows of `SELECT_UNITS`.

    Raises:
        ValueError: one is not as it was written.
    """
    heads = np.array(list(map(_head, rows)), HEAD)
    return heads, np.frombuffer(b"".join([row[6] for row in rows]), "<f4").reshape(len(rows), -1)


def _head(values: tuple[Any, ...]) -> tuple[int, int, int, int, float, float, int]:
    number, file, kind, page, start_s, end_s, vector, checksum = values
    if _unit_sum(values[:6], vector) != checksum:
        raise ValueError(f"its vector {number} is not as it was written")
    return number, file, KINDS.index(kind), page, start_s, end_s, checksum


def place_of(page: int, start_s: float, end_s: float) -> tuple[int | None, tuple[float, float] | None]:
    """Page and span of a unit, from what `HEAD` says."""
    return page or None, None if start_s < 0 else (start_s, end_s)


def parse_rows(file: FileRow, rows: list[tuple[Any, ...]]) -> FileRows:
    """A file with its units, from its rows of `SELECT_UNITS`.

    Raises:
        ValueError: one is missing, or not as it was written.
    """
    if len(rows) != file.stored.num_stored:
        raise ValueError(f"some vectors of {file.path} are missing")
    look, content_hash, num_units, _ = file.stored
    heads, vectors = parse_units(rows)
    units = [
        StoredUnit(KINDS[kind], *place_of(page, start_s, end_s), vector)
        for (_, _, kind, page, start_s, end_s, _), vector in zip(heads.tolist(), vectors, strict=True)
    ]
    return FileRows(file.path, look, content_hash, num_units, tuple(units))


def _unit_sum(head: tuple[object, ...], vector: bytes) -> int:
    return crc32(vector, crc32(ascii(head).encode()))


# A file name need not be text: Python shows its stray bytes as lone surrogates, which SQLite does not take as text.
def _as_value(path: str) -> str | bytes:
    return path.encode("utf-8", "surrogatepass") if _STRAY.search(path) else path


def _as_path(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")
