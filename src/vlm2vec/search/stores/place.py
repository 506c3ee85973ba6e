"""Is a folder an index, may it become one, who is writing it, and what does trouble with it mean for its user?"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vlm2vec.documents import load_json
from vlm2vec.errors import BusyError, IndexFolderError, StorageError, VLM2VecError
from vlm2vec.files import reason
from vlm2vec.search.ignore import REMEMBERED
from vlm2vec.search.store import DEFAULT_NAME

DATABASE = "library.db"
"""All of an index that SQLite keeps."""

INFO, TABLE = "index.json", "units.lance"
"""An index that LanceDB keeps: what it says of itself, and the folder of its table."""

APPLICATION_ID = 0x766C6D32
"""Tells a database of this package from another program's of the same name."""

DRAFT = ".part"
"""Ends the name of a file that is not whole yet."""

JOURNALS = ("-journal", "-wal", "-shm")
"""End the names of the files that SQLite may leave beside a database."""

_LOCK = "lock"
# The first two make a folder an index.
_OURS = (DATABASE, INFO, TABLE, INFO + DRAFT, DATABASE + DRAFT, *(DATABASE + end for end in JOURNALS))
# Where a database file has it, by SQLite's description of its format.
_ID_AT = 68
# Lance hands on the system's number in its text only, and SQLite a number of its own.
_SYSTEM_NUMBER = re.compile(r"os error (\d+)")
_NUMBERS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_BUSY: errno.EAGAIN,
    sqlite3.SQLITE_LOCKED: errno.EAGAIN,
}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_ACCESS = {errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of an index, which may not exist yet."""

    path: Path

    @property
    def has_database(self) -> bool:
        """Whether SQLite keeps the index; True as well where nobody may look."""
        return _is_there(self.path / DATABASE)

    @property
    def has_info(self) -> bool:
        """Whether LanceDB keeps the index; True as well where nobody may look."""
        return _is_there(self.path / INFO)

    @property
    def knows_locks(self) -> bool:
        """Whether its file system has locks, which some network drives lack; True if that cannot be told."""
        try:
            with (self.path / _LOCK).open("rb") as stream:
                return _has_locks(stream.fileno())
        except OSError:
            return True

    @contextmanager
    def hold(self, try_lock: Callable[[int], bool] | None = None) -> Iterator[None]:
        """Hold the write lock of the folder, which must exist.

        The lock is the operating system's, on a file that names the writer's process id for others to read. It goes
        with its process however that ends, so a killed run leaves nothing to clear away; the file itself stays.

        Args:
            try_lock: takes the system's lock on an open file, and says whether it was free.

        Raises:
            BusyError: another process, or another writer of this one, holds it.
            StorageError: the folder cannot be written, as where its disk is full or knows no locks.
        """
        with self.explained("write"):
            descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with self.explained("write"):
                if not (try_lock or _try_lock)(descriptor):
                    holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
                    raise BusyError(
                        f"the index {self.path} is being written by process {holder}; wait until it is done, or stop "
                        "that process"
                    )
                os.truncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
            yield
        finally:
            # Closing releases the lock.
            os.close(descriptor)

    def make(self) -> None:
        """Make the folder.

        Raises:
            IndexFolderError: it cannot be made, or holds other things than an index.
        """
        lock = self.path / _LOCK
        try:
            if self.path.is_dir():
                if not self._is_ours():
                    raise IndexFolderError(f"{self.path} holds other things than an index", "other_index")
                if lock.is_symlink() or lock.is_dir():
                    _remove(lock)
            elif self.path.is_file() and not self.path.stat().st_size:
                self.path.unlink()
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = "it is a file; move it away" if isinstance(error, FileExistsError) else reason(error)
            raise IndexFolderError(f"cannot make the index folder {self.path}: {why}", "other_index") from error

    def clear(self) -> None:
        """Make the folder no index, by taking away what indexes of both kinds leave in it. The caller holds the lock.

        Raises:
            OSError: something cannot be removed, such as a folder of other things under the name of a file of ours.
        """
        for name in _OURS:
            _remove(self.path / name)

    def clear_table(self) -> None:
        """Take away what LanceDB has left where SQLite keeps the index. The caller holds the lock."""
        # Last the file by which `has_info` tells that something is left.
        for name in (TABLE, INFO + DRAFT, INFO):
            _remove(self.path / name)

    @contextmanager
    def explained(self, verb: Literal["open", "read", "write"]) -> Iterator[None]:
        """Turn whatever a store or the disk raises, or a ValueError about what was read, into the user's error.

        Raises:
            BusyError: another process has held the file for too long.
            StorageError: it was to be written, and the disk refuses.
            IndexFolderError: it cannot be opened or read, or is damaged, or Lance itself broke down over it.
        """
        try:
            yield
        except VLM2VecError:
            raise
        except BaseException as error:
            # Lance has no exception classes of its own.
            panic = type(error).__name__ == "PanicException"
            if not (panic or _is_of_store(error)):
                raise
            number = _number(error)
            message = f"cannot {verb} the index {self.path}: {_reason(error)}"
            if number == errno.EAGAIN:
                raise BusyError(f"{message}; wait until the other process is done") from error
            of_disk = number or (verb == "write" and isinstance(error, (OSError, RuntimeError)))
            kind = StorageError if verb == "write" and of_disk and not panic else IndexFolderError
            if number in _NO_ROOM:
                raise kind(f"{message}; make room on its disk", "other_index") from error
            if number in _NO_ACCESS:
                raise kind(f"{message}; allow this user to use it", "other_index") from error
            raise kind(message, "other_index" if kind is StorageError else "rebuild") from error

    def check_format(self, version: object, newest: int) -> None:
        """Raise IndexFolderError if the index was written by a newer version of this package."""
        if isinstance(version, int) and version > newest:
            raise IndexFolderError(
                f"the index {self.path} has format {version}, and this version of vlm2vec knows up to {newest}; use a "
                "newer vlm2vec",
                "rebuild",
            )

    def missing(self) -> IndexFolderError:
        return IndexFolderError(f"there is no index at {self.path}", "make_index")

    def foreign(self, name: str) -> IndexFolderError:
        return IndexFolderError(f"{self.path} is no index: its {name} is another program's", "other_index")

    def _is_ours(self) -> bool:
        """Whether the folder holds nothing but what an index leaves, whole or not; hidden files do not count."""
        names = {name for name in os.listdir(self.path) if not name.startswith(".")}
        if not names <= {_LOCK, REMEMBERED, *_OURS}:
            return False
        if self.path.name == DEFAULT_NAME or not names or names & {_LOCK, TABLE}:
            return True
        # Many programs have files of these names, but none a folder of this one.
        files = [self.path / name for name in names & {INFO, DATABASE}]
        return any(file.is_dir() or _is_made_by_us(file) for file in files)


def _remove(path: Path) -> None:
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
    elif path.name == TABLE:
        shutil.rmtree(path)
    else:
        # Only if it is empty, as that of damage is.
        path.rmdir()


def _is_there(path: Path) -> bool:
    try:
        os.stat(path)
    except OSError as error:
        return not isinstance(error, (FileNotFoundError, NotADirectoryError))
    return True


def _is_made_by_us(path: Path) -> bool:
    if path.name == DATABASE:
        with path.open("rb") as stream:
            stream.seek(_ID_AT)
            return stream.read(4) == APPLICATION_ID.to_bytes(4, "big")
    try:
        return "fingerprint" in load_json(path)
    except (ValueError, TypeError):
        return False


def _is_of_store(error: BaseException) -> bool:
    foreign = type(error).__module__.partition(".")[0] in ("sqlite3", "lance", "lancedb", "pyarrow")
    known = (OSError, RuntimeError, ValueError, TypeError, KeyError, OverflowError, MemoryError)
    return foreign or isinstance(error, known)


def _number(error: BaseException) -> int:
    """The system's number of what went wrong; 0 if it is not known."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0)
        # A file that does not take what is written is as good as a full disk.
        no_room = code in (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_TRUNCATE, sqlite3.SQLITE_IOERR_FSYNC)
        return errno.ENOSPC if no_room else _NUMBERS.get(code & 0xFF, 0)
    stated = _SYSTEM_NUMBER.search(str(error))
    return int(stated[1]) if stated else 0


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno:
        return reason(error)
    # Lance appends the place in its own sources.
    return re.split(r",? *(?:at )?\S+\.rs:\d+", str(error))[0].strip() or type(error).__name__


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        # A byte far behind the text, because a locked byte cannot be read by others there.
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

    def _has_locks(descriptor: int) -> bool:
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _has_locks(descriptor: int) -> bool:
        # One of the kind that SQLite takes. It goes when the file is closed; a writer's lock is of another kind.
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
        return True
