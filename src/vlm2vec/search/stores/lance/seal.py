"""Do the files of a table still hold what was written into them?"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vlm2vec.documents import parse_json
from vlm2vec.files import content_hash

FAILURES = "failures.json"
"""Files that could not be read; no part of the table."""

_CHECKSUMS = "checksums.json"

_DRAFT = ".part"
# LanceDB writes it anew with every commit. If it lies, the version that is opened tells.
_HINT = "_versions/latest_version_hint.json"
_MANIFESTS = "_versions/"
# Nothing that is read later stands in them, and they may break.
_SPARE = "_transactions"
# Two writes within one tick of the system's clock leave the same times.
_TICK_NS = 50_000_000
_TRIES = 5


class _Sum(NamedTuple):
    """The checksum of a file and how the file looked when it had it."""

    checksum: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class _Sums(NamedTuple):
    """The checksums of all files of a table.

    Args:
        version: of the table.
        settled: False while old versions are being cleared away, so that files of theirs may be gone.
        files: by name, with "/" between its parts.
        written_ns: when this was written.
    """

    version: int
    settled: bool
    files: dict[str, _Sum]
    written_ns: int


class SealReport(NamedTuple):
    """What a check has found.

    Args:
        version: the oldest that the table may have.
        problems: one sentence for each file that is not as it was written.
        num_files: how many have a checksum.
        moved: whether files look other than they did, as after a copy, and are read by every check until `seal`.
    """

    version: int
    problems: list[str]
    num_files: int
    moved: bool


def read_sealed(path: Path) -> dict[str, Any] | None:
    """Read a JSON object that `write_sealed` has written; None if there is none.

    Raises:
        ValueError: it is damaged.
        OSError: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        value = parse_json(content)
        if isinstance(value, dict) and value.pop("checksum", None) == _checksum_of(value):
            return value
    except (ValueError, RecursionError):
        pass
    raise ValueError(f"its file {path.name} is damaged")


def write_sealed(path: Path, value: Mapping[str, object]) -> None:
    """Write a JSON object with its checksum, in one step."""
    draft = path.with_name(path.name + _DRAFT)
    draft.write_text(json.dumps({"checksum": _checksum_of(value), **value}), encoding="utf-8")
    os.replace(draft, path)


def seal(folder: Path, version: int, *, settled: bool = True) -> None:
    """Write down the checksums of all files of the table in `folder`, reading only those that are new or look new.

    Args:
        version: that the table has now.
        settled: False before old versions are cleared away, which takes files that then have a checksum.

    Raises:
        ValueError: a file is not as it was written.
    """
    before = _read(folder)
    known = before.files if before else {}
    files = {}
    for name, status in _tree(folder):
        sum_of_it = known.get(name)
        if sum_of_it is None or _looks_new(sum_of_it, status, before):
            new = _Sum(content_hash(folder / name), *_look(status))
            if sum_of_it is not None and new.checksum != sum_of_it.checksum:
                raise ValueError(_not_as_written(name))
            sum_of_it = new
        files[name] = sum_of_it
    if before is None or (before.version, before.settled, before.files) != (version, settled, files):
        _write(folder, version, settled, files)


def check(folder: Path, *, expected: bool, wholly: bool = False) -> SealReport | None:
    """Compare the files of the table in `folder` with their checksums; None if it has none.

    A file is read only if its size, times or inode are other than those that `seal` has written down.

    Args:
        expected: whether the table must have checksums.
        wholly: read every file.

    Raises:
        ValueError: the checksums are damaged, or missing where they are expected.
        OSError: a file cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"its folder {folder.name} is missing")
    sums = _read(folder)
    if sums is None:
        if expected:
            raise ValueError(f"its file {_CHECKSUMS} is missing")
        return None
    tries = _TRIES
    while True:
        tries -= 1
        report = _compare(folder, sums, wholly)
        # A writer may have been at work between the reading of the checksums and that of the files.
        if not (report.problems and tries):
            return report
        again = _read(folder)
        if again is None or again == sums:
            return report
        sums = again


def _compare(folder: Path, sums: _Sums, wholly: bool) -> SealReport:
    there = dict(_tree(folder))
    # Someone has written since and may have cleared away: a writer at work, one that was stopped, or an older version
    # of this package.
    may_miss = not sums.settled or any(name.startswith(_MANIFESTS) for name in there.keys() - sums.files.keys())
    problems, moved = [], False
    for name, sum_of_it in sums.files.items():
        status = there.get(name)
        if status is None:
            if not may_miss:
                problems.append(f"its file {name} is missing")
            continue
        moved |= _look(status) != sum_of_it[1:]
        if (wholly or _looks_new(sum_of_it, status, sums)) and _differs(folder / name, sum_of_it):
            problems.append(_not_as_written(name))
    return SealReport(sums.version, problems, len(sums.files), moved)


def _read(folder: Path) -> _Sums | None:
    value = read_sealed(folder / _CHECKSUMS)
    if value is None:
        return None
    files = {name: _Sum(*entry) for name, entry in value["files"].items()}
    return _Sums(value["version"], value["settled"], files, value["written_ns"])


def _write(folder: Path, version: int, settled: bool, files: Mapping[str, _Sum]) -> None:
    path = folder / _CHECKSUMS
    # By the clock of the file system, which need not be this machine's.
    draft = path.with_name(_CHECKSUMS + _DRAFT)
    draft.touch()
    written_ns = draft.stat().st_mtime_ns
    value = {"version": version, "settled": settled, "written_ns": written_ns, "files": files}
    write_sealed(path, value)


def _tree(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """All files of the folder that matter to a reader; those that go meanwhile are left out."""
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            with os.scandir(folder / prefix) as listing:
                entries = list(listing)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            name = prefix + entry.name
            try:
                if entry.is_dir():
                    if name != _SPARE:
                        waiting.append(f"{name}/")
                elif name != _HINT and not name.startswith((_CHECKSUMS, FAILURES)):
                    yield name, os.stat(entry.path)
            except FileNotFoundError:
                continue


def _looks_new(sum_of_it: _Sum, status: os.stat_result, sums: _Sums | None) -> bool:
    just_written = sums is not None and status.st_ctime_ns > sums.written_ns - _TICK_NS
    return just_written or _look(status) != sum_of_it[1:]


def _look(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _differs(path: Path, sum_of_it: _Sum) -> bool:
    try:
        return content_hash(path) != sum_of_it.checksum
    except FileNotFoundError:
        # Cleared away meanwhile.
        return False


def _checksum_of(value: Mapping[str, object]) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def _not_as_written(name: str) -> str:
    return f"its file {name} is not as it was written"
