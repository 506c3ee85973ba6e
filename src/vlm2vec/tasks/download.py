"""How do a benchmark's annotations and media get from the hub to their places under a data root?"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from vlm2vec.errors import ConfigError
from vlm2vec.tasks.data import TaskSource, TaskSpec
from vlm2vec.tasks.hub_annotations import AnnotationPlan, fetch_annotations, plan_annotations, remove_scratch
from vlm2vec.tasks.hub_files import HubFile, RefusedError, bytes_left, fetch, list_files
from vlm2vec.tasks.media import PACK
from vlm2vec.tasks.media_sources import MediaSource, media_source
from vlm2vec.tasks.needs import TaskNeeds, annotation_places
from vlm2vec.tasks.unpacking import Unpacked, unpack

FOLDER = ".download"
"""Under the data root: what is fetched and not yet in its place."""


class ArchivePlan(NamedTuple):
    """An archive on the hub, its parts in order, and the missing paths that it should hold."""

    source: MediaSource
    files: tuple[HubFile, ...]
    wanted: tuple[str, ...]


class Plan(NamedTuple):
    """What has to be fetched.

    Args:
        annotations: tables of rows.
        archives: of pictures and frames.
        by_hand: what is missing and not on the hub, with one path of it and how many there are.
        refused: what the hub does not give, and why.
    """

    annotations: tuple[AnnotationPlan, ...] = ()
    archives: tuple[ArchivePlan, ...] = ()
    by_hand: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def files(self) -> list[HubFile]:
        """All files of the hub in it, each once."""
        plans: Iterable[AnnotationPlan | ArchivePlan] = (*self.annotations, *self.archives)
        return list(dict.fromkeys(file for plan in plans for file in plan.files))


class Outcome(NamedTuple):
    """What came of each archive, and what the hub did not give, and why."""

    unpacked: tuple[tuple[ArchivePlan, Unpacked], ...]
    refused: tuple[str, ...]


class Watcher(Protocol):
    """Is told how a download goes on."""

    def begin(self, what: str, total: int) -> None:
        """Something begins that takes so many bytes."""
        ...

    def advance(self, count: int) -> None:
        """So many bytes more; below 0 if some have to come again."""
        ...


def plan_tables(sources: Sequence[TaskSource], on_progress: Callable[[int, int], None]) -> Plan:
    """Find the hub's files of annotations.

    Args:
        sources: the annotations.
        on_progress: told how many of how many have been looked for.

    Raises:
        ConfigError: the hub cannot be reached.
    """
    plans, refused = [], dict[str, None]()
    # Tasks share tables, as MS COCO's in both directions do.
    distinct = list(dict.fromkeys(sources))
    for number, source in enumerate(distinct):
        on_progress(number, len(distinct))
        try:
            plans.append(plan_annotations(source))
        except RefusedError as error:
            refused[str(error)] = None
    return Plan(tuple(plans), refused=tuple(refused))


def plan_media(needs: Sequence[TaskNeeds], root: Path, *, unread: Sequence[TaskSpec] = ()) -> Plan:
    """Find the hub's archives of missing pictures and frames.

    Args:
        needs: what is missing.
        root: the data root.
        unread: tasks whose annotations are not here yet, so that what they need is not known: all of their media.

    Raises:
        ConfigError: the hub cannot be reached, or the media under the root are packed.
    """
    wanted: dict[MediaSource, dict[str, None]] = {}
    unknown: dict[tuple[str, str], list[str]] = {}
    missing = [(need.spec, path) for need in needs for path in (*need.pictures, *need.videos)]
    if missing and (root / PACK).is_file():
        raise ConfigError(
            f"{root / PACK} is taken for all media, and lacks {missing[0][1]}: rename the pack, or make it anew"
        )
    missing += [(spec, spec.media_dir) for spec in unread if spec.media_dir]
    for spec, path in missing:
        source = media_source(spec.benchmark, path)
        if source is None or source.repo is None:
            what = source.by_hand if source else f"the media of {spec.benchmark}, of which no place on the hub is known"
            unknown.setdefault((source.prefix if source else spec.media_dir, what), []).append(path)
        else:
            wanted.setdefault(source, {})[path] = None
    archives, refused, listings = [], dict[str, None](), dict[str, list[HubFile]]()
    for source, paths in wanted.items():
        repo = str(source.repo)
        try:
            if repo not in listings:
                listings[repo] = list_files(repo)
            archives.append(ArchivePlan(source, _archive(source, listings[repo]), tuple(paths)))
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


def bring_table(source: TaskSource, root: Path) -> None:
    """Bring annotations into the mirror, unless they are there. Processes that want the same ones wait for each other.

    Raises:
        ConfigError: the hub or the disk fails; RefusedError: the hub does not give them.
    """
    places, folder = annotation_places(root, source), root / FOLDER
    if any(place.exists() for place in places):
        return
    with _alone(folder, wait=True):
        remove_scratch(folder)
        # Another one may have brought them meanwhile.
        if not any(place.exists() for place in places):
            fetch_annotations(plan_annotations(source), root, folder, lambda count: None)
        _tidy(folder)


def to_fetch(plan: Plan, root: Path) -> int:
    """How many bytes of a plan are not here yet."""
    return sum(bytes_left(file, root / FOLDER) for file in plan.files())


def check_room(plan: Plan, root: Path, *, keep_archives: bool) -> int:
    """How many bytes are free on the disk of the data root.

    Raises:
        ConfigError: they do not suffice for what has to lie there at once, not counting what is unpacked.
    """
    free = shutil.disk_usage(_existing(root)).free
    sizes = [sum(bytes_left(file, root / FOLDER) for file in archive.files) for archive in plan.archives]
    tables = sum(bytes_left(file, root / FOLDER) for table in plan.annotations for file in table.files)
    needed = max(tables, sum(sizes) if keep_archives else max(sizes, default=0))
    if needed > free:
        raise ConfigError(
            f"{root} has {free:,} bytes free, and {needed:,} are needed for archives alone: make room, choose fewer "
            "tasks by --tasks, or give another folder by --data"
        )
    return free


def carry_out(plan: Plan, root: Path, watcher: Watcher, *, keep_archives: bool) -> Outcome:
    """Fetch everything in a plan and put it in its place; a run that was killed goes on where it was.

    Args:
        plan: what to fetch.
        root: the data root.
        watcher: is told how it goes on.
        keep_archives: leave archives in FOLDER under the root; those that lack something stay there anyway.

    Raises:
        ConfigError: the hub or the disk fails, an archive is damaged or not safe, or another download is at work here.
    """
    folder = root / FOLDER
    unpacked, refused = [], dict[str, None]()
    with _alone(folder):
        remove_scratch(folder)
        for table in plan.annotations:
            watcher.begin(" ".join(filter(None, table.source)), sum(bytes_left(file, folder) for file in table.files))
            try:
                fetch_annotations(table, root, folder, watcher.advance)
            except RefusedError as error:
                refused[str(error)] = None
        for archive in plan.archives:
            source = archive.source
            watcher.begin(source.archive, sum(bytes_left(file, folder) for file in archive.files))
            try:
                parts = [fetch(file, folder, watcher.advance) for file in archive.files]
            except RefusedError as error:
                refused[str(error)] = None
                continue
            watcher.begin(f"unpacking {source.archive}", sum(file.size for file in archive.files))
            members = unpack(parts, root, source.prefix, source.place, archive.wanted, watcher.advance)
            unpacked.append((archive, members))
            # One that lacks something is looked for again by the next run, and should not have to come again.
            if not keep_archives and not members.absent:
                for part in parts:
                    part.unlink(missing_ok=True)
        _tidy(folder)
    return Outcome(tuple(unpacked), tuple(refused))


def _archive(source: MediaSource, files: Sequence[HubFile]) -> tuple[HubFile, ...]:
    found = sorted((file for file in files if source.is_archive(file.path)), key=lambda file: file.path)
    whole = [file for file in found if file.path == source.archive]
    if not found:
        near = [file.path for file in files if file.path.endswith((".zip", ".tar")) or ".tar." in file.path]
        raise RefusedError(
            f"{source.repo} on the hub has no archive {source.archive}; it has {', '.join(near) or 'none at all'}. "
            f"Unpack what holds them into {source.prefix} by hand"
        )
    numbers = [int(re.findall("[0-9]+", file.path)[-1]) for file in found if not whole]
    if numbers and (numbers[0] > 1 or numbers != list(range(numbers[0], numbers[0] + len(numbers)))):
        raise RefusedError(f"{source.repo} on the hub lacks a part of {source.archive}: it has the numbers {numbers}")
    return tuple(whole or found)


def _tidy(folder: Path) -> None:
    """Remove folders that became empty, and locks that the library `datasets` left."""
    for lock in sorted(folder.glob("tmp*.lock")):
        lock.unlink()
    for place in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        if not any(place.iterdir()):
            place.rmdir()


def _existing(path: Path) -> Path:
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())


@contextmanager
def _alone(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep a second download out, or wait for it to end: both would write the same files."""
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", timeout=-1 if wait else 0)
        lock.acquire()
    except Timeout:
        raise ConfigError(f"another download works in {folder.parent}; wait for it, or stop it") from None
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error}; give another folder by --data") from error
    try:
        yield
    finally:
        lock.release()
