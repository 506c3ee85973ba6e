"""How does trouble with the disk, with SQLite or with LanceDB become the user's error?"""

from __future__ import annotations

import errno
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from vlm2vec.errors import BusyError, IndexFolderError, StorageError, VLM2VecError
from vlm2vec.files import reason

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


@contextmanager
def explained(place: Path, verb: Literal["open", "read", "write"]) -> Iterator[None]:
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
        message = f"cannot {verb} the index {place}: {_reason(error)}"
        if number == errno.EAGAIN:
            raise BusyError(f"{message}; wait until the other process is done") from error
        of_disk = number or (verb == "write" and isinstance(error, (OSError, RuntimeError)))
        kind = StorageError if verb == "write" and of_disk and not panic else IndexFolderError
        if number in _NO_ROOM:
            raise kind(f"{message}; make room on its disk", "other_index") from error
        if number in _NO_ACCESS:
            raise kind(f"{message}; allow this user to use it", "other_index") from error
        raise kind(message, "rebuild") from error


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
