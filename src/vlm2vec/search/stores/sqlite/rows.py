"""How does what is stored of a file stand in the rows of the tables, each with its checksum?

A checksum is the CRC-32 of what a row says, written by `ascii`, and of its vector. SQLite itself notices a changed byte
only where it breaks the order of its pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self, TypeAlias, get_args
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from vlm2vec.items import Kind
from vlm2vec.search.store import Background, FileRows, Look, StoredFile, StoredUnit, Vector, Words
from vlm2vec.search.stores.spelling import indexed_name

KINDS: tuple[Kind, ...] = get_args(Kind)

HEAD = np.dtype([
    *(("id", "i8"), ("file", "i8"), ("kind", "i1"), ("page", "i8"), ("start_s", "f8"), ("end_s", "f8")),
    *(("sum", "i8"), ("unit", "i8")),
])  # fmt: skip
"""A vector without its numbers: kind is a place in `KINDS`; page 0 and start -1 stand for none."""

_HEAD_COLUMNS = "id, file, kind, ifnull(page, 0), ifnull(start_s, -1.0), ifnull(end_s, -1.0), vector, sum"
SELECT_UNITS = f"SELECT {_HEAD_COLUMNS}, NULL FROM units"
SELECT_PASSAGES = f"SELECT {_HEAD_COLUMNS}, unit FROM passages"
NO_VECTOR = b""
"""The vector of a unit without a look."""

Values: TypeAlias = tuple[Any, ...]
"""A row as SQLite gives and takes it."""

_NO_SPAN = (-1.0, -1.0)
# Mean and spread where there is no background; rows of format 1 end without them.
_UNCALIBRATED = np.array([0.0, 1.0], "<f4").tobytes()
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
        return cls(*values, row_sum(values))

    @staticmethod
    def name_of(path: str) -> str | bytes:
        # A file name need not be text: Python shows its stray bytes as lone surrogates, which SQLite does not take.
        return path.encode("utf-8", "surrogatepass") if _STRAY.search(path) else path

    @property
    def path(self) -> str:
        return path_of(self.name)

    @property
    def stored(self) -> StoredFile:
        return StoredFile(Look._make(self[2:6]), *self[6:9])

    @property
    def units(self) -> tuple[int, int]:
        """Numbers of its first and its last unit."""
        return self.first_unit, self.first_unit + self.num_stored - 1


class NameRow(NamedTuple):
    """A row of the table of names: what format 2 has of each file.

    Args:
        id: number of the file.
        first_unit, num_units: its units that are stored.
        first_passage, num_passages: their passages, which have consecutive numbers.
        reading: the `WORDS` of the release that read the words of the file; 0: none did.
        name, folders: words of its own name, and of those of its folders, as the index has them.
        sum: its checksum.
    """

    id: int
    first_unit: int
    num_units: int
    first_passage: int
    num_passages: int
    reading: int
    name: str
    folders: str
    sum: int

    @classmethod
    def of(cls, file: FileRow, first_passage: int, num_passages: int, reading: int) -> Self:
        """A row that is to be written."""
        folders, _, name = file.path.rpartition("/")
        places = (file.id, file.first_unit, file.num_stored, first_passage, num_passages)
        values = (*places, reading, indexed_name(name), indexed_name(folders))
        return cls(*values, row_sum(values))

    @classmethod
    def parse(cls, values: Values) -> Self:
        """A row as it was read.

        Raises:
            ValueError: it is not as it was written.
        """
        if row_sum(values[:-1]) != values[-1]:
            raise ValueError(f"the words of the name of its file {values[0]} are not as they were written")
        return cls(*values)

    @property
    def passages(self) -> tuple[int, int]:
        """Numbers of the first and the last passage of the file."""
        return self.first_passage, self.first_passage + self.num_passages - 1


def unit_rows(file: FileRow, units: Sequence[StoredUnit], background: Background | None) -> list[Values]:
    """Rows of the units of a file that are to be written."""
    blobs = _blobs([unit.vector for unit in units if unit.vector is not None], background)
    rows = []
    for number, unit in enumerate(units, file.first_unit):
        blob = NO_VECTOR if unit.vector is None else next(blobs)
        rows.append(_vector_row(number, file.id, unit, blob))
    return rows


def passage_rows(file: FileRow, units: Sequence[StoredUnit], background: Background | None, first: int) -> list[Values]:
    """Rows of the passages of its units, from their first number on."""
    blobs = _blobs([passage for unit in units for passage in unit.passages], background)
    rows: list[Values] = []
    for unit_number, unit in enumerate(units, file.first_unit):
        for _ in unit.passages:
            row = _vector_row(first + len(rows), file.id, unit, next(blobs))
            rows.append((*row[:-1], crc32(b"%d" % unit_number, row[-1]), unit_number))
    return rows


def word_rows(file: FileRow, units: Sequence[StoredUnit]) -> list[Values]:
    """Rows of the words of those of its units that have some."""
    rows = [(number, *_texts(unit.words)) for number, unit in enumerate(units, file.first_unit)]
    return [(*row, row_sum(row)) for row in rows if row[1:] != ("", "")]


def parse_words(rows: Iterable[Values]) -> dict[int, Words]:
    """Words by the numbers of their units.

    Raises:
        ValueError: some are not as they were written.
    """
    words = {}
    for row in rows:
        if row_sum(row[:-1]) != row[-1]:
            raise ValueError(f"its words {row[0]} are not as they were written")
        words[row[0]] = Words(*row[1:3])
    return words


def parse_file(
    file: FileRow, units: list[Values], words: dict[int, Words], passages: list[Values], dim: int
) -> FileRows:
    """A file, from its rows of `SELECT_UNITS` and `SELECT_PASSAGES`, and the words of its units.

    Raises:
        ValueError: one is missing, or not as it was written.
    """
    if len(units) != file.num_stored:
        raise ValueError(f"some vectors of {file.path} are missing")
    passage_heads, passage_vectors, _ = parse_vectors(passages, dim)
    of_unit: dict[int, list[Vector]] = {}
    for number, vector in zip(passage_heads["unit"].tolist(), passage_vectors, strict=True):
        of_unit.setdefault(number, []).append(vector)
    seen = [row for row in units if row[6] != NO_VECTOR]
    looks = dict(zip([row[0] for row in seen], parse_vectors(seen, dim)[1], strict=True))
    stored = [
        StoredUnit(
            KINDS[head[2]], *place_of(*head[3:6]), looks.get(head[0]), words.get(head[0], Words()),
            tuple(of_unit.get(head[0], ())),
        )
        for head in map(checked_head, units)
    ]  # fmt: skip
    return FileRows(file.path, file.stored.look, file.content_hash, file.num_units, tuple(stored))


def parse_vectors(rows: list[Values], dim: int) -> tuple[NDArray[np.void], Vector, Vector]:
    """Heads [N] of `HEAD`, vectors [N, dim], and mean and spread [N, 2] of each one's scores with the background.

    Raises:
        ValueError: one is not as it was written.
    """
    heads = np.array(list(map(checked_head, rows)), HEAD)
    short = 4 * dim
    blobs = [row[6] if len(row[6]) > short else row[6] + _UNCALIBRATED for row in rows]
    packed = np.frombuffer(b"".join(blobs), "<f4").reshape(len(rows), dim + 2)
    return heads, packed[:, :dim], packed[:, dim:]


def recalibrated(rows: list[Values], background: Background, dim: int) -> list[tuple[bytes, int, int]]:
    """Vector and checksum of rows as a background makes them, then the number."""
    blobs = _blobs(list(parse_vectors(rows, dim)[1]), background)
    return [(blob, _vector_sum((*row[:6], blob, *row[7:])), row[0]) for row, blob in zip(rows, blobs, strict=True)]


def place_of(page: int, start_s: float, end_s: float) -> tuple[int | None, tuple[float, float] | None]:
    """Page and span of a unit, from what `HEAD` says."""
    return page or None, None if start_s < 0 else (start_s, end_s)


def path_of(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode("utf-8", "surrogatepass")


def row_sum(values: Values) -> int:
    return crc32(ascii(values).encode())


def _texts(words: Words) -> tuple[str, str]:
    return words.text, words.about


def _blobs(vectors: Sequence[Vector], background: Background | None) -> Iterator[bytes]:
    """What stands in the column of each vector: its numbers, then mean and spread of its scores with the background."""
    if not vectors:
        return
    stacked = np.stack(vectors).astype("<f4", copy=False)
    if background is None:
        yield from (vector.tobytes() + _UNCALIBRATED for vector in stacked)
    else:
        calibration = np.stack(background.mean_and_spread(stacked), axis=1).astype("<f4", copy=False)
        yield from (vector.tobytes() + pair.tobytes() for vector, pair in zip(stacked, calibration, strict=True))


def _vector_row(number: int, file: int, unit: StoredUnit, blob: bytes) -> Values:
    span_s = unit.span_s and tuple(map(float, unit.span_s))
    checksum = _head_sum((number, file, unit.kind, unit.page or 0, *(span_s or _NO_SPAN)), blob)
    return number, file, unit.kind, unit.page, *(span_s or (None, None)), blob, checksum


def checked_head(values: Values) -> Values:
    """Values of `HEAD`, from a row of `SELECT_UNITS` or `SELECT_PASSAGES`.

    Raises:
        ValueError: it is not as it was written.
    """
    number, file, kind, page, start_s, end_s, vector, checksum, unit = values
    # Not by a function of its own: 100,000 are read at once.
    found = crc32(vector, crc32(ascii(values[:6]).encode()))
    if (found if unit is None else crc32(b"%d" % unit, found)) != checksum:
        raise ValueError(f"its vector {number} is not as it was written")
    return number, file, KINDS.index(kind), page, start_s, end_s, checksum, number if unit is None else unit


def _vector_sum(values: Values) -> int:
    """Checksum of a row of `SELECT_UNITS`, or of `SELECT_PASSAGES`, where it covers the unit too."""
    checksum = _head_sum(values[:6], values[6])
    return checksum if values[8] is None else crc32(b"%d" % values[8], checksum)


def _head_sum(head: Values, vector: bytes) -> int:
    return crc32(vector, crc32(ascii(head).encode()))
