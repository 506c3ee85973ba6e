"""How does SQLite keep an index in one file, and how does numpy search it?"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
import uuid
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeAlias, get_args
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import BusyError, IndexFolderError, StorageError, VLM2VecError
from vlm2vec.files import reason
from vlm2vec.items import Target
from vlm2vec.search.scan import ending
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
    StoredUnit,
    Vector,
    Verdict,
    hit_order,
)
from vlm2vec.search.stores.place import APPLICATION_ID, DATABASE, DRAFT, JOURNALS, hold

_FORMAT = 1
# No index besides the tables: rows are found by their numbers, so nothing can disagree with them.
_SCHEMA = {
    "notes": "CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID",
    "files": (
        "CREATE TABLE files (id INTEGER PRIMARY KEY, path NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, "
        "ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, content_hash TEXT NOT NULL, num_units INTEGER NOT NULL, "
        "num_stored INTEGER NOT NULL, first_unit INTEGER NOT NULL, sum INTEGER NOT NULL)"
    ),
    "units": (
        "CREATE TABLE units (id INTEGER PRIMARY KEY, file INTEGER NOT NULL, kind TEXT NOT NULL, page INTEGER, "
        "start_s REAL, end_s REAL, vector BLOB NOT NULL, sum INTEGER NOT NULL)"
    ),
}
_UNITS = "SELECT id, file, kind, ifnull(page, 0), ifnull(start_s, -1.0), ifnull(end_s, -1.0), vector, sum FROM units"
# Five vectors of 384 numbers fit on one: 100,000 are read in two thirds of the time that pages of 4096 bytes take.
_PAGE_BYTES = 8192
_STRAY = re.compile("[\ud800-\udfff]")
# Another process may take so long over one commit, or over the reading of all vectors.
_PATIENCE_S = 60.0
_ROWS_AT_ONCE = 4096
_NUMBERS_AT_ONCE = 500
_KINDS: tuple[Target, ...] = get_args(Target)
_NO_SPAN = (-1.0, -1.0)
_HEAD = np.dtype(
    [("id", "i8"), ("file", "i8"), ("kind", "i1"), ("page", "i8"), ("start_s", "f8"), ("end_s", "f8"), ("sum", "i8")]
)
# Pages of removed rows are written again; more than this share of the file goes back to the disk.
_MOST_SPARE = 0.5
# Vectors are stored with length 1, and were perhaps made in half precision.
_MOST_OFF = 0.01

_OF_DISK = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
}

_Verb: TypeAlias = Literal["open", "read", "write"]


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
    num_units: dict[str, int] = field(default_factory=dict)

    def count(self, kind: str, by: int) -> None:
        self.num_units[kind] = self.num_units.get(kind, 0) + by


class _FileRow(NamedTuple):
    id: int
    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    content_hash: str
    num_units: int
    num_stored: int
    first_unit: int

    @property
    def sum(self) -> int:
        return crc32(ascii(tuple(self)).encode())

    @property
    def look(self) -> Look:
        return Look(self.size, self.mtime_ns, self.ctime_ns, self.inode)

    @property
    def span_of_units(self) -> tuple[int, int]:
        return self.first_unit, self.first_unit + self.num_stored - 1


@dataclass(frozen=True, slots=True)
class _Units:
    """All units in the order of their numbers.

    Args:
        heads: [N] of `_HEAD`; kind is a place in `_KINDS`, page 0 and start -1 stand for none.
        vectors: float32 [N, dim].
        next_unit: number of the first that is not among them.
        made: of which index.
    """

    heads: NDArray[np.void]
    vectors: Vector
    next_unit: int
    made: str


@dataclass(frozen=True, slots=True)
class _Sorted:
    """All files in the order of their paths, for filters."""

    paths: list[str]
    ids: NDArray[np.int64]
    mtimes_ns: NDArray[np.int64]
    endings: NDArray[np.int64]
    ending_numbers: dict[str, int]

    @classmethod
    def of(cls, rows: Iterable[_FileRow]) -> Self:
        files = sorted(rows, key=lambda row: row.path)
        numbers: dict[str, int] = {}
        endings = [numbers.setdefault(ending(row.path), len(numbers)) for row in files]
        return cls(
            [row.path for row in files],
            np.array([row.id for row in files], np.int64),
            np.array([row.mtime_ns for row in files], np.int64),
            np.array(endings, np.int64),
            numbers,
        )

    def ids_where(self, where: Filter) -> NDArray[np.int64]:
        chosen = np.ones(len(self.ids), bool)
        if where.under:
            # "0" comes next after "/".
            chosen[: bisect_left(self.paths, f"{where.under}/")] = False
            chosen[bisect_left(self.paths, f"{where.under}0") :] = False
        if where.since is not None:
            chosen &= self.mtimes_ns >= where.since * 1e9
        if where.until is not None:
            chosen &= self.mtimes_ns <= where.until * 1e9
        if where.types:
            wanted = [number for name, number in self.ending_numbers.items() if name in where.types]
            chosen &= np.isin(self.endings, wanted)
        return self.ids[chosen]


class SqliteStore:
    """An index in one SQLite file. Search is exact: every vector is compared, from memory once they have been read.

    The file has a rollback journal and no write-ahead log. A log needs two more files that readers write too, so that
    an index on a read-only disk could not be opened, and shared memory, which network drives lack; and what it would
    give, reading while a commit is written, is not missed: a commit takes some milliseconds, and others wait for it.
    A killed writer leaves a journal by which the next process that opens the file undoes the half commit.

    Every row has a checksum, and their totals stand beside them, because SQLite itself notices a changed byte only
    where it breaks the order of its pages. All methods see what other processes have committed.
    """

    def __init__(self, place: Path, name: str = DATABASE) -> None:
        self._place = place
        self._path = place / name
        # Held while one connection, or what is known of its file, is used.
        self._lock = threading.RLock()
        self._files: dict[str, _FileRow] | None = None
        self._sorted: _Sorted | None = None
        self._units: _Units | None = None
        self._units_are_old = True
        # The state of the file that all this is of; None: it is not known to be of any.
        self._seen: int | None = None
        with _explained(place, "open"):
            self._database, self._identity = _connect(place, self._path)
            self._info, self._totals = self._read_state()

    @classmethod
    def create(
        cls,
        place: Path,
        info: IndexInfo,
        files: Iterable[Sequence[FileRows]] = (),
        failures: Mapping[str, Failure] | None = None,
    ) -> Self:
        """Make an index in the folder `place`, all at once at the end. Its caller holds the lock.

        Args:
            files: what is in it from the beginning, some files at a time.
        """
        draft = place / (DATABASE + DRAFT)
        with _explained(place, "write"):
            draft.unlink(missing_ok=True)
            with closing(sqlite3.connect(_uri(draft, "rwc"), uri=True, isolation_level=None)) as database:
                database.execute(f"PRAGMA page_size={_PAGE_BYTES}")
                database.execute("BEGIN")
                for statement in _SCHEMA.values():
                    database.execute(statement)
                for name, value in (("info", asdict(info)), ("totals", asdict(_Totals(uuid.uuid4().hex)))):
                    _write_note(database, name, value)
                _write_note(database, "failures", failures or {})
                database.execute(f"PRAGMA application_id={APPLICATION_ID}")
                database.execute(f"PRAGMA user_version={_FORMAT}")
                database.execute("COMMIT")
        with closing(cls(place, draft.name)) as store:
            for some in files:
                store.commit([], some)
        with _explained(place, "write"):
            # The journal of a database that was here before would undo this one.
            for end in JOURNALS:
                (place / (DATABASE + end)).unlink(missing_ok=True)
            os.replace(draft, place / DATABASE)
        return cls.open(place)

    @classmethod
    def open(cls, place: Path) -> Self:
        """Open the index in the folder `place`; vectors are read when they are first needed."""
        return cls(place)

    @property
    def place(self) -> Path:
        return self._place

    @property
    def info(self) -> IndexInfo:
        return self._info

    @contextmanager
    def writing(self) -> Iterator[None]:
        with hold(self.place):
            self.refresh()
            yield

    def refresh(self) -> None:
        with self._reading():
            pass

    def files(self) -> dict[str, StoredFile]:
        with self._reading():
            rows = self._known_files().values()
        return {row.path: StoredFile(row.look, row.content_hash, row.num_units, row.num_stored) for row in rows}

    def failures(self) -> dict[str, Failure]:
        with self._reading():
            if self._info.decoding < DECODING:
                # They may be readable now.
                return {}
            value = self._read_note("failures")
        return {path: Failure(reason, look and Look(*look)) for path, (reason, look) in value.items()}

    def read(self, paths: Sequence[str]) -> list[FileRows]:
        with self._reading():
            files = self._known_files()
            return [self._rows_of(files[path]) for path in paths if path in files]

    def commit(self, remove: Sequence[str], add: Sequence[FileRows]) -> None:
        if not remove and not add:
            return
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
                _write_note(self._database, "failures", failures)

    def note_looks(self, looks: Mapping[str, Look]) -> None:
        self._update({path: look._asdict() for path, look in looks.items()})

    def mark_outdated(self, paths: Sequence[str]) -> None:
        self._update({path: {"content_hash": "", "size": -1} for path in paths})

    def note_decoding(self) -> None:
        with self._changing():
            self._info = replace(self._info, decoding=DECODING)
            _write_note(self._database, "info", asdict(self._info))
            _write_note(self._database, "failures", {})

    def count(self, kind: Target | None = None) -> int:
        with self._reading():
            counts = self._totals.num_units
        return sum(counts.values()) if kind is None else counts.get(kind, 0)

    def nearest(self, vector: Vector, limit: int, where: Filter = ANYTHING) -> list[Hit]:
        with self._reading():
            units = self._known_units()
            scores = units.vectors @ vector
            if where != ANYTHING:
                chosen = self._chosen(units, where)
                scores[~chosen] = -np.inf
                limit = min(limit, int(np.count_nonzero(chosen)))
            limit = min(limit, len(scores))
            if limit < 1:
                return []
            last = np.partition(scores, -limit)[-limit]
            # In float32, sums of equal products differ by the order of their terms, which depends on a row's place.
            error = len(vector) * np.finfo(np.float32).eps * float(np.linalg.norm(vector))
            (near,) = np.nonzero(scores >= last - error)
            return self._hits(units, near, vector)[:limit]

    def tidy(self, building: Building) -> None:
        with self._lock, _explained(self._place, "write"):
            if self._pragma("freelist_count") > _MOST_SPARE * self._pragma("page_count"):
                # A disk without room for a copy keeps the file as it is.
                with suppress(sqlite3.OperationalError):
                    self._database.execute("VACUUM")

    def verify(self) -> Verdict:
        with self._lock:
            self._files = self._units = None
            problems = []
            try:
                with self._reading():
                    lines = [line for (line,) in self._database.execute("PRAGMA integrity_check")]
                    problems = [" ".join(line.split()) for line in lines if line != "ok"]
                    files, units = self._known_files(), self._known_units()
            except IndexFolderError as error:
                return Verdict(self._info.model, 0, 0, 0, [*problems, error.message])
            problems += self._oddities(files, units)
            num_rows = len(files) + len(units.heads)
            return Verdict(self._info.model, len(files), len(units.heads), num_rows, problems)

    def close(self) -> None:
        with self._lock:
            self._database.close()

    # What is in memory, and of which state of the file

    def _known_files(self) -> dict[str, _FileRow]:
        if self._files is None:
            rows = [_file_row(row) for row in self._database.execute("SELECT * FROM files")]
            files = {row.path: row for row in rows}
            if (len(files), sum(row.sum for row in rows)) != (self._totals.num_files, self._totals.sum_files):
                raise ValueError(f"some of its {self._totals.num_files} files are missing")
            self._files, self._sorted = files, None
        return self._files

    def _known_units(self) -> _Units:
        """All units; of those that have been read before only the ones that have come since are read."""
        if self._units is not None and not self._units_are_old:
            return self._units
        totals, known = self._totals, self._units
        heads = np.empty(sum(totals.num_units.values()), _HEAD)
        vectors = np.empty((len(heads), self._info.dim), np.float32)
        at = since = 0
        if known is not None and known.made == totals.made:
            there = np.fromiter((number for (number,) in self._database.execute("SELECT id FROM files")), np.int64)
            kept = np.isin(known.heads["file"], there)
            at, since = int(np.count_nonzero(kept)), known.next_unit
            heads[:at] = known.heads[kept]
            np.compress(kept, known.vectors, axis=0, out=vectors[:at])
        new = self._database.execute(f"{_UNITS} WHERE id >= ? ORDER BY id", (since,))
        while rows := new.fetchmany(_ROWS_AT_ONCE):
            upto = at + len(rows)
            heads[at:upto] = [_head(row) for row in rows]
            vectors[at:upto] = np.frombuffer(b"".join(row[6] for row in rows), "<f4").reshape(len(rows), -1)
            at = upto
        if at != len(heads) or int(heads["sum"].sum()) != totals.sum_units:
            raise ValueError(f"some of its {len(heads)} vectors are missing")
        self._units, self._units_are_old = _Units(heads, vectors, totals.next_unit, totals.made), False
        return self._units

    def _chosen(self, units: _Units, where: Filter) -> NDArray[np.bool_]:
        """[N], True for units that may be hits."""
        chosen = np.ones(len(units.heads), bool)
        if where.kinds:
            chosen &= np.isin(units.heads["kind"], [_KINDS.index(kind) for kind in where.kinds])
        if replace(where, kinds=frozenset()) != ANYTHING:
            files = self._known_files()
            if self._sorted is None:
                self._sorted = _Sorted.of(files.values())
            chosen &= np.isin(units.heads["file"], self._sorted.ids_where(where))
        return chosen

    def _hits(self, units: _Units, places: NDArray[np.intp], vector: Vector) -> list[Hit]:
        """Hits for some units, in order, by scores that depend on nothing but the two vectors."""
        query = vector.astype(np.float64)
        hits = []
        for start in range(0, len(places), _NUMBERS_AT_ONCE):
            some = places[start : start + _NUMBERS_AT_ONCE]
            scores = (units.vectors[some].astype(np.float64) * query).sum(axis=1)
            paths = self._paths_of(units.heads["file"][some].tolist())
            for (_, file, kind, page, start_s, end_s, _), score in zip(units.heads[some].tolist(), scores, strict=True):
                span_s = (start_s, end_s) if start_s >= 0 else None
                hits.append(Hit(paths[file], _KINDS[kind], min(1.0, float(score)), page or None, span_s))
        return sorted(hits, key=hit_order)

    def _paths_of(self, numbers: Sequence[int]) -> dict[int, str]:
        """Paths of files by their numbers, without reading all files."""
        marks = ", ".join("?" * len(numbers))
        rows = self._database.execute(f"SELECT * FROM files WHERE id IN ({marks})", numbers)
        return {row.id: row.path for row in map(_file_row, rows)}

    def _rows_of(self, file: _FileRow) -> FileRows:
        rows = self._database.execute(f"{_UNITS} WHERE id BETWEEN ? AND ?", file.span_of_units).fetchall()
        if len(rows) != file.num_stored:
            raise ValueError(f"some vectors of {file.path} are missing")
        units = []
        for row in rows:
            _, _, kind, page, start_s, end_s, _ = _head(row)
            span_s = (start_s, end_s) if start_s >= 0 else None
            units.append(StoredUnit(_KINDS[kind], page or None, span_s, np.frombuffer(row[6], "<f4")))
        return FileRows(file.path, file.look, file.content_hash, file.num_units, tuple(units))

    def _oddities(self, files: Mapping[str, _FileRow], units: _Units) -> Iterator[str]:
        """What is as it was written, and cannot be right."""
        paths = {row.id: row.path for row in files.values()}
        lengths = np.linalg.norm(units.vectors, axis=1)
        for place in np.flatnonzero(~(np.abs(lengths - 1) < _MOST_OFF)):
            yield f"a vector of {paths[units.heads['file'][place]]} has the length {lengths[place]:.3g}, not 1"
        for row in files.values():
            if row.num_stored > row.num_units:
                yield f"{row.path} has {row.num_stored} vectors for {row.num_units} parts"

    # Changes

    def _insert(self, rows: FileRows, totals: _Totals) -> _FileRow:
        file = _FileRow(
            totals.next_file,
            rows.path,
            *rows.look,
            rows.content_hash,
            rows.num_units,
            len(rows.units),
            totals.next_unit,
        )
        values = []
        for number, unit in enumerate(rows.units, file.first_unit):
            if len(unit.vector) != self._info.dim:
                raise ValueError(f"a vector of {rows.path} has {len(unit.vector)} numbers, not {self._info.dim}")
            vector = unit.vector.astype("<f4", copy=False).tobytes()
            start_s, end_s = unit.span_s or (None, None)
            checksum = _unit_sum([number, file.id, unit.kind, unit.page or 0, *(unit.span_s or _NO_SPAN)], vector)
            values.append((number, file.id, unit.kind, unit.page, start_s, end_s, vector, checksum))
            totals.count(unit.kind, 1)
            totals.sum_units += checksum
        self._database.executemany("INSERT INTO units VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        self._database.execute(f"INSERT INTO files VALUES ({', '.join('?' * 11)})", _file_values(file))
        totals.next_file += 1
        totals.next_unit += len(values)
        totals.num_files += 1
        totals.sum_files += file.sum
        return file

    def _delete(self, file: _FileRow, totals: _Totals) -> None:
        gone = self._database.execute("SELECT kind, sum FROM units WHERE id BETWEEN ? AND ?", file.span_of_units)
        for kind, checksum in gone.fetchall():
            totals.count(kind, -1)
            totals.sum_units -= checksum
        self._database.execute("DELETE FROM units WHERE id BETWEEN ? AND ?", file.span_of_units)
        self._database.execute("DELETE FROM files WHERE id = ?", (file.id,))
        totals.num_files -= 1
        totals.sum_files -= file.sum

    def _update(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace fields of some files, whose units stay."""
        if not changes:
            return
        with self._changing() as totals:
            files = self._known_files()
            for path in changes.keys() & files.keys():
                before = files[path]
                files[path] = after = before._replace(**changes[path])
                self._database.execute(f"REPLACE INTO files VALUES ({', '.join('?' * 11)})", _file_values(after))
                totals.sum_files += after.sum - before.sum

    # The file

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """All that is read inside is of one state of the file, the newest."""
        with self._lock, _explained(self._place, "read"):
            if _identity_of(self._place, self._path) != self._identity:
                # It was made anew.
                self._database.close()
                self._database, self._identity = _connect(self._place, self._path)
                self._seen = None
            self._database.execute("BEGIN")
            try:
                self._notice()
                yield
            finally:
                # Of a damaged file this can fail too, and says nothing new.
                with suppress(sqlite3.Error):
                    self._database.execute("COMMIT")

    @contextmanager
    def _changing(self) -> Iterator[_Totals]:
        """All that is written inside, with the totals as they are then, is in the file afterwards or nothing of it."""
        with self._lock, _explained(self._place, "write"):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._notice()
                totals = replace(self._totals, num_units=dict(self._totals.num_units))
                yield totals
                if totals != self._totals:
                    _write_note(self._database, "totals", asdict(totals))
                self._database.execute("COMMIT")
                self._totals, self._sorted = totals, None
            except BaseException:
                # What is in memory may be of what is not in the file.
                self._seen = None
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise

    def _notice(self) -> None:
        """Forget what is no longer so in the file; another connection may have changed it."""
        seen = self._pragma("data_version")
        if seen == self._seen:
            return
        info, totals = self._read_state()
        if (info.fingerprint, info.dim) != (self._info.fingerprint, self._info.dim):
            raise IndexFolderError(f"the index {self._place} was made anew by another process, with another model")
        self._info, self._totals = info, totals
        self._files, self._sorted, self._units_are_old = None, None, True
        self._seen = seen

    def _read_state(self) -> tuple[IndexInfo, _Totals]:
        version = self._pragma("user_version")
        if version > _FORMAT:
            raise IndexFolderError(
                f"the index {self._place} has format {version}, and this version of vlm2vec knows up to {_FORMAT}; use "
                "a newer vlm2vec",
                "rebuild",
            )
        tables = dict(self._database.execute("SELECT name, sql FROM sqlite_schema").fetchall())
        if version != _FORMAT or tables != _SCHEMA:
            raise ValueError("it has other tables than expected")
        return IndexInfo(**self._read_note("info")), _Totals(**self._read_note("totals"))

    def _read_note(self, name: str) -> Any:
        row = self._database.execute("SELECT value, sum FROM notes WHERE name = ?", (name,)).fetchone()
        if row is None or _note_sum(name, row[0]) != row[1]:
            raise ValueError(f"its note of {name} is not as it was written")
        return json.loads(row[0])

    def _pragma(self, name: str) -> int:
        (value,) = self._database.execute(f"PRAGMA {name}").fetchone()
        return int(value)


def _connect(place: Path, path: Path) -> tuple[sqlite3.Connection, tuple[int, int]]:
    """Open the file, and say which it is. Where it may not be written, SQLite opens it for reading."""
    identity = _identity_of(place, path)
    database = sqlite3.connect(
        _uri(path, "rw"), uri=True, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False
    )
    # Others read until the very end of a change.
    database.execute("PRAGMA cache_spill=OFF")
    return database, identity


def _identity_of(place: Path, path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise IndexFolderError(f"there is no index at {place}", "make_index") from None
    return status.st_dev, status.st_ino


def _uri(path: Path, mode: str) -> str:
    return f"{path.absolute().as_uri()}?mode={mode}"


def _write_note(database: sqlite3.Connection, name: str, value: object) -> None:
    text = json.dumps(value)
    database.execute("REPLACE INTO notes VALUES (?, ?, ?)", (name, text, _note_sum(name, text)))


def _note_sum(name: str, text: str) -> int:
    return crc32(ascii((name, text)).encode())


def _file_values(file: _FileRow) -> tuple[int | str | bytes, ...]:
    return file.id, _as_value(file.path), *file[2:], file.sum


def _file_row(values: tuple[Any, ...]) -> _FileRow:
    number, path, *rest, checksum = values
    file = _FileRow(number, _as_path(path), *rest)
    if file.sum != checksum:
        raise ValueError(f"its file {number} is not as it was written")
    return file


# A file name need not be text: Python shows its stray bytes as lone surrogates, which SQLite does not take as text.
def _as_value(path: str) -> str | bytes:
    return path if path.isascii() or not _STRAY.search(path) else path.encode("utf-8", "surrogatepass")


def _as_path(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")


def _head(row: tuple[Any, ...]) -> tuple[int, int, int, int, float, float, int]:
    """What an element of `_HEAD` holds of a row of `_UNITS`."""
    *head, vector, checksum = row
    if _unit_sum(head, vector) != checksum:
        raise ValueError(f"its vector {row[0]} is not as it was written")
    number, file, kind, page, start_s, end_s = head
    return number, file, _KINDS.index(kind), page, start_s, end_s, checksum


def _unit_sum(head: list[int | str | float], vector: bytes) -> int:
    return crc32(vector, crc32(ascii(head).encode()))


@contextmanager
def _explained(place: Path, verb: _Verb) -> Iterator[None]:
    """Turn what SQLite or the disk say into the user's error."""
    try:
        yield
    except VLM2VecError:
        raise
    except (sqlite3.Error, OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        why = reason(error) if isinstance(error, OSError) else str(error) or type(error).__name__
        message = f"cannot {verb} the index {place}: {why}"
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise BusyError(f"{message}; another process uses it, wait until it is done") from error
        if verb == "write" and (code in _OF_DISK or isinstance(error, OSError)):
            raise StorageError(
                f"{message}; make room on its disk, or allow this user to write", "other_index"
            ) from error
        if code == sqlite3.SQLITE_READONLY:
            message += "; a writer was stopped in the middle, and a user who may write must open it first"
        elif code == sqlite3.SQLITE_CANTOPEN and not os.access(place / DATABASE, os.R_OK):
            raise IndexFolderError(f"{message}; allow this user to read it", "other_index") from error
        raise IndexFolderError(message, "rebuild") from error
