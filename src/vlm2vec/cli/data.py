"""`vlm2vec data`: fetch a benchmark's annotations and media, and say what of them is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vlm2vec.cli.options import AllowOutside, TaskNames, task_names
from vlm2vec.cli.output import fail, nested_progress, note, print_json, progress, quiet_datasets
from vlm2vec.data.tables import mirror_places
from vlm2vec.errors import ConfigError
from vlm2vec.fetching.needs import TaskNeeds, task_needs
from vlm2vec.tasks.data import TaskSpec
from vlm2vec.tasks.media import open_media
from vlm2vec.tasks.registry import get_tasks, packaged_root
from vlm2vec.text import aligned, counted

if TYPE_CHECKING:
    from vlm2vec.fetching.download import Plan

_SHOWN = 3
"""So many missing paths of a task are named."""


def data(
    action: Annotated[Literal["download", "check"], typer.Argument(help="What to do.", show_default=False)],
    benchmark: Annotated[str, typer.Argument(help="Name of the benchmark, such as mmeb-v2.", show_default=False)],
    tasks: TaskNames = None,
    root: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="ROOT", help="Where annotations and media lie; by default in ./data.", show_default=False
        ),
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
    chosen = get_tasks(benchmark, names=task_names(tasks))
    packaged = packaged_root(benchmark)
    quiet_datasets()
    place = root or packaged or Path("data")
    if action == "check":
        if dry_run or keep_archives:
            raise ConfigError("--dry-run and --keep-archives are options of 'download': leave them out")
    elif deep:
        raise ConfigError("--deep is an option of 'check': leave it out, and check afterwards")
    elif dry_run and as_json:
        raise ConfigError("--json is of what is missing, and --dry-run of what would be fetched: leave one of them out")
    elif packaged is not None:
        raise ConfigError(f"{benchmark} is part of this package: there is nothing to fetch")
    else:
        try:
            _download(chosen, place, dry_run=dry_run, keep_archives=keep_archives, allow_outside=allow_outside)
        except KeyboardInterrupt:
            note(f"stopped; what was fetched is kept in {place}, and the same command continues")
            raise typer.Exit(130) from None
        if dry_run:
            return
    needs = _needs(chosen, place, deep=deep, allow_outside=allow_outside)
    if as_json:
        found = [_as_json(need, place, deep=deep) for need in needs]
        print_json({"data": str(place), "complete": _complete(needs), "tasks": found})
    else:
        _print_needs(needs, place, deep=deep)
    if not _complete(needs):
        raise typer.Exit(1)


def _needs(specs: Sequence[TaskSpec], root: Path, *, allow_outside: bool, deep: bool = False) -> list[TaskNeeds]:
    note(f"{'opening' if deep else 'looking for'} the data of {counted(len(specs), 'task')} in {root}")
    media, needs = open_media(root), []
    with nested_progress("check", len(specs)) as show:
        for number, spec in enumerate(specs):
            show(number, spec.name, 0, 0)
            shown = partial(show, number, spec.name)
            needs.append(task_needs(spec, root, media, deep=deep, allow_outside=allow_outside, on_progress=shown))
    return needs


def _complete(needs: Sequence[TaskNeeds]) -> bool:
    return all(need.complete for need in needs)


def _download(
    specs: Sequence[TaskSpec], root: Path, *, dry_run: bool, keep_archives: bool, allow_outside: bool
) -> None:
    from vlm2vec.fetching.annotations import FOLDER
    from vlm2vec.fetching.download import Plan, carry_out, check_room, plan_media, plan_tables

    needs = _needs(specs, root, allow_outside=allow_outside)
    sources = [source for need in needs for source in need.annotations]
    if sources:
        note(f"asking the hub for {counted(len(dict.fromkeys(sources)), 'table')} of annotations")
    with progress("asking the hub") as show:
        tables = plan_tables(sources, show)
    if dry_run:
        unread = [need.spec for need in needs if need.annotations]
        media = plan_media(needs, root, unread=unread)
        plan = Plan(tables.annotations, media.archives, media.by_hand, tables.refused + media.refused)
        for line in _described(plan, root, check_room(plan, root, keep_archives=keep_archives)):
            print(line)
        if unread:
            print(f"Annotations of {counted(len(unread), 'task')} are not here yet: archives are those they may need.")
        _complain(plan.refused)
        if plan.refused:
            raise typer.Exit(1)
        return
    if sources:
        _announce(tables, root, keep_archives)
        with _watching() as watcher:
            _complain(carry_out(tables, root, watcher, keep_archives=keep_archives).refused)
        needs = _needs(specs, root, allow_outside=allow_outside)
    media = plan_media(needs, root)
    _announce(media, root, keep_archives)
    if not media.archives:
        return
    with _watching() as watcher:
        outcome = carry_out(media, root, watcher, keep_archives=keep_archives)
    _complain(outcome.refused)
    for archive, unpacked in outcome.unpacked:
        note(f"unpacked {unpacked.written:,} files of {archive.source.archive}")
        if unpacked.absent:
            note(
                f"  it lacks {len(unpacked.absent):,} of {len(archive.wanted):,} paths: {_first(unpacked.absent)}; "
                f"it has the folders {_first(unpacked.holds)}; it stays in {root / FOLDER}"
            )


def _complain(refused: Sequence[str]) -> None:
    for reason in refused:
        fail(reason)


def _announce(plan: Plan, root: Path, keep_archives: bool) -> None:
    from vlm2vec.fetching.download import check_room

    for line in _described(plan, root, check_room(plan, root, keep_archives=keep_archives)):
        note(line)
    _complain(plan.refused)


def _described(plan: Plan, root: Path, free: int) -> Iterator[str]:
    from vlm2vec.fetching.download import to_fetch

    for dataset in dict.fromkeys(table.table.dataset for table in plan.annotations):
        tables = [table for table in plan.annotations if table.table.dataset == dataset]
        files = dict.fromkeys(file for table in tables for file in table.files)
        size = _size(sum(file.size for file in files))
        yield f"annotations {dataset}: {counted(len(tables), 'table')} in {counted(len(files), 'file')}, {size}"
    for archive in plan.archives:
        files = dict.fromkeys(archive.files)
        yield (
            f"media {archive.source.repo}/{archive.source.archive}: {counted(len(files), 'file')}, "
            f"{_size(sum(file.size for file in files))}, for {counted(len(archive.wanted), 'missing path')}, first "
            f"{archive.wanted[0]}"
        )
    files = dict.fromkeys(plan.files())
    if files:
        left, whole = to_fetch(plan, root), sum(file.size for file in files)
        here = f" ({_size(whole - left)} of it is here already)" if left < whole else ""
        yield f"to fetch: {counted(len(files), 'file')}, {_size(left)}{here}; free in {root}: {_size(free)}"
    else:
        yield "there is nothing to fetch"
    yield from plan.by_hand


class _Bar:
    """A bar in a terminal, and a line for each thing where there is none."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._total = self._done = 0

    def begin(self, what: str, total: int) -> None:
        self._stack.close()
        if total and not what.startswith("unpacking"):
            note(f"fetching {what}, {_size(total)}")
        self._show = self._stack.enter_context(progress(what))
        self._done, self._total = 0, total

    def advance(self, count: int) -> None:
        self._done += count
        self._show(self._done, self._total)


@contextmanager
def _watching() -> Iterator[_Bar]:
    with ExitStack() as stack:
        yield _Bar(stack)


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
        place = mirror_places(root, source)[0].relative_to(root)
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
        yield need.problem


def _first(paths: Sequence[str]) -> str:
    return ", ".join(paths[:_SHOWN]) + (" ..." if len(paths) > _SHOWN else "")


def _as_json(need: TaskNeeds, root: Path, *, deep: bool) -> dict[str, object]:
    return {
        "task": need.spec.name,
        "complete": need.complete,
        "queries": need.queries,
        "candidates": need.candidates,
        "missing_annotations": [
            source._asdict() | {"looked_for": [str(path) for path in mirror_places(root, source)]}
            for source in need.annotations
        ],
        "missing_pictures": list(need.pictures),
        "missing_videos": list(need.videos),
        **({"damaged": dict(need.damaged)} if deep else {}),
        "problem": need.problem,
        "warnings": [
            {"problem": one.problem, "column": one.column, "row": one.row, "count": one.count} for one in need.warnings
        ],
    }


def _size(count: int) -> str:
    """Bytes in the unit that leaves one to three digits before the point."""
    value, units = float(count), ("bytes", "kB", "MB", "GB", "TB")
    for unit in units:
        if value < 999.95 or unit == units[-1]:
            break
        value /= 1000
    return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
