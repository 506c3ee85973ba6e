"""How does SQLite keep an index in one file, which numpy searches?"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import IndexFolderError
from vlm2vec.items import Target
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
    hit_order,
    oddities,
)
from vlm2vec.search.stores.place import hold
from vlm2vec.search.stores.sqlite.database import Database, State
from vlm2vec.search.stores.sqlite.memory import SortedFiles, Units
from vlm2vec.search.stores.sqlite.rows import (
    HEAD,
    KINDS,
    SELECT_UNITS,
    FileRow,
    file_row,
    parse_file,
    parse_rows,
    parse_units,
    place_of,
    unit_values,
)

_ROWS_AT_ONCE = 4096
_NUMBERS_AT_ONCE = 500


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
        self._place = place
        self._database = database or Database(place)
        # What is in memory, and of which state of the file; None: perhaps of none.
        self._seen: State | None = None
        self._files: dict[str, FileRow] | None = None
        self._sorted: SortedFiles | None = None
        self._units: Units | None = None
        self._units_are_old = True
        with self._database.reading():
            self._info, self._totals = self._read_notes()

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
        draft = Database.create_draft(place, notes)
        try:
            filled = cls(place, draft)
            for some in files:
                filled.commit([], some)
            draft.publish()
        except BaseException:
            draft.discard()
            raise
        return cls(place)

    @property
    def place(self) -> Path:
        return self._place

    @property
    def info(self) -> IndexInfo:
        return self._info

    @contextmanager
    def writing(self) -> Iterator[None]:
        with hold(self._place):
            self.refresh()
            yield

    def refresh(self) -> None:
        with self._reading():
            pass

    def files(self) -> dict[str, StoredFile]:
        with self._reading():
            return {path: row.stored for path, row in self._known_files().items()}

    def failures(self) -> dict[str, Failure]:
        with self._reading():
            if self._info.decoding < DECODING:
                # They may be readable now.
                return {}
            value = self._database.note("failures")
        return {path: Failure(reason, look and Look(*look)) for path, (reason, look) in value.items()}

    def read(self, paths: Sequence[str]) -> list[FileRows]:
        with self._reading():
            files = self._known_files()
            return [self._read(files[path]) for path in paths if path in files]

    def commit(self, remove: Sequence[str], add: Sequence[FileRows]) -> None:
        with self._changing() as totals:
            files = self._known_files()
            for path in dict.fromkeys((*remove, *(rows.path for rows in add))):
                if path in files:
                    self._delete(files.pop(path), totals)
            for rows in add:
                files[rows.path] = self._insert(rows, totals)
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
            self._info = replace(self._info, decoding=DECODING)
            self._database.write_note("info", asdict(self._info))
            self._database.write_note("failures", {})

    def count(self, kind: Target | None = None) -> int:
        with self._reading():
            counts = self._totals.num_units
            return sum(counts.values()) if kind is None else counts[kind]

    def nearest(self, vector: Vector, limit: int, where: Filter = ANYTHING) -> list[Hit]:
        with self._reading():
            units = self._known_units()
            places, scores = units.nearest(vector, limit, self._chosen(units, where))
            heads = units.heads[places].tolist()
            paths = self._paths_of([head[1] for head in heads])
        hits = [
            Hit(paths[file], KINDS[kind], min(1.0, score), *place_of(page, start_s, end_s))
            for (_, file, kind, page, start_s, end_s, _), score in zip(heads, scores, strict=True)
        ]
        return sorted(hits, key=hit_order)[:limit]

    def tidy(self, building: Building) -> None:
        self._database.shrink()

    def verify(self) -> Verdict:
        problems: list[str] = []
        try:
            with self._reading():
                problems += self._database.problems()
                self._files = self._units = None
                files, num_units = self._known_files(), len(self._known_units().heads)
                problems += [problem for row in files.values() for problem in oddities(self._read(row))]
        except IndexFolderError as error:
            return Verdict(self._info.model, 0, 0, 0, [*problems, error.message])
        return Verdict(self._info.model, len(files), num_units, len(files) + num_units, problems)

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
            self._totals, self._sorted = totals, None

    def _forget_if_changed(self) -> None:
        state = self._database.state
        if state == self._seen:
            return
        info, self._totals = self._read_notes()
        if (info.fingerprint, info.dim) != (self._info.fingerprint, self._info.dim):
            raise IndexFolderError(f"the index {self._place} was made anew by another process, with another model")
        self._info = info
        self._files, self._sorted, self._units_are_old = None, None, True
        self._seen = state

    def _read_notes(self) -> tuple[IndexInfo, _Totals]:
        return IndexInfo(**self._database.note("info")), _Totals(**self._database.note("totals"))

    def _known_files(self) -> dict[str, FileRow]:
        if self._files is None:
            rows = list(map(parse_file, self._database.execute("SELECT * FROM files")))
            if (len(rows), sum(row.sum for row in rows)) != (self._totals.num_files, self._totals.sum_files):
                raise ValueError(f"some of its {self._totals.num_files} files are missing")
            self._files, self._sorted = {row.path: row for row in rows}, None
        return self._files

    def _known_units(self) -> Units:
        """All units; of those that have been read before, only the ones that have come since are read."""
        known, totals = self._units, self._totals
        if known is not None and not self._units_are_old:
            return known
        heads = np.empty(sum(totals.num_units.values()), HEAD)
        vectors = np.empty((len(heads), self._info.dim), np.float32)
        at = since = 0
        if known is not None and known.made == totals.made:
            there = np.array(self._database.execute("SELECT id FROM files").fetchall(), np.int64)
            kept = np.isin(known.heads["file"], there)
            at, since = int(np.count_nonzero(kept)), known.next_unit
            heads[:at] = known.heads[kept]
            np.compress(kept, known.vectors, axis=0, out=vectors[:at])
        new = self._database.execute(f"{SELECT_UNITS} WHERE id >= ? ORDER BY id", (since,))
        while rows := new.fetchmany(_ROWS_AT_ONCE):
            upto = at + len(rows)
            heads[at:upto], vectors[at:upto] = parse_units(rows)
            at = upto
        if at != len(heads) or int(heads["sum"].sum()) != totals.sum_units:
            raise ValueError(f"some of its {len(heads)} vectors are missing")
        self._units, self._units_are_old = Units(heads, vectors, totals.next_unit, totals.made), False
        return self._units

    def _chosen(self, units: Units, where: Filter) -> NDArray[np.bool_] | None:
        """[N], True for units that may be hits; None: all of them may."""
        if where == ANYTHING:
            return None
        chosen = np.ones(len(units.heads), bool)
        if where.kinds:
            chosen &= np.isin(units.heads["kind"], [KINDS.index(kind) for kind in where.kinds])
        if replace(where, kinds=frozenset()) != ANYTHING:
            if self._sorted is None:
                self._sorted = SortedFiles(self._known_files().values())
            chosen &= np.isin(units.heads["file"], self._sorted.ids_where(where))
        return chosen

    # Rows

    def _paths_of(self, numbers: Sequence[int]) -> dict[int, str]:
        """Paths of files by their numbers, without reading all files."""
        paths: dict[int, str] = {}
        wanted = sorted(set(numbers))
        for start in range(0, len(wanted), _NUMBERS_AT_ONCE):
            some = wanted[start : start + _NUMBERS_AT_ONCE]
            marks = ", ".join("?" * len(some))
            rows = self._database.execute(f"SELECT * FROM files WHERE id IN ({marks})", some)
            paths |= {row.id: row.path for row in map(parse_file, rows)}
        if len(paths) < len(wanted):
            raise ValueError("the files of some of its vectors are missing")
        return paths

    def _read(self, file: FileRow) -> FileRows:
        rows = self._database.execute(f"{SELECT_UNITS} WHERE id BETWEEN ? AND ?", file.units)
        return parse_rows(file, rows.fetchall())

    def _insert(self, rows: FileRows, totals: _Totals) -> FileRow:
        if {len(unit.vector) for unit in rows.units} != {self._info.dim}:
            raise ValueError(f"not every vector of {rows.path} has {self._info.dim} numbers")
        stored = StoredFile(rows.look, rows.content_hash, rows.num_units, len(rows.units))
        file = file_row(totals.next_file, rows.path, stored, totals.next_unit)
        units = [unit_values(number, file.id, unit) for number, unit in enumerate(rows.units, file.first_unit)]
        self._database.insert("units", units)
        self._database.insert("files", [file.values])
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
            for path in paths:
                if path in files:
                    before = files[path]
                    after = file_row(before.id, path, renewed(path, before.stored), before.first_unit)
                    self._database.insert("files", [after.values])
                    totals.sum_files += after.sum - before.sum
                    files[path] = after
