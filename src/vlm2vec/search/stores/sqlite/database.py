"""How is a database file read and changed in whole transactions, whatever other processes do with it?"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias
from zlib import crc32

from vlm2vec.errors import MissingError
from vlm2vec.search.stores.place import APPLICATION_ID, DATABASE, DRAFT, JOURNALS, Place
from vlm2vec.search.stores.spelling import STEMMED, UNSTEMMED

Table: TypeAlias = Literal["files", "units", "names", "words", "passages"]
Index: TypeAlias = Literal["text_index", "name_index", "part_index"]
INDEXES: tuple[Index, ...] = ("text_index", "name_index", "part_index")

_FIRST_FORMAT, _FORMAT = 1, 2
# No index of SQLite's: rows are found by their numbers, so nothing can disagree with them.
_FIRST_TABLES = {
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
# What is found by words. Names have the numbers of their files, words those of their units.
_WORD_TABLES = {
    "names": (
        "CREATE TABLE names (id INTEGER PRIMARY KEY, first_unit INTEGER NOT NULL, num_units INTEGER NOT NULL, "
        "first_passage INTEGER NOT NULL, num_passages INTEGER NOT NULL, reading INTEGER NOT NULL, name TEXT NOT NULL, "
        "folders TEXT NOT NULL, sum INTEGER NOT NULL)"
    ),
    "words": (
        "CREATE TABLE words (id INTEGER PRIMARY KEY, text TEXT NOT NULL, about TEXT NOT NULL, sum INTEGER NOT NULL)"
    ),
    "passages": (
        "CREATE TABLE passages (id INTEGER PRIMARY KEY, file INTEGER NOT NULL, kind TEXT NOT NULL, page INTEGER, "
        "start_s REAL, end_s REAL, vector BLOB NOT NULL, sum INTEGER NOT NULL, unit INTEGER NOT NULL)"
    ),
}
# Full text, without the text: its words are spelled otherwise there (`spelling`), so SQLite could not read them back.
_INDEXES = {
    "text_index": f"CREATE VIRTUAL TABLE text_index USING fts5(text, about, content='', tokenize='{STEMMED}')",
    "name_index": f"CREATE VIRTUAL TABLE name_index USING fts5(name, folders, content='', tokenize='{UNSTEMMED}')",
    "part_index": "CREATE VIRTUAL TABLE part_index USING fts5(name, content='', columnsize=0, tokenize='trigram')",
}
_TABLES = _FIRST_TABLES | _WORD_TABLES | _INDEXES
# FTS5's own tables of each index.
_SHADOWS = {f"{index}_{end}" for index in _INDEXES for end in ("data", "idx", "docsize", "config")}
_SHADOWS -= {"part_index_docsize"}
# The first whose FTS5 has the tokenizer "trigram".
_OLDEST = (3, 34, 0)
# Five vectors of 384 numbers fit on one: 100,000 are read in two thirds of the time that pages of 4096 bytes take.
_PAGE_BYTES = 8192
# Pages of removed rows are written again; more than this share of the file goes back to the disk.
_MOST_SPARE = 0.5
# Another process may take so long over one commit, or over the reading of all vectors.
_PATIENCE_S = 60.0


class Database:
    """One connection to a database, for any number of threads.

    One of format 1 has no words. It is read as it is, and gets the tables of format 2 with its next change, so that it
    can also be searched where it may not be written.

    The file has a rollback journal and no write-ahead log. A log needs two more files that readers write too, so that
    an index on a read-only disk could not be opened, and shared memory, which network drives lack; and what it would
    give, reading while a commit is written, is not missed: a commit takes some milliseconds, and others wait for it.
    A killed writer leaves a journal by which the next process that opens the file undoes the half commit.
    """

    def __init__(self, place: Place, name: str = DATABASE) -> None:
        self._place = place
        self._path = place.path / name
        # Held while the connection, or what its user knows of the file, is used.
        self._lock = threading.RLock()
        self._num_undone = 0
        with place.explained("open"):
            self._connect()

    @classmethod
    @contextmanager
    def made(cls, place: Place, notes: Mapping[str, object]) -> Iterator[Self]:
        """A new database to be filled; at the end it takes the place of any in the folder, unless an error comes."""
        _require_full_text()
        path, draft = place.path / DATABASE, place.path / (DATABASE + DRAFT)
        with place.explained("write"):
            draft.unlink(missing_ok=True)
            with closing(sqlite3.connect(_uri(draft, "rwc"), uri=True, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode=OFF")
                connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={_FORMAT}")
                for statement in _TABLES.values():
                    connection.execute(statement)
        database = cls(place, draft.name)
        try:
            # A killed process leaves no journal that would undo the next draft.
            database.execute("PRAGMA journal_mode=MEMORY")
            with database.changing():
                for name, value in notes.items():
                    database.write_note(name, value)
            yield database
            database.close()
            with place.explained("write"):
                # The journal of a database that was here before would undo this one.
                for end in JOURNALS:
                    path.with_name(DATABASE + end).unlink(missing_ok=True)
                os.replace(draft, path)
        except BaseException:
            database.close()
            with suppress(OSError):
                draft.unlink()
            raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """All that is read inside is of one state of the file, the newest."""
        with self._lock, self._place.explained("read"):
            if self._look() != self._status:
                # It was made anew.
                self._connection.close()
                self._connect()
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                # Of a damaged file this can fail too, and says nothing new.
                with suppress(sqlite3.Error):
                    self._connection.execute("COMMIT")

    @contextmanager
    def changing(self) -> Iterator[None]:
        """All that is written inside is in the file afterwards, or nothing of it."""
        with self._lock, self._place.explained("write"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                if not self.has_words:
                    self._add_word_tables()
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                self._num_undone += 1
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    @property
    def state(self) -> tuple[int, ...]:
        """Equal as long as the file holds what it held, but for the changes that this connection has made."""
        # Device and inode of the file, changes that others have made, and those of this connection that failed.
        return *self._status, self._pragma("data_version"), self._num_undone

    @property
    def has_words(self) -> bool:
        """Whether it has the tables of words."""
        return self._pragma("user_version") > _FIRST_FORMAT

    def execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        return self._connection.execute(statement, values)

    def insert(self, table: Table, rows: Sequence[Sequence[object]]) -> None:
        """Write rows; one of a number that is there takes its place."""
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            self._connection.executemany(f"REPLACE INTO {table} VALUES ({marks})", rows)

    def put(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Write rows by a statement of another kind."""
        self._connection.executemany(statement, rows)

    @contextmanager
    def spilling(self) -> Iterator[None]:
        """For a change of most rows, which memory need not hold: others cannot read until it is done."""
        self.execute("PRAGMA cache_spill=ON")
        try:
            yield
        finally:
            self.execute("PRAGMA cache_spill=OFF")

    def note(self, name: str) -> Any:
        """The JSON value that was written under this name.

        Raises:
            ValueError: it is damaged.
        """
        row = self.execute("SELECT value, sum FROM notes WHERE name = ?", (name,)).fetchone()
        if row is None or _note_sum(name, row[0]) != row[1]:
            raise ValueError(f"its note of {name} is not as it was written")
        return json.loads(row[0])

    def has_note(self, name: str) -> bool:
        return bool(self.execute("SELECT count(*) FROM notes WHERE name = ?", (name,)).fetchone()[0])

    def write_note(self, name: str, value: object) -> None:
        text = json.dumps(value)
        self.execute("REPLACE INTO notes VALUES (?, ?, ?)", (name, text, _note_sum(name, text)))

    def has_much_room(self) -> bool:
        """Whether removed rows have left so much room that it should go back to the disk."""
        with self._lock, self._place.explained("read"):
            return self._pragma("freelist_count") > _MOST_SPARE * self._pragma("page_count")

    def shrink(self) -> None:
        """Give spare room back to the disk."""
        # A disk without room for a second file keeps the first as it is.
        with self._lock, self._place.explained("write"), suppress(sqlite3.OperationalError):
            self._connection.execute("VACUUM")

    def problems(self) -> list[str]:
        """What SQLite finds wrong with the file, one sentence each."""
        lines = [line for (line,) in self.execute("PRAGMA integrity_check")]
        found = [" ".join(line.split()) for line in lines if line != "ok"]
        for index in _INDEXES if self.has_words else ():
            try:
                self.execute(f"INSERT INTO {index}({index}) VALUES ('integrity-check')")
            except sqlite3.OperationalError:
                # It takes the right to write, though it writes nothing; where that cannot be had, checksums must do.
                break
            except sqlite3.DatabaseError as error:
                found.append(f"its full text ({index}) is damaged: {error}")
        return found

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _connect(self) -> None:
        self._status = self._look()
        # Where the file may not be written, SQLite opens it for reading; where there are no locks, it does not wait for
        # one in vain, and nobody can write.
        mode = "rw" if self._place.knows_locks else "ro&nolock=1"
        self._connection = sqlite3.connect(
            _uri(self._path, mode), uri=True, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False
        )
        try:
            # Others may read until the very end of a change.
            self.execute("PRAGMA cache_spill=OFF")
            self._check_tables()
        except BaseException:
            self._connection.close()
            raise

    def _check_tables(self) -> None:
        tables = dict(self.execute("SELECT name, sql FROM sqlite_master").fetchall())
        if tables and tables.keys().isdisjoint(_TABLES):
            raise self._place.foreign(DATABASE)
        version = self._pragma("user_version")
        self._place.check_format(version, _FORMAT)
        ours = {name: tables[name] for name in tables.keys() - _SHADOWS}
        shadows = tables.keys() & _SHADOWS
        expected = (_FIRST_TABLES, set()) if version == _FIRST_FORMAT else (_TABLES, _SHADOWS)
        if version < _FIRST_FORMAT or (ours, shadows) != expected:
            raise ValueError("it has other tables than expected")

    def _add_word_tables(self) -> None:
        _require_full_text()
        for statement in (_WORD_TABLES | _INDEXES).values():
            self.execute(statement)
        self.execute(f"PRAGMA user_version={_FORMAT}")

    def _look(self) -> tuple[int, int]:
        """Device and inode of the file."""
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            raise self._place.missing() from None
        return status.st_dev, status.st_ino

    def _pragma(self, name: str) -> int:
        (value,) = self.execute(f"PRAGMA {name}").fetchone()
        return int(value)


def _require_full_text() -> None:
    """Raise MissingError where SQLite is older than its index of parts of words."""
    if sqlite3.sqlite_version_info < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise MissingError(
            f"an index needs SQLite {oldest}, and this Python has {sqlite3.sqlite_version}: use another Python"
        )


def _uri(path: Path, mode: str) -> str:
    return f"{path.absolute().as_uri()}?mode={mode}"


def _note_sum(name: str, text: str) -> int:
    return crc32(ascii((name, text)).encode())
