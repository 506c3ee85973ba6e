"""How does a file get onto the disk whole or not at all?"""

from __future__ import annotations

import os
import re
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_DRAFT = re.compile(r".+\.[0-9a-f]{32}\.part")
# On Windows: longer than it takes to rename a file.
_CLOSED_FOR_S = 60.0


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
