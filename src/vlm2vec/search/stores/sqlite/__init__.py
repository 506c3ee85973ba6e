"""How does SQLite keep an index in one file, which numpy searches?"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import IndexFolderError
from vlm2vec.items import Kind
from vlm2vec.search.store import (
    ANYTHING,
    DECODING,
    Building,
    Failure,
    FileRows,
    Filter,
    Hit,
    IndexInfo,
    Look,
    StoredFile,
    Vector,
    Verdict,
)
from vlm2vec.search.stores.place import Place
from vlm2vec.search.stores.sqlite.database import Database
from vlm2vec.search.stores.sqlite.rows import HEAD, KINDS, SELECT_UNITS, FileRow, Files, Units

_ROWS_AT_ONCE = 4096
# Values in one question, of which SQLite takes some thousand at most; for so few files not all are read.
_FEW = 500


@dataclass(slots=True)
class _Totals:
    """What the tables must hold, so that a lost row is missed.

    Args:
        made: differs between an index and the one that is made in its place.
        next_file, next_unit: numbers that no row has had. None is used twice, and a unit never changes.
        sum_files, sum_units: sums of the checksums of all rows.
        num_units: of each kind.
    """

    made: str
    next_file: int = 1
    next_unit: int = 1
    num_files: int = 0
    sum_files: int = 0
    sum_units: int = 0
    num_units: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))


class SqliteStore:
    """An index in one SQLite file. Search is exact: every vector is compared, from memory once they have been read.

    All methods see what other processes have committed.
    """

    def __init__(self, place: Path, database: Database | None = None) -> None:
        self.place = place
        self._database = database or Database(Place(place))
        # What is in memory, and of which state of the file; None: perhaps of none.
        self._seen: tuple[int, ...] | None = None
        self._files: Files | None = None
        self._units: Units | None = None
        self._units_are_old = True
        with self._database.reading():
            self.info, self._totals = self._read_notes()

    @classmethod
    def create(
        cls,
        place: Path,
        info: IndexInfo,
        files: Iterable[Sequence[FileRows]] = (),
        failures: Mapping[str, Failure] | None = None,
    ) -> Self:
        """Make an index in the folder `place`: at the end it is there whole. The caller holds the lock of the folder.

        Args:
            files: they are in it from the beginning; some at a time, so that not all are in memory at once.
        """
        notes = {"info": asdict(info), "totals": asdict(_Totals(uuid.uuid4().hex)), "failures": failures or {}}
        with Database.made(Place(place), notes) as draft:
            filled = cls(place, draft)
            for some in files:
                filled.commit([], some)
        return cls(place)

    @contextmanager
    def writing(self) -> Iterator[None]:
        with Place(self.place).hold():
            self.refresh()
            yield

    def refresh(self) -> None:
        with self._reading():
            pass

    def files(self) -> Mapping[str, StoredFile]:
        with self._reading():
            return self._known_files().copy()

    def failures(self) -> dict[str, Failure]:
        with self._reading():
            if self.info.decoding < DECODING:
                # They may be readable now.
                return {}
            value = self._database.note("failures")
        return {path: Failure(reason, look and Look(*look)) for path, (reason, look) in value.items()}

    def read(self, paths: Sequence[str]) -> list[FileRows]:
        with self._reading():
            return [self._read(row) for row in self._rows_of(paths)]

    def commit(self, remove: Sequence[str], add: Sequence[FileRows]) -> None:
        with self._changing() as totals:
            files = self._known_files()
            for row in files.rows(dict.fromkeys((*remove, *(rows.path for rows in add)))):
                self._delete(row, totals)
                files.remove(row.path)
            for rows in add:
                files.put(self._insert(rows, totals))
            self._units_are_old = True

    def note_failures(self, failures: Mapping[str, Failure]) -> None:
        if failures != self.failures():
            with self._changing():
                self._database.write_note("failures", failures)

    def note_looks(self, looks: Mapping[str, Look]) -> None:
        self._update(looks, lambda path, stored: stored._replace(look=looks[path]))

    def mark_outdated(self, paths: Sequence[str]) -> None:
        self._update(paths, lambda _, stored: stored._replace(look=stored.look._replace(size=-1), content_hash=""))

    def note_decoding(self) -> None:
        with self._changing():
            self.info = replace(self.info, decoding=DECODING)
            self._database.write_note("info", asdict(self.info))
            self._database.write_note("failures", {})

    def count(self, kind: Kind | None = None) -> int:
        with self._reading():
            counts = self._totals.num_units
            return sum(counts.values()) if kind is None else counts[kind]

    def nearest(self, vector: Vector, limit: int, where: Filter = ANYTHING) -> list[Hit]:
        with self._reading():
            units = self._known_units()
            near = units.nearest(vector, limit, self._chosen(units, where))
            paths = self._paths_of({file for file, _ in near})
        hits = [replace(hit, path=paths[file]) for file, hit in near]
        return sorted(hits, key=lambda hit: hit.order)[:limit]

    def is_untidy(self) -> bool:
        return self._database.has_much_room()

    def tidy(self, building: Building) -> None:
        if self.is_untidy():
            self._database.shrink()

    def verify(self) -> Verdict:
        problems: list[str] = []
        try:
            with self._reading():
                problems += self._database.problems()
                self._files = self._units = None
                files, num_units = self._known_files(), len(self._known_units().heads)
                problems += [problem for row in files.rows(files) for problem in self._read(row).oddities()]
        except IndexFolderError as error:
            return Verdict(self.info.model, 0, 0, 0, [*problems, error.message])
        return Verdict(self.info.model, len(files), num_units, len(files) + num_units, problems)

    def close(self) -> None:
        self._database.close()

    # What is in memory

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._database.reading():
            self._forget_if_changed()
            yield

    @contextmanager
    def _changing(self) -> Iterator[_Totals]:
        """The totals that are yielded are written with the changes, as they are in the end."""
        with self._database.changing():
            self._forget_if_changed()
            totals = replace(self._totals, num_units=dict(self._totals.num_units))
            yield totals
            if totals != self._totals:
                self._database.write_note("totals", asdict(totals))
            self._totals = totals

    def _forget_if_changed(self) -> None:
        state = self._database.state
        if state == self._seen:
            return
        info, self._totals = self._read_notes()
        if (info.fingerprint, info.dim) != (self.info.fingerprint, self.info.dim):
            raise IndexFolderError(f"the index {self.place} was made anew by another process, with another model")
        self.info = info
        self._files, self._units_are_old = None, True
        self._seen = state

    def _read_notes(self) -> tuple[IndexInfo, _Totals]:
        return IndexInfo(**self._database.note("info")), _Totals(**self._database.note("totals"))

    def _known_files(self) -> Files:
        if self._files is None:
            rows = self._database.execute("SELECT * FROM files").fetchall()
            if (len(rows), sum(row[-1] for row in rows)) != (self._totals.num_files, self._totals.sum_files):
                raise ValueError(f"some of its {self._totals.num_files} files are missing")
            self._files = Files.parse(rows)
        return self._files

    def _rows_of(self, paths: Sequence[str]) -> list[FileRow]:
        """Those of these files that are stored, without reading all files for the sake of a few."""
        if self._files is None and len(paths) <= _FEW:
            found = self._select("path", [FileRow.name_of(path) for path in paths]).rows(paths)
            if len(found) == len(paths):
                return found
        # A file that is not found may be one whose row is damaged.
        return self._known_files().rows(paths)

    def _known_units(self) -> Units:
        """All units; of those that have been read before, only the ones that have come since are read."""
        known, totals = self._units, self._totals
        if known is not None and not self._units_are_old:
            return known
        num_units = sum(totals.num_units.values())
        heads, vectors = np.empty(num_units, HEAD), np.empty((num_units, self.info.dim), np.float32)
        units = Units(heads, vectors, totals.next_unit, totals.made)
        at = since = 0
        if known is not None and known.made == totals.made:
            there = np.array(self._database.execute("SELECT id FROM files").fetchall(), np.int64)
            kept = np.isin(known.heads["file"], there)
            at, since = int(np.count_nonzero(kept)), known.next_unit
            heads[:at] = known.heads[kept]
            np.compress(kept, known.vectors, axis=0, out=vectors[:at])
        new = self._database.execute(f"{SELECT_UNITS} WHERE id >= ? ORDER BY id", (since,))
        while rows := new.fetchmany(_ROWS_AT_ONCE):
            at = units.fill(at, rows)
        if at != num_units or int(heads["sum"].sum()) != totals.sum_units:
            raise ValueError(f"some of its {num_units} vectors are missing")
        self._units, self._units_are_old = units, False
        return units

    def _chosen(self, units: Units, where: Filter) -> NDArray[np.bool_] | None:
        """[N], True for units that may be hits; None: all of them may."""
        if where == ANYTHING:
            return None
        chosen = np.ones(len(units.heads), bool)
        if where.kinds:
            chosen &= np.isin(units.heads["kind"], [KINDS.index(kind) for kind in where.kinds])
        if replace(where, kinds=frozenset()) != ANYTHING:
            chosen &= np.isin(units.heads["file"], self._known_files().ids_where(where))
        return chosen

    # Rows

    def _paths_of(self, numbers: Collection[int]) -> dict[int, str]:
        """Paths of files by their numbers, without reading all files."""
        files = self._select("id", sorted(numbers))
        if len(files) < len(numbers):
            raise ValueError("the files of some of its vectors are missing")
        return {row.id: row.path for row in files.rows(files)}

    def _select(self, column: Literal["id", "path"], values: Sequence[object]) -> Files:
        rows: list[tuple[object, ...]] = []
        for start in range(0, len(values), _FEW):
            some = values[start : start + _FEW]
            marks = ", ".join("?" * len(some))
            rows += self._database.execute(f"SELECT * FROM files WHERE {column} IN ({marks})", some)
        return Files.parse(rows)

    def _read(self, file: FileRow) -> FileRows:
        rows = self._database.execute(f"{SELECT_UNITS} WHERE id BETWEEN ? AND ?", file.units)
        return file.parse(rows.fetchall())

    def _insert(self, rows: FileRows, totals: _Totals) -> FileRow:
        if {len(vector) for unit in rows.units for vector in unit.vectors} != {self.info.dim}:
            raise ValueError(f"not every vector of {rows.path} has {self.info.dim} numbers")
        file = FileRow.of(totals.next_file, rows.path, rows.stored, totals.next_unit)
        units = file.unit_rows(rows.units)
        self._database.insert("units", units)
        self._database.insert("files", [file])
        totals.next_file += 1
        totals.next_unit += len(units)
        totals.num_files += 1
        totals.sum_files += file.sum
        for _, _, kind, *_, checksum in units:
            totals.num_units[kind] += 1
            totals.sum_units += checksum
        return file

    def _delete(self, file: FileRow, totals: _Totals) -> None:
        gone = self._database.execute("SELECT kind, sum FROM units WHERE id BETWEEN ? AND ?", file.units)
        for kind, checksum in gone:
            totals.num_units[kind] -= 1
            totals.sum_units -= checksum
        self._database.execute("DELETE FROM units WHERE id BETWEEN ? AND ?", file.units)
        self._database.execute("DELETE FROM files WHERE id = ?", (file.id,))
        totals.num_files -= 1
        totals.sum_files -= file.sum

    def _update(self, paths: Iterable[str], renewed: Callable[[str, StoredFile], StoredFile]) -> None:
        """Change what is known of some files, whose units stay."""
        with self._changing() as totals:
            files = self._known_files()
            for before in files.rows(dict.fromkeys(paths)):
                after = FileRow.of(before.id, before.path, renewed(before.path, before.stored), before.first_unit)
                self._database.insert("files", [after])
                totals.sum_files += after.sum - before.sum
                files.put(after)
