"""What has to be done so that an index holds what its folder holds?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from vlm2vec.items import ANIMATED_SUFFIXES
from vlm2vec.search.scan import FileKind, FoundFile, Scan, ending, file_kind
from vlm2vec.search.store import UNKNOWN, Failure, Look, StoredFile

# So few may have been replaced by hand, each of them.
_FEW = 8

Content: TypeAlias = tuple[str, FileKind, bool]
"""What makes files equal: hash, kind, and whether the ending is one of those whose pictures may move."""


@dataclass(frozen=True, slots=True)
class UpdatePlan:
    """What to do about the files that a scan has found.

    Args:
        read: files whose content may be new: it is embedded, unless the index has it under this name or another.
        remove: stored files that are gone.
        refused: why the system refused files and folders.
        looks: how files look that are stored, where the store does not know all of it.
        keep: what failed before and stays noted.
        num_current: files that are stored as they are.
        num_skipped: files and folders that failed before, have not changed, and are not tried again.
        idle: whether nothing is to be done or noted.
    """

    read: tuple[FoundFile, ...]
    remove: tuple[str, ...]
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
    whole: bool = True,
    retry: bool = False,
) -> UpdatePlan:
    """Compare what a scan has found with what a store knows.

    Args:
        whole: the scan is of all of the folder, so that a stored file that is missing in it is gone.
        retry: try also files that failed before and have not changed.
    """
    same = as_stored(scan.files, stored)
    current = {path for path in same if stored[path].complete}
    refused = dict(scan.failed)
    skipped = set[str]()
    if not retry:
        skipped |= {path for path, why in refused.items() if failures.get(path) == Failure(why, None)}
        looks = {path: failure.look for path, failure in failures.items()}
        skipped |= {file.path for file in scan.files if looks and looks.get(file.path) == file.look}
    read = tuple(file for file in scan.files if file.path not in current and file.path not in skipped)
    remove = tuple(_gone(scan, stored)) if whole else ()
    looked_at = failures.keys() if whole else {file.path for file in scan.files} | refused.keys()
    keep = {path: failure for path, failure in failures.items() if path in skipped or path not in looked_at}
    refused = {path: why for path, why in refused.items() if path not in skipped}
    lacking = {file.path: file.look for file in scan.files if file.path in same and UNKNOWN in stored[file.path].look}
    idle = not (read or remove or refused or lacking) and len(keep) == len(failures)
    return UpdatePlan(read, remove, refused, lacking, keep, len(current), len(skipped), idle)


def as_stored(found: Iterable[FoundFile], stored: Mapping[str, StoredFile]) -> set[str]:
    """The files whose rows are those of their content, as far as can be told without reading them.

    A file is as it was if its size, both its times and its inode are. An index that was made before change times and
    inodes were stored is compared by the others. Some network drives number files anew every time: where most of the
    files that are otherwise as they were have another inode, inodes do not count.
    """
    same, moved = set[str](), set[str]()
    num_compared = 0
    for file in found:
        one = stored.get(file.path)
        if one is None or not (one.look == file.look or _times_agree(one.look, file.look)):
            continue
        if one.look.inode != UNKNOWN:
            num_compared += 1
            if one.look.inode != file.look.inode:
                moved.add(file.path)
                continue
        same.add(file.path)
    inodes_count = len(moved) <= num_compared // 2 or num_compared < _FEW
    return same if inodes_count else same | moved


def content_of(path: str, kind: FileKind, content_hash: str) -> Content:
    """What a file must have in common with another one so that both have the same vectors."""
    return content_hash, kind, ending(path) in ANIMATED_SUFFIXES


class Holders:
    """Which stored files are whole, by their content.

    Args:
        stored: what is in the store; kept true by its owner with every commit, `add` aside.
    """

    def __init__(self, stored: Mapping[str, StoredFile]) -> None:
        self._stored = stored
        self._paths: dict[Content, list[str]] = {}
        for path in sorted(stored, reverse=True):
            self.add(path)

    def add(self, path: str) -> None:
        """Take in a file that has come into the store."""
        if (content := self._content(path)) is not None:
            self._paths.setdefault(content, []).append(path)

    def find(self, content: Content, path: str) -> str | None:
        """A file with this content, `path` itself by preference; None if the store has none."""
        if self._content(path) == content:
            return path
        paths = self._paths.get(content, [])
        while paths and self._content(paths[-1]) != content:
            # It has left the store since, or has become another.
            paths.pop()
        return paths[-1] if paths else None

    def _content(self, path: str) -> Content | None:
        one, kind = self._stored.get(path), file_kind(path)
        return content_of(path, kind, one.content_hash) if one is not None and one.complete and kind else None


def _times_agree(stored: Look, found: Look) -> bool:
    times = (stored.size, stored.mtime_ns) == (found.size, found.mtime_ns)
    return times and stored.ctime_ns in (UNKNOWN, found.ctime_ns)


def _gone(scan: Scan, stored: Mapping[str, StoredFile]) -> list[str]:
    """Stored files that are gone; those in a folder that could not be listed are not known to be gone."""
    there = {file.path for file in scan.files} | {path for path, _ in scan.failed}
    unlisted = tuple(path for path, _ in scan.failed if path.endswith("/"))
    return [path for path in stored if path not in there and not (unlisted and path.startswith(unlisted))]
