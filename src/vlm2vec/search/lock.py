"""How is an index kept from being written by two processes at once?"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlm2vec.errors import BusyError, StorageError

LOCK = "lock"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Hold the write lock of the index folder `path`, which must exist.

    The lock is the operating system's, on a file that names the writer's process id for others to read. It goes with
    its process however that ends, so a killed run leaves nothing to clear away; the file itself stays.

    Raises:
        BusyError: another process, or another writer of this one, holds it.
        StorageError: the folder cannot be written, as where its disk is full or knows no locks.
    """
    with _explained(path):
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with _explained(path):
            if not _try_lock(descriptor):
                holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
                raise BusyError(
                    f"the index {path} is being written by process {holder}; wait until it is done, or stop that "
                    "process"
                )
            os.truncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        # Closing releases the lock.
        os.close(descriptor)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write to the index {path}: {error.strerror}; give a folder that you can write to with --index"
        ) from error


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

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
