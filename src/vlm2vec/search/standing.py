"""Which files does an index know as they are, with their vectors or as unreadable?"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vlm2vec.errors import VLM2VecError
from vlm2vec.search.explaining import explained
from vlm2vec.search.info import DECODING
from vlm2vec.search.rows import UNKNOWN, StoredFile
from vlm2vec.search.scan import FoundFile, Scan, scan_folder
from vlm2vec.search.seal import FAILURES, read_sealed, write_sealed
from vlm2vec.search.table import TABLE_FOLDER

if TYPE_CHECKING:
    from vlm2vec.search.index import Index

# So few may have been replaced by hand, each of them.
_FEW = 8


class Failure(NamedTuple):
    """A file that could not be read, or not in all its parts.

    Args:
        reason: in words, without its path.
        look: its size, times and inode when it was tried; None: the system would not even show them.
    """

    reason: str
    look: tuple[int, int, int, int] | None


class Standing:
    """What an index knows of the files that were found in its folder.

    A file is as it was if its size, both its times and its inode are. An index that was made before the time of change
    and the inode were stored goes by the others. Some network drives number files anew every time: where most of the
    files that are otherwise as they were have another inode, inodes do not count.
    """

    def __init__(
        self, stored: Mapping[str, StoredFile], failures: Mapping[str, Failure], found: Iterable[FoundFile]
    ) -> None:
        self._stored = stored
        self._failures = failures
        pairs = [(file, stored[file.path]) for file in found if file.path in stored]
        same = [(file, one) for file, one in pairs if _times_agree(file, one) and one.inode != UNKNOWN]
        num_moved = sum(file.inode != one.inode for file, one in same)
        self._inodes_count = num_moved <= len(same) // 2 or len(same) < _FEW

    def is_as_stored(self, file: FoundFile) -> bool:
        """Whether the rows of a file are those of its content, as far as can be told without reading it."""
        stored = self._stored.get(file.path)
        if stored is None or not _times_agree(file, stored):
            return False
        return not self._inodes_count or stored.inode in (UNKNOWN, file.inode)

    def is_current(self, file: FoundFile) -> bool:
        """Whether the index has all parts of a file as it is."""
        stored = self._stored.get(file.path)
        return stored is not None and stored.complete and self.is_as_stored(file)

    def has_failed(self, file: FoundFile) -> bool:
        """Whether the file, as it is, could not be read before."""
        failure = self._failures.get(file.path)
        return failure is not None and failure.look == (file.size, file.mtime_ns, file.ctime_ns, file.inode)

    def is_known_failure(self, path: str, reason: str) -> bool:
        """Whether the system refused a file or folder before for the same reason."""
        return self._failures.get(path) == Failure(reason, None)

    def lacking_looks(self, scan: Scan) -> dict[str, tuple[int, int]]:
        """Change time and inode of files that are as they were, where the index does not have them yet."""
        return {
            file.path: (file.ctime_ns, file.inode)
            for file in scan.files
            if file.path in self._stored and self._stored[file.path].ctime_ns == UNKNOWN and self.is_as_stored(file)
        }


def is_current(index: Index) -> bool:
    """Whether `Index.add` would find nothing to do, as far as sizes, times and inodes tell.

    Files that could not be read before and have not changed since are nothing to do.
    """
    index.table.refresh()
    before = index.table.files()
    scan = scan_folder(index.folder, skip=[index.path])
    standing = Standing(before, read_failures(index.path), scan.files)
    return (
        index.decoding >= DECODING
        and all(standing.is_known_failure(path, reason) for path, reason in scan.failed)
        and all(standing.is_current(file) or standing.has_failed(file) for file in scan.files)
        and not removed_files(scan, before)
    )


def removed_files(scan: Scan, before: Mapping[str, StoredFile]) -> list[str]:
    """Indexed files that are gone; what lies in a folder that could not be listed is not known to be gone."""
    there = {file.path for file in scan.files} | {path for path, _ in scan.failed}
    unlisted = tuple(path for path, _ in scan.failed if path.endswith("/"))
    return [path for path in before if path not in there and not (unlisted and path.startswith(unlisted))]


def read_failures(place: Path) -> dict[str, Failure]:
    """The files of the index at `place` that could not be read; none where that is not known, or is out of date."""
    try:
        value = read_sealed(place / TABLE_FOLDER / FAILURES)
    except (OSError, ValueError):
        return {}
    if value is None or value["decoding"] != DECODING:
        # They may be readable now.
        return {}
    return {path: Failure(reason, look and tuple(look)) for path, (reason, look) in value["failures"].items()}


def write_failures(place: Path, failures: Mapping[str, Failure]) -> None:
    """Write down the files that could not be read, if there is something new in them."""
    if failures != read_failures(place):
        with explained(place, "write"):
            write_sealed(place / TABLE_FOLDER / FAILURES, {"decoding": DECODING, "failures": failures})


def is_lasting(error: OSError | VLM2VecError) -> bool:
    """Whether a file fails until it is changed; False where the system had trouble that may be over soon."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, MemoryError):
        return False
    return not isinstance(cause, OSError) or cause.errno in (None, errno.EACCES, errno.EPERM)


def _times_agree(file: FoundFile, stored: StoredFile) -> bool:
    times = (stored.size, stored.mtime_ns) == (file.size, file.mtime_ns)
    return times and stored.ctime_ns in (UNKNOWN, file.ctime_ns)
