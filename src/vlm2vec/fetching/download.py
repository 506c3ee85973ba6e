"""How do a benchmark's annotations and media get from the hub to their places under a data root?"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict

from vlm2vec.errors import DataError, StorageError
from vlm2vec.fetching.annotations import FOLDER, AnnotationPlan, download_folder
from vlm2vec.fetching.archives import Unpacked, unpack
from vlm2vec.fetching.hub import HubFile, RefusedError, list_files
from vlm2vec.fetching.needs import TaskNeeds
from vlm2vec.tasks.data import TaskSpec
from vlm2vec.tasks.reading import PACK
from vlm2vec.text import counted


class ArchivePlan(NamedTuple):
    """An archive on the hub, its parts in order, and the missing paths that it should hold."""

    source: _MediaSource
    files: tuple[HubFile, ...]
    wanted: tuple[str, ...]


class Plan(NamedTuple):
    """Files that have to be fetched.

    Args:
        by_hand: what is missing and not on the hub, with one path of it and how many there are.
        refused: what the hub does not give, and why.
    """

    annotations: tuple[AnnotationPlan, ...] = ()
    archives: tuple[ArchivePlan, ...] = ()
    by_hand: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def files(self) -> list[HubFile]:
        """All files of the hub in it, each once."""
        parts = [*(table.files for table in self.annotations), *(archive.files for archive in self.archives)]
        return list(dict.fromkeys(file for part in parts for file in part))

    def bytes_left(self, root: Path) -> int:
        """How many bytes of it are not here yet."""
        return _left(self.files(), root)


Doing: TypeAlias = Literal["asking the hub for", "fetching", "unpacking"]


class _Watcher(Protocol):
    """Is told how a download proceeds."""

    def planned(self, plan: Plan, free: int) -> None:
        """This is to be fetched, to a disk with so many bytes free."""

    def begin(self, doing: Doing, what: str, total: int) -> None:
        """Something begins that takes so many bytes, or so many tables to ask for."""

    def advance(self, count: int) -> None:
        """So many more; below 0 if bytes have to come again."""

    def unpacked(self, archive: ArchivePlan, members: Unpacked, folder: Path) -> None:
        """An archive has been unpacked; one that lacks something stays in the folder."""

    def refused(self, reason: str) -> None:
        """The hub does not give something of a plan."""


def download(
    look: Callable[[], Sequence[TaskNeeds]], root: Path, watcher: _Watcher, *, keep_archives: bool = False
) -> None:
    """Fetch what tasks lack and the hub has: first annotations, then those archives that hold missing media.

    After a killed run the next one continues.

    Args:
        look: says what is missing now; asked again when annotations have come.
        root: the data root.
        keep_archives: leave archives in FOLDER under the root; those that lack something stay there anyway.

    Raises:
        HubError: the hub cannot be reached; StorageError: the disk is full, or may not be written.
        DataError: an archive is damaged or not safe; BusyError: another download is at work here.
    """
    needs = look()
    if any(need.annotations for need in needs):
        _carry_out(_plan_tables(needs, watcher), root, watcher, keep_archives=keep_archives)
        needs = look()
    _carry_out(_plan_media(needs, root), root, watcher, keep_archives=keep_archives)


def plan_download(
    needs: Sequence[TaskNeeds], root: Path, watcher: _Watcher, *, keep_archives: bool = False
) -> tuple[Plan, int]:
    """What `download` would fetch, and how many bytes are free for it.

    Of a task whose annotations are not here yet it is not known which media it lacks: all of its archives are planned.

    Raises:
        HubError: the hub cannot be reached; StorageError: the disk is too full for it.
        DataError: the media under the root are packed, and some are missing.
    """
    tables = _plan_tables(needs, watcher)
    media = _plan_media(needs, root, unread=[need.spec for need in needs if need.annotations])
    plan = media._replace(annotations=tables.annotations, refused=tables.refused + media.refused)
    return plan, _room(plan, root, keep_archives=keep_archives)


def _plan_tables(needs: Sequence[TaskNeeds], watcher: _Watcher) -> Plan:
    """Find the hub's files of missing annotations."""
    # Tasks share tables, as MS COCO's in both directions do.
    tables = dict.fromkeys(table for need in needs for table in need.annotations)
    if tables:
        watcher.begin("asking the hub for", f"{counted(len(tables), 'table')} of annotations", len(tables))
    plans, refused = [], dict[str, None]()
    for table in tables:
        try:
            plans.append(AnnotationPlan.of(table))
        except RefusedError as error:
            refused[str(error)] = None
        watcher.advance(1)
    return Plan(tuple(plans), refused=tuple(refused))


def _plan_media(needs: Sequence[TaskNeeds], root: Path, *, unread: Sequence[TaskSpec] = ()) -> Plan:
    """Find the hub's archives of missing pictures and frames; of tasks that are unread, of all their media."""
    wanted: dict[_MediaSource, dict[str, None]] = {}
    unknown: dict[tuple[str, str], list[str]] = {}
    missing = [(need.spec, path) for need in needs for path in (*need.pictures, *need.videos)]
    if missing and (root / PACK).is_file():
        raise DataError(
            f"{root / PACK} is taken for all media, and lacks {missing[0][1]}: rename the pack, or make it anew"
        )
    missing += [(spec, spec.media_dir) for spec in unread if spec.media_dir]
    for spec, path in missing:
        source = _media_source(spec.benchmark, path)
        if source is None:
            what = f"the media of {spec.benchmark}, of which no place on the hub is known"
            unknown.setdefault((spec.media_dir, what), []).append(path)
        elif source.repo is None:
            unknown.setdefault((source.prefix, source.by_hand), []).append(path)
        else:
            wanted.setdefault(source, {})[path] = None
    archives, refused, listed = [], dict[str, None](), cache(list_files)
    for source, paths in wanted.items():
        try:
            archives.append(ArchivePlan(source, source.parts(listed(str(source.repo))), tuple(paths)))
        except RefusedError as error:
            refused[str(error)] = None
    return Plan(
        archives=tuple(archives),
        refused=tuple(refused),
        by_hand=tuple(
            f"put into {root / prefix}: {what}; {len(set(paths))} missing, first {paths[0]}"
            for (prefix, what), paths in unknown.items()
        ),
    )


def _room(plan: Plan, root: Path, *, keep_archives: bool) -> int:
    """How many bytes are free on the disk of the data root, if they suffice for all that must lie there at once.

    What is unpacked is not counted.
    """
    place = root.absolute()
    free = shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.exists())).free
    sizes = [_left(archive.files, root) for archive in plan.archives]
    tables = sum(_left(table.files, root) for table in plan.annotations)
    needed = max(tables, sum(sizes) if keep_archives else max(sizes, default=0))
    if needed > free:
        raise StorageError(
            f"{root} has {free:,} bytes free, and {needed:,} are needed for archives alone: make room, or choose fewer "
            "tasks",
            "other_data",
        )
    return free


def _carry_out(plan: Plan, root: Path, watcher: _Watcher, *, keep_archives: bool) -> None:
    """Tell of a plan, fetch everything in it and put it in its place."""
    watcher.planned(plan, _room(plan, root, keep_archives=keep_archives))
    if not plan.files():
        return
    with download_folder(root) as folder:
        refused = dict[str, None]()
        for table in plan.annotations:
            watcher.begin("fetching", " ".join(filter(None, table.table)), _left(table.files, root))
            try:
                table.fetch(root, folder, watcher.advance)
            except RefusedError as error:
                refused[str(error)] = None
        for archive in plan.archives:
            source = archive.source
            watcher.begin("fetching", source.archive, _left(archive.files, root))
            try:
                parts = [file.fetch(folder, watcher.advance) for file in archive.files]
            except RefusedError as error:
                refused[str(error)] = None
                continue
            watcher.begin("unpacking", source.archive, sum(file.size for file in archive.files))
            members = unpack(parts, root, source.prefix, source.place, archive.wanted, watcher.advance)
            watcher.unpacked(archive, members, folder)
            # One that lacks something is looked for again by the next run, and should not have to come again.
            if not keep_archives and not members.absent:
                for part in parts:
                    part.unlink(missing_ok=True)
        for reason in refused:
            watcher.refused(reason)


class _MediaSource(BaseModel):
    """Where the media under one folder of the data root come from.

    Args:
        prefix: the folder.
        benchmarks: whose media they are; empty: of all.
        repo: data set on the hub; None: they are put there by hand.
        archive: file in it, or what the names of its numbered parts begin with.
        rewrite: regular expressions and replacements that turn a path in the archive into one under the prefix.
        by_hand: what has to be put there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: str
    benchmarks: tuple[str, ...] = ()
    repo: str | None = None
    archive: str = ""
    rewrite: tuple[tuple[str, str], ...] = ()
    by_hand: str = ""

    def place(self, inner: str) -> str:
        """The path under the data root at which a member of the archive belongs."""
        for pattern, replacement in self.rewrite:
            inner = re.sub(pattern, replacement, inner)
        return f"{self.prefix}/{inner}"

    def parts(self, files: Sequence[HubFile]) -> tuple[HubFile, ...]:
        """Those files of the data set that make up the archive, in order: itself, or its numbered parts.

        Raises:
            RefusedError: the data set has no such archive, or lacks a part of it.
        """
        pattern = re.escape(self.archive) + r"([-.](part)?-?[0-9]+)?"
        found = sorted((file for file in files if re.fullmatch(pattern, file.path)), key=lambda file: file.path)
        if not found:
            near = [file.path for file in files if file.path.endswith((".zip", ".tar")) or ".tar." in file.path]
            raise RefusedError(
                f"{self.repo} on the hub has no archive {self.archive}; it has {', '.join(near) or 'none at all'}. "
                f"Unpack what holds them into {self.prefix} by hand"
            )
        # Among paths that begin alike the shortest comes first.
        if found[0].path == self.archive:
            return (found[0],)
        numbers = [int(re.findall("[0-9]+", file.path)[-1]) for file in found]
        if numbers[0] > 1 or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            raise RefusedError(f"{self.repo} on the hub lacks a part of {self.archive}: it has the numbers {numbers}")
        return tuple(found)


@cache
def _media_sources() -> tuple[_MediaSource, ...]:
    table = yaml.safe_load(Path(__file__).with_name("media_sources.yaml").read_text("utf-8"))
    return tuple(_MediaSource.model_validate(source) for source in table)


def _media_source(benchmark: str, path: str) -> _MediaSource | None:
    """The source of a path under the data root, or for what lies under it; None if none is known."""
    sources = [source for source in _media_sources() if not source.benchmarks or benchmark in source.benchmarks]
    around = [source for source in sources if f"{path}/".startswith(f"{source.prefix}/")]
    within = [source for source in sources if source.benchmarks and source.prefix.startswith(f"{path}/")]
    return max(around or within, key=lambda source: len(source.prefix), default=None)


def _left(files: Sequence[HubFile], root: Path) -> int:
    return sum(file.bytes_left(root / FOLDER) for file in files)
