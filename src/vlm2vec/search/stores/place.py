"""Is a folder an index, may it become one, and who is writing it?"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vlm2vec.documents import load_json
from vlm2vec.errors import BusyError, IndexFolderError, StorageError
from vlm2vec.files import reason
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


def has_database(place: Path) -> bool:
    """Whether SQLite keeps the index at `place`; True as well where nobody may look."""
    return _is_there(place / DATABASE)


def has_info(place: Path) -> bool:
    """Whether LanceDB keeps the index at `place`; True as well where nobody may look."""
    return _is_there(place / INFO)


@contextmanager
def hold(place: Path, try_lock: Callable[[int], bool] | None = None) -> Iterator[None]:
    """Hold the write lock of the index folder `place`, which must exist.

    The lock is the operating system's, on a file that names the writer's process id for others to read. It goes with
    its process however that ends, so a killed run leaves nothing to clear away; the file itself stays.

    Args:
        try_lock: takes the system's lock on an open file, and says whether it was free.

    Raises:
        BusyError: another process, or another writer of this one, holds it.
        StorageError: the folder cannot be written, as where its disk is full or knows no locks.
    """
    with _explained(place):
        descriptor = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with _explained(place):
            if not (try_lock or _try_lock)(descriptor):
                holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
                raise BusyError(
                    f"the index {place} is being written by process {holder}; wait until it is done, or stop that "
                    "process"
                )
            os.truncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        # Closing releases the lock.
        os.close(descriptor)


def knows_locks(place: Path) -> bool:
    """Whether the file system of an index has locks, which some network drives lack; True if that cannot be told."""
    try:
        descriptor = os.open(place / _LOCK, os.O_RDONLY)
    except OSError:
        return True
    try:
        return _has_locks(descriptor)
    finally:
        os.close(descriptor)


def make_place(place: Path) -> None:
    """Make the folder of an index.

    Raises:
        IndexFolderError: it cannot be made, or holds other things than an index.
    """
    lock = place / _LOCK
    try:
        if place.is_dir():
            if not _is_ours(place):
                raise IndexFolderError(f"{place} holds other things than an index", "other_index")
            if lock.is_symlink() or lock.is_dir():
                _remove(lock)
        elif place.is_file() and not place.stat().st_size:
            place.unlink()
        place.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise IndexFolderError(
            f"cannot make the index folder {place}: it is a file; move it away", "other_index"
        ) from error
    except OSError as error:
        raise IndexFolderError(f"cannot make the index folder {place}: {reason(error)}", "other_index") from error


def clear(place: Path) -> None:
    """Make a folder no index, by taking away what indexes of both kinds leave in it. The caller holds the lock.

    Raises:
        OSError: something cannot be removed, such as a folder of other things under the name of a file of ours.
    """
    for name in _OURS:
        _remove(place / name)


def clear_table(place: Path) -> None:
    """Take away what LanceDB has left in a folder whose index SQLite keeps. The caller holds the lock."""
    # Last the file by which `has_info` tells that something is left.
    for name in (TABLE, INFO + DRAFT, INFO):
        _remove(place / name)


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
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _is_ours(place: Path) -> bool:
    """Whether a folder holds nothing but what an index leaves there, whole or not; hidden files do not count."""
    names = {name for name in os.listdir(place) if not name.startswith(".")}
    if not names <= {_LOCK, *_OURS}:
        return False
    if place.name == DEFAULT_NAME or not names or names & {_LOCK, TABLE}:
        return True
    # Many programs have files of these names, but none a folder of this one.
    return any((place / name).is_dir() or _is_made_by_us(place / name) for name in names & {INFO, DATABASE})


def _is_made_by_us(path: Path) -> bool:
    if path.name == DATABASE:
        with path.open("rb") as stream:
            stream.seek(_ID_AT)
            return stream.read(4) == APPLICATION_ID.to_bytes(4, "big")
    try:
        return "fingerprint" in load_json(path)
    except (ValueError, TypeError):
        return False


@contextmanager
def _explained(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write to the index {place}: {reason(error)}", "other_index") from error


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
