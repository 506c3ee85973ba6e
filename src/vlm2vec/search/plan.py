"""What has to be done so that an index holds what its folder holds?"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from vlm2vec.search.scan import FoundFile, Scan
from vlm2vec.search.store import UNKNOWN, Failure, Look, StoredFile

# So few may have been replaced by hand, each of them.
_FEW = 8


@dataclass(frozen=True, slots=True)
class UpdatePlan:
    """What to do about the files that a scan has found.

    Args:
        read: files whose content may be new: it is embedded, unless the index has it under this name or another.
        remove: stored files that are gone.
        missing: names that were asked for, and stand for no file, stored or not.
        refused: why the system refused files and folders.
        looks: how files look that are stored, where the store does not know all of it.
        keep: what failed before and stays noted.
        num_current: files that are stored as they are.
        num_skipped: files and folders that failed before, have not changed, and are not tried again.
        idle: whether nothing is to be done or noted.
    """

    read: tuple[FoundFile, ...]
    remove: tuple[str, ...]
    missing: tuple[str, ...]
    refused: Mapping[str, str]
    looks: Mapping[str, Look]
    keep: Mapping[str, Failure]
    num_current: int
    num_skipped: int
    idle: bool


def make_plan(
    scan: Scan,
    stored: Mapping[str, StoredFile],
    failures: Mapping[str, Failure],
    *,
    lacking_words: Collection[str] = (),
    names: Collection[str] | None = None,
    retry: bool = False,
) -> UpdatePlan:
    """Compare what a scan has found with what a store knows.

    Args:
        lacking_words: stored files whose words have not been read yet.
        names: the scan is of these files and folders alone. A stored file that lies there, and is missing in the
            scan, is gone. None: the scan is of all of the folder.
        retry: try also files that failed before and have not changed.
    """
    same = as_stored(scan.files, stored)
    refused = dict(scan.failed)
    skipped = set[str]()
    if failures and not retry:
        skipped = {path for path, why in refused.items() if failures.get(path) == Failure(why, None)}
        looks = {path: failure.look for path, failure in failures.items()}
        skipped |= {file.path for file in scan.files if looks.get(file.path) == file.look}
    wordless = set(lacking_words)
    current = {path for path, one in same.items() if one.complete and path not in wordless}
    read = tuple(file for file in scan.files if file.path not in current and file.path not in skipped)
    remove = tuple(_gone(scan, stored, names))
    found_once = {name for path in remove for name in _with_folders(path)} if scan.missing else set[str]()
    missing = tuple(name for name in scan.missing if name not in found_once)
    looked_at = set(_within(failures, names))
    keep = {path: failure for path, failure in failures.items() if path in skipped or path not in looked_at}
    refused = {path: why for path, why in refused.items() if path not in skipped}
    lacking = {path for path, one in same.items() if UNKNOWN in one.look[2:]}
    looks_now = {file.path: file.look for file in scan.files if file.path in lacking} if lacking else {}
    idle = not (read or remove or refused or lacking) and len(keep) == len(failures)
    return UpdatePlan(read, remove, missing, refused, looks_now, keep, len(current), len(skipped), idle)


def as_stored(found: Iterable[FoundFile], stored: Mapping[str, StoredFile]) -> dict[str, StoredFile]:
    """The stored files whose rows are those of their content, as far as can be told without reading them.

    A file is as it was if its size, both its times and its inode are. An index that was made before change times and
    inodes were stored is compared by the others. Some network drives number files anew every time: where most of the
    files that are otherwise as they were have another inode, inodes do not count.
    """
    same, moved = dict[str, StoredFile](), dict[str, StoredFile]()
    num_compared = 0
    for file in found:
        if (one := stored.get(file.path)) is None:
            continue
        look = one.look
        if look[:2] == file.look[:2] and look.ctime_ns in (UNKNOWN, file.look.ctime_ns):
            num_compared += look.inode != UNKNOWN
            (same if look.inode in (UNKNOWN, file.look.inode) else moved)[file.path] = one
    inodes_count = len(moved) <= num_compared // 2 or num_compared < _FEW
    return same if inodes_count else same | moved


def _gone(scan: Scan, stored: Mapping[str, StoredFile], names: Collection[str] | None) -> list[str]:
    """Stored files that are gone; those in a folder that could not be listed are not known to be gone."""
    there = {file.path for file in scan.files} | {path for path, _ in scan.failed}
    unlisted = tuple(path for path, _ in scan.failed if path.endswith("/"))
    inside = _within(stored, names)
    return [path for path in inside if path not in there and not (unlisted and path.startswith(unlisted))]


def _within(paths: Collection[str], names: Collection[str] | None) -> Iterable[str]:
    """The paths that are one of these names, or lie in a folder of one, each once; None: all of them."""
    if names is None or "" in names:
        return paths
    ordered = sorted(paths)
    inside = dict.fromkeys(name for name in names if name in paths)
    for name in names:
        # "0" comes next after "/".
        below = ordered[bisect_left(ordered, f"{name}/") : bisect_left(ordered, f"{name}0")]
        inside |= dict.fromkeys(below)
    return inside


def _with_folders(path: str) -> Iterator[str]:
    """A path and the folders that it lies in, nearest first."""
    yield path
    while (end := path.rfind("/")) >= 0:
        path = path[:end]
        yield path
