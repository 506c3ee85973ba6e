"""How are files written whole or not at all, locked, and told apart by their content?"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from vlm2vec.errors import Action, BusyError, Hint, StorageError

_DRAFT = re.compile(r".+\.[0-9a-f]{32}\.part")
# On Windows: longer than it takes to rename a file.
_CLOSED_FOR_S = 60.0


def content_hash(source: Path | bytes) -> str:
    """32 hex digits of a file's bytes: equal contents have equal ones.

    Raises:
        OSError: the file cannot be read.
    """
    empty = partial(hashlib.blake2b, digest_size=16)
    with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
        return hashlib.file_digest(stream, empty).hexdigest()


def reason(error: Exception) -> str:
    """Why something failed: what the system says, in its own words and without the path, which stands beside it."""
    return error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)


@contextmanager
def writing(path: Path, *hints: Hint | Action, to: str = "") -> Iterator[None]:
    """Turn what the system says while `path` is written into the user's error.

    Args:
        hints: what to do next.
        to: what is written there, in front of the path: "vectors to".

    Raises:
        StorageError: the disk is full, or it may not be written there.
    """
    try:
        yield
    except OSError as error:
        what = f"{to} {path}" if to else str(path)
        raise StorageError(f"cannot write {what}: {reason(error)}", *hints) from error


@contextmanager
def locked(path: Path, who: str, *hints: Hint | Action, patience_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path`, whose folder must exist; the system lets go of it when this process ends.

    Args:
        who: holds it if it is not free, as the beginning of a sentence: "another run is training in out".
        hints: what to do next.
        patience_s: how long to wait for it; negative: for ever.

    Raises:
        BusyError: another process, or another thread of this one, holds it for longer than that.
        StorageError: the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=patience_s)
    with writing(path, *hints):
        try:
            lock.acquire()
        except Timeout:  # Which is an OSError.
            raise BusyError(f"{who}; wait for it to end, or stop it", *hints) from None
    try:
        yield
    finally:
        lock.release()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file that is there whole or not at all; text as UTF-8.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_writer(path) as stream:
        stream.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Write a file that is there whole or not at all, whatever ends the process.

    A killed process leaves a draft, which `remove_drafts` tells from one that is being written.

    Raises:
        OSError: it cannot be written.
    """
    with ExitStack() as stack:
        while True:
            # A number of the process would not do: those of two machines that share the folder may be equal.
            draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
            stack.callback(draft.unlink, missing_ok=True)
            stream = stack.enter_context(draft.open("wb"))
            stack.enter_context(_locked(stream))
            # Before it was locked another process may have taken it for one that was left.
            if draft.exists():
                break
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
        stream.close()
        os.replace(draft, path)


def remove_drafts(folder: Path) -> None:
    """Delete the drafts of `atomic_writer` in a folder that nobody is writing any more; none where it is missing.

    What cannot be locked or deleted stays.
    """
    with suppress(OSError):
        for name in sorted(os.listdir(folder)):
            if _DRAFT.fullmatch(name):
                with suppress(OSError):
                    _remove_left(folder / name)


if sys.platform == "win32":

    @contextmanager
    def _locked(stream: BinaryIO) -> Iterator[None]:
        # An open file cannot be deleted there.
        yield

    def _remove_left(draft: Path) -> None:
        # Not one that has just been closed to get its name.
        if time.time() - draft.stat().st_mtime > _CLOSED_FOR_S:
            draft.unlink()

else:
    import fcntl

    @contextmanager
    def _locked(stream: BinaryIO) -> Iterator[None]:
        """Hold a file's lock until the end, also when the stream has been closed; on file systems without locks not."""
        # A second number of the same open file, which keeps the lock.
        descriptor = os.dup(stream.fileno())
        try:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _remove_left(draft: Path) -> None:
        # NFS locks only what is open for writing.
        with draft.open("r+b") as stream:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.unlink()
