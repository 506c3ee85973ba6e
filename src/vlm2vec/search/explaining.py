"""How does trouble with the disk or with LanceDB become the user's error?"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from vlm2vec.errors import IndexFolderError, StorageError, VLM2VecError

# LanceDB hands on the system's number in its text only.
_SYSTEM_NUMBER = re.compile(r"os error (\d+)")
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_ACCESS = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def explained(place: Path, verb: Literal["open", "read", "write"]) -> Iterator[None]:
    """Turn whatever LanceDB or the disk raise into the user's error; Lance has no exception classes of its own.

    Raises:
        StorageError: it was to be written.
        IndexFolderError: it was to be opened or read, or Lance itself broke down over it.
    """
    try:
        yield
    except VLM2VecError:
        raise
    except BaseException as error:
        panic = type(error).__name__ == "PanicException"
        if not (panic or _is_of_disk_or_table(error)):
            raise
        kind = StorageError if verb == "write" and not panic else IndexFolderError
        # Lance appends the place in its own sources.
        reason = re.split(r",? *(?:at )?\S+\.rs:\d+", str(error))[0].strip()
        raise kind(f"cannot {verb} the index {place}: {reason}; {_remedy(error)}") from error


def _is_of_disk_or_table(error: BaseException) -> bool:
    foreign = type(error).__module__.partition(".")[0] in ("lance", "lancedb", "pyarrow")
    return foreign or isinstance(error, (OSError, RuntimeError, ValueError, KeyError, OverflowError, MemoryError))


def _remedy(error: BaseException) -> str:
    stated = _SYSTEM_NUMBER.search(str(error))
    number = error.errno if isinstance(error, OSError) and error.errno else int(stated[1]) if stated else 0
    if number in _NO_ROOM:
        return "make room on its disk, or give a place on another one with --index"
    if number in _NO_ACCESS:
        return "allow this user to use it, or give another place with --index"
    return "if it is damaged, 'vlm2vec index FOLDER --rebuild' makes it anew"
