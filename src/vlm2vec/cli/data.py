"""`vlm2vec data`: fetch a benchmark's annotations and media, and say what of them is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.filesize import decimal

from vlm2vec.cli.options import AllowOutside, TaskNames, task_names
from vlm2vec.cli.output import fail, nested_progress, note, print_json, progress, quiet_datasets, stoppable, told
from vlm2vec.errors import ConfigError
from vlm2vec.fetching.needs import TaskNeeds
from vlm2vec.tasks.data import TaskSpec
from vlm2vec.tasks.reading import open_media
from vlm2vec.tasks.registry import get_tasks, packaged_root
from vlm2vec.text import aligned, counted

if TYPE_CHECKING:
    from vlm2vec.fetching.archives import Unpacked
    from vlm2vec.fetching.download import ArchivePlan, Doing, Plan

_SHOWN = 3
"""So many missing paths of a task are named."""


def data(
    action: Annotated[Literal["download", "check"], typer.Argument(help="What to do.")],
    benchmark: Annotated[str, typer.Argument(help="Name of the benchmark, such as mmeb-v2.")],
    tasks: TaskNames = None,
    root: Annotated[
        Path | None,
        typer.Option("--data", metavar="ROOT", help="Where annotations and media lie; by default in ./data."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Of download: only say what would be fetched.")] = False,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="Of download: leave fetched archives in ROOT/.download.")
    ] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Of check: open every picture, frame and page, and name damaged ones.")
    ] = False,
    allow_outside: AllowOutside = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is missing as JSON.")] = False,
) -> None:
    """Fetch a benchmark's data from the hub, or check that all of them are in place.

    'check' reads the annotations of every task and looks for each picture and video that they name. It exits with 1 if
    anything is missing. With --deep it also decodes all of them, every frame of every video, and all pages: what is
    damaged is named, and counts as missing.

    'download' brings what is missing: first annotations, then those archives that hold missing media, of which only
    the needed members are unpacked. It says first what it fetches. If it is killed, the same command continues. It ends
    with a check.
    """
    _check_options(action, dry_run=dry_run, keep_archives=keep_archives, deep=deep, as_json=as_json)
    chosen = get_tasks(benchmark, names=task_names(tasks))
    packaged = packaged_root(benchmark)
    quiet_datasets()
    place = root or packaged or Path("data")
    if action == "download":
        if packaged is not None:
            raise ConfigError(f"{benchmark} is part of this package: there is nothing to fetch")
        look = partial(_needs, chosen, place, allow_outside=allow_outside)
        if dry_run:
            _print_plan(look(), place, keep_archives=keep_archives)
            return
        _download(look, place, keep_archives=keep_archives)
    needs = _needs(chosen, place, deep=deep, allow_outside=allow_outside)
    complete = all(need.complete for need in needs)
    if as_json:
        found = [_as_json(need, place, deep=deep) for need in needs]
        print_json({"data": str(place), "complete": complete, "tasks": found})
    else:
        _print_needs(needs, place, deep=deep)
    if not complete:
        raise typer.Exit(1)


def _check_options(action: str, *, dry_run: bool, keep_archives: bool, deep: bool, as_json: bool) -> None:
    if action == "check" and (dry_run or keep_archives):
        raise ConfigError("--dry-run and --keep-archives are options of 'download': leave them out")
    if action == "download" and deep:
        raise ConfigError("--deep is an option of 'check': leave it out, and check afterwards")
    if dry_run and as_json:
        raise ConfigError("--json is of what is missing, and --dry-run of what would be fetched: leave one of them out")


def _needs(specs: Sequence[TaskSpec], root: Path, *, allow_outside: bool, deep: bool = False) -> list[TaskNeeds]:
    note(f"{'opening' if deep else 'looking for'} the data of {counted(len(specs), 'task')} in {root}")
    media, needs = open_media(root), []
    with nested_progress("check", len(specs)) as show:
        for number, spec in enumerate(specs):
            show(number, spec.name, 0, 0)
            shown = partial(show, number, spec.name)
            needs.append(TaskNeeds.of(spec, root, media, deep=deep, allow_outside=allow_outside, on_progress=shown))
    return needs


def _download(look: Callable[[], Sequence[TaskNeeds]], root: Path, *, keep_archives: bool) -> None:
    from vlm2vec.fetching.download import download

    with stoppable(f"what was fetched is kept in {root}"), ExitStack() as bar:
        download(look, root, _Shown(root, bar), keep_archives=keep_archives)


def _print_plan(needs: Sequence[TaskNeeds], root: Path, *, keep_archives: bool) -> None:
    """Print what would be fetched; fails if the hub refuses something of it."""
    from vlm2vec.fetching.download import plan_download

    with ExitStack() as bar:
        plan, free = plan_download(needs, root, _Shown(root, bar), keep_archives=keep_archives)
    for line in _described(plan, root, free):
        print(line)
    if unread := sum(bool(need.annotations) for need in needs):
        print(f"Annotations of {counted(unread, 'task')} are not here yet: archives are those they may need.")
    for reason in plan.refused:
        fail(reason)
    if plan.refused:
        raise typer.Exit(1)


class _Shown:
    """A download as it is told on stderr: notes, and a bar for what is at hand in a terminal."""

    def __init__(self, root: Path, bar: ExitStack) -> None:
        self._root = root
        self._bar = bar

    def planned(self, plan: Plan, free: int) -> None:
        self._bar.close()
        for line in _described(plan, self._root, free):
            note(line)
        for reason in plan.refused:
            fail(reason)

    def begin(self, doing: Doing, what: str, total: int) -> None:
        self._bar.close()
        if total and doing != "unpacking":
            note(f"{doing} {what}, {decimal(total)}" if doing == "fetching" else f"{doing} {what}")
        self._show = self._bar.enter_context(progress(f"{doing} {what}"))
        self._done, self._total = 0, total

    def advance(self, count: int) -> None:
        self._done += count
        self._show(self._done, self._total)

    def unpacked(self, archive: ArchivePlan, members: Unpacked, folder: Path) -> None:
        self._bar.close()
        note(f"unpacked {members.written:,} files of {archive.source.archive}")
        if members.absent:
            note(
                f"  it lacks {len(members.absent):,} of {len(archive.wanted):,} paths: {_first(members.absent)}; "
                f"it has the folders {_first(members.holds)}; it stays in {folder}"
            )

    def refused(self, reason: str) -> None:
        self._bar.close()
        fail(reason)


def _described(plan: Plan, root: Path, free: int) -> Iterator[str]:
    for dataset in dict.fromkeys(table.table.dataset for table in plan.annotations):
        tables = [table for table in plan.annotations if table.table.dataset == dataset]
        files = dict.fromkeys(file for table in tables for file in table.files)
        size = decimal(sum(file.size for file in files))
        yield f"annotations {dataset}: {counted(len(tables), 'table')} in {counted(len(files), 'file')}, {size}"
    for archive in plan.archives:
        files = dict.fromkeys(archive.files)
        yield (
            f"media {archive.source.repo}/{archive.source.archive}: {counted(len(files), 'file')}, "
            f"{decimal(sum(file.size for file in files))}, for {counted(len(archive.wanted), 'missing path')}, first "
            f"{archive.wanted[0]}"
        )
    files = dict.fromkeys(plan.files())
    if files:
        left, whole = plan.bytes_left(root), sum(file.size for file in files)
        here = f" ({decimal(whole - left)} of it is here already)" if left < whole else ""
        yield f"to fetch: {counted(len(files), 'file')}, {decimal(left)}{here}; free in {root}: {decimal(free)}"
    else:
        yield "there is nothing to fetch"
    yield from plan.by_hand


def _print_needs(needs: Sequence[TaskNeeds], root: Path, *, deep: bool) -> None:
    missing = ["annotations missing", "pictures missing", "videos missing", *(["damaged"] if deep else [])]
    table = [["task", "queries", "candidates", *missing, "warnings"]]
    for need in needs:
        found = (need.annotations, need.pictures, need.videos, *([need.damaged] if deep else []), need.warnings)
        asked = ["?", "?"] if need.queries is None else [f"{need.queries:,}", f"{need.candidates:,}"]
        table.append([need.spec.name, *asked, *(f"{len(one):,}" if one else "-" for one in found)])
    print(aligned(table) + "\n")
    for need in needs:
        for line in _missing(need, root):
            print(f"{need.spec.name}: {line}")
    lacking = sum(not need.complete for need in needs)
    all_tasks = counted(len(needs), "task")
    problem = "missing or damaged" if deep else "missing"
    whole = f"all data are in {root}{' and can be opened' if deep else ''}"
    print(f"{lacking} of {all_tasks}: data are {problem} in {root}" if lacking else f"{all_tasks}: {whole}")


def _missing(need: TaskNeeds, root: Path) -> Iterator[str]:
    for source in need.annotations[:_SHOWN]:
        place = source.places(root)[0].relative_to(root)
        yield f"annotations missing: {place}, or .jsonl or a folder in its place"
    if len(need.annotations) > _SHOWN:
        yield f"annotations missing: {len(need.annotations) - _SHOWN} more"
    for word, paths in (("picture", need.pictures), ("video", need.videos)):
        if paths:
            yield f"{counted(len(paths), word)} missing: {_first(paths)}"
    # All of them: they are few, and each has to be fetched or made again.
    for name, reason in need.damaged.items():
        yield f"damaged: {name}: {reason}"
    if need.problem:
        yield told(need.problem)


def _first(paths: Sequence[str]) -> str:
    return ", ".join(paths[:_SHOWN]) + (" ..." if len(paths) > _SHOWN else "")


def _as_json(need: TaskNeeds, root: Path, *, deep: bool) -> dict[str, object]:
    return {
        "task": need.spec.name,
        "complete": need.complete,
        "queries": need.queries,
        "candidates": need.candidates,
        "missing_annotations": [
            source._asdict() | {"looked_for": [str(path) for path in source.places(root)]}
            for source in need.annotations
        ],
        "missing_pictures": list(need.pictures),
        "missing_videos": list(need.videos),
        **({"damaged": dict(need.damaged)} if deep else {}),
        "problem": told(need.problem) if need.problem else None,
        "warnings": [
            {"problem": one.problem, "column": one.column, "row": one.row, "count": one.count} for one in need.warnings
        ],
    }
