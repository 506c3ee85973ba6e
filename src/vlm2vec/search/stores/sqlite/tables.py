"""How do files go into the tables and indexes of a database, and out of them, all in step?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from vlm2vec.items import Kind
from vlm2vec.search.store import Background, FileRows, Unit, Words
from vlm2vec.search.stores.sqlite.database import Database, Table
from vlm2vec.search.stores.sqlite.files import Files
from vlm2vec.search.stores.sqlite.full_text import FullText
from vlm2vec.search.stores.sqlite.rows import (
    KINDS,
    NO_VECTOR,
    SELECT_PASSAGES,
    SELECT_UNITS,
    FileRow,
    NameRow,
    Values,
    checked_head,
    parse_file,
    parse_words,
    passage_rows,
    place_of,
    recalibrated,
    unit_rows,
    word_rows,
)

_ROWS_AT_ONCE = 4096
# Values in one question, of which SQLite takes some thousand at most.
_FEW = 500


VectorsOf: TypeAlias = Literal["look", "words"]
VECTORS: Mapping[VectorsOf, str] = {"look": SELECT_UNITS, "words": SELECT_PASSAGES}
"""How the vectors of looks, and of the meanings of words, are read."""


@dataclass(slots=True)
class Totals:
    """What the tables must hold, so that a lost row is missed.

    Args:
        made: differs between an index and the one that is made in its place, or whose vectors are calibrated anew.
        next_file, next_unit, next_passage: numbers that no row has had. None is used twice.
        num_units: of each kind.
        num_unseen, sum_unseen: of the units without a look, which are among all units too.
        sum_files and the like: sums of the checksums of all rows.
        sum_indexes: checksum of the full text; None while it is being written, or if the writer was killed: for each
            commit it would take as long as the indexes are large.
    """

    made: str
    next_file: int = 1
    next_unit: int = 1
    num_files: int = 0
    sum_files: int = 0
    sum_units: int = 0
    num_units: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    num_unseen: int = 0
    sum_unseen: int = 0
    next_passage: int = 1
    num_passages: int = 0
    sum_passages: int = 0
    num_words: int = 0
    sum_words: int = 0
    num_names: int = 0
    sum_names: int = 0
    sum_indexes: int | None = None

    def of_vectors(self, of: VectorsOf) -> tuple[int, int, int]:
        """How many there are, the sum of their checksums, and the number of the next row."""
        if of == "words":
            return self.num_passages, self.sum_passages, self.next_passage
        num_looks = sum(self.num_units.values()) - self.num_unseen
        return num_looks, self.sum_units - self.sum_unseen, self.next_unit

    def count(self, rows: RowsOfFile, sign: Literal[1, -1]) -> None:
        """Take in the rows of a file, or let them go."""
        self.num_files += sign
        self.sum_files += sign * rows.file.sum
        for row in rows.units:
            kind, vector, checksum = row[2], row[6], row[7]
            self.num_units[kind] = self.num_units.get(kind, 0) + sign
            self.sum_units += sign * checksum
            if vector == NO_VECTOR:
                self.num_unseen += sign
                self.sum_unseen += sign * checksum
        self.num_words += sign * len(rows.words)
        self.sum_words += sign * sum(row[-1] for row in rows.words)
        self.num_passages += sign * len(rows.passages)
        self.sum_passages += sign * sum(row[7] for row in rows.passages)
        if rows.name is not None:
            self.num_names += sign
            self.sum_names += sign * rows.name.sum


@dataclass(frozen=True, slots=True)
class RowsOfFile:
    """All rows of a file: of its units up to their checksums, and no name if it was stored in format 1."""

    file: FileRow
    units: list[Values]
    name: NameRow | None
    words: list[Values]
    passages: list[Values]


class Tables:
    """The tables and indexes of a database, read and changed in the transactions of their caller."""

    def __init__(self, database: Database) -> None:
        self.full_text = FullText(database)
        self._database = database

    def insert(self, rows: FileRows, totals: Totals, background: Background | None, reading: int) -> FileRow:
        """Put a file in, whose words were read as this `WORDS` says; its row."""
        file = FileRow.of(totals.next_file, rows.path, rows.stored, totals.next_unit)
        passages = passage_rows(file, rows.units, background, totals.next_passage)
        name = NameRow.of(file, totals.next_passage, len(passages), reading)
        written = RowsOfFile(file, unit_rows(file, rows.units, background), name, word_rows(file, rows.units), passages)
        self._database.insert("files", [file])
        self._database.insert("units", written.units)
        self._database.insert("names", [name])
        self._database.insert("words", written.words)
        self._database.insert("passages", passages)
        self.full_text.add(file, name, written.words)
        totals.count(written, 1)
        totals.next_file += 1
        totals.next_unit += len(written.units)
        totals.next_passage += len(passages)
        return file

    def delete(self, file: FileRow, totals: Totals) -> None:
        """Take a file out."""
        rows = self._rows(file)
        if rows.name is not None:
            self.full_text.remove(file, rows.name, rows.words)
            self._database.execute("DELETE FROM names WHERE id = ?", (file.id,))
            self._database.execute("DELETE FROM words WHERE id BETWEEN ? AND ?", file.units)
            self._database.execute("DELETE FROM passages WHERE id BETWEEN ? AND ?", rows.name.passages)
        self._database.execute("DELETE FROM units WHERE id BETWEEN ? AND ?", file.units)
        self._database.execute("DELETE FROM files WHERE id = ?", (file.id,))
        totals.count(rows, -1)

    def read(self, file: FileRow, dim: int) -> FileRows:
        """A file as it was put in.

        Raises:
            ValueError: something of it is missing, or not as it was written.
        """
        rows = self._rows(file)
        if rows.name is not None and len(rows.passages) != rows.name.num_passages:
            raise ValueError(f"some passages of {file.path} are missing")
        return parse_file(file, rows.units, parse_words(rows.words), rows.passages, dim)

    def files(self, column: Literal["id", "path"], values: Collection[object]) -> Files:
        """Some files, without reading all; those that are not stored are left out.

        Raises:
            ValueError: one is not as it was written.
        """
        return Files.parse(self._some(f"SELECT * FROM files WHERE {column}", values))

    def units(self, numbers: Collection[int]) -> dict[int, Unit]:
        """Units by their numbers.

        Raises:
            ValueError: one is missing, or not as it was written.
        """
        heads = [checked_head(row) for row in self._some(f"{SELECT_UNITS} WHERE id", numbers)]
        if len(heads) < len(numbers):
            raise ValueError("some of its units are missing")
        return dict(zip([head[0] for head in heads], self.named(heads), strict=True))

    def named(self, heads: Sequence[Values]) -> list[Unit]:
        """The units of these values of `HEAD`.

        Raises:
            ValueError: the file of one is missing, or not as it was written.
        """
        numbers = {head[1] for head in heads}
        files = self.files("id", numbers).by_number()
        if len(files) < len(numbers):
            raise ValueError("the files of some of its units are missing")
        return [
            Unit(files[file].path, KINDS[kind], *place_of(page, start_s, end_s), files[file].content_hash)
            for _, file, kind, page, start_s, end_s, _, _ in heads
        ]

    def words(self, units: Collection[int]) -> dict[int, Words]:
        """Words of units by their numbers; those that have none are left out.

        Raises:
            ValueError: some are not as they were written.
        """
        return parse_words(self._some("SELECT * FROM words WHERE id", units))

    def of_kinds(self, units: Collection[int], kinds: Collection[Kind]) -> list[int]:
        """Those of these units that are of some kinds.

        Raises:
            ValueError: one is not as it was written.
        """
        heads = map(checked_head, self._some(f"{SELECT_UNITS} WHERE id", units))
        return [head[0] for head in heads if KINDS[head[2]] in kinds]

    def names(self, reading: int) -> list[int]:
        """Numbers of the files whose words were read as this `WORDS` says, or by a later release."""
        return [number for (number,) in self._database.execute("SELECT id FROM names WHERE reading >= ?", (reading,))]

    def calibrate(self, background: Background, totals: Totals, dim: int) -> None:
        """Write mean and spread of each vector's scores with a background, in place of those that are there."""
        totals.sum_units += self._calibrate("units", SELECT_UNITS, background, dim)
        totals.sum_passages += self._calibrate("passages", SELECT_PASSAGES, background, dim)

    def _calibrate(self, table: Table, select: str, background: Background, dim: int) -> int:
        """By how much the sum of the checksums of a table grows."""
        growth = last = 0
        while rows := self._select(f"{select} WHERE id > ? ORDER BY id LIMIT {_ROWS_AT_ONCE}", (last,)):
            last = rows[-1][0]
            seen = [row for row in rows if row[6] != NO_VECTOR]
            renewed = recalibrated(seen, background, dim)
            self._database.put(f"UPDATE {table} SET vector = ?, sum = ? WHERE id = ?", renewed)
            growth += sum(checksum for _, checksum, _ in renewed) - sum(row[7] for row in seen)
        return growth

    def missing(self, totals: Totals) -> Iterator[str]:
        """Which words and passages are missing, one sentence for each table; those that are there are read.

        Raises:
            ValueError: something is not as it was written.
        """
        sums = {"names": (totals.num_names, totals.sum_names), "words": (totals.num_words, totals.sum_words)}
        for table, expected in sums.items():
            if (found := self._select(f"SELECT count(*), ifnull(sum(sum), 0) FROM {table}")[0]) != expected:
                yield f"some of its {expected[0]} {table} are missing: there are {found[0]}"
        if totals.sum_indexes is not None and self.full_text.checksum() != totals.sum_indexes:
            yield "its full text is not as it was written"

    def _rows(self, file: FileRow) -> RowsOfFile:
        units = self._select(f"{SELECT_UNITS} WHERE id BETWEEN ? AND ? ORDER BY id", file.units)
        names = self._select("SELECT * FROM names WHERE id = ?", (file.id,)) if self._database.has_words else []
        if not names:
            return RowsOfFile(file, units, None, [], [])
        name = NameRow.parse(names[0])
        words = self._select("SELECT * FROM words WHERE id BETWEEN ? AND ? ORDER BY id", file.units)
        passages = self._select(f"{SELECT_PASSAGES} WHERE id BETWEEN ? AND ? ORDER BY id", name.passages)
        return RowsOfFile(file, units, name, words, passages)

    def _some(self, select: str, values: Collection[object]) -> list[Values]:
        """RowsOfFile whose column, with which `select` ends, has one of the values."""
        rows: list[Values] = []
        listed = list(values)
        for start in range(0, len(listed), _FEW):
            some = listed[start : start + _FEW]
            rows += self._select(f"{select} IN ({', '.join('?' * len(some))})", some)
        return rows

    def _select(self, statement: str, values: Sequence[object] = ()) -> list[Values]:
        return self._database.execute(statement, values).fetchall()
