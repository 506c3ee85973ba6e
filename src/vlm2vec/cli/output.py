"""How does the command line speak: results to stdout, notes, errors and progress to stderr, advice in its own words?"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from typer import Exit

from vlm2vec.errors import IN_PYTHON, Action, VLM2VecError
from vlm2vec.files import writing

if TYPE_CHECKING:
    from rich.progress import Progress

ON_COMMAND_LINE: Mapping[Action, str] = {
    **IN_PYTHON,
    "make_index": "'vlm2vec index FOLDER' makes one",
    "rebuild": "'vlm2vec index FOLDER --rebuild' makes it anew",
    "rebuild_with": "'vlm2vec index FOLDER --rebuild --model {about!r}' makes it anew",
    "other_index": "give another folder with --index",
    "other_model": "or name the first model with --model {about!r}",
    "other_out": "give another folder with --out",
    "other_data": "give another folder with --data",
    "resume": "continue it with --resume",
    "no_resume": "leave out --resume",
    "single_vectors": "or rank single vectors: leave out --late-interaction",
    "evaluate": "'vlm2vec evaluate --out {about}', with the options that it was begun with, continues it",
    "download": "'vlm2vec data download {about} --data FOLDER' fetches it",
    "allow_outside": "allow other places with --allow-outside",
    "list_tasks": "'vlm2vec tasks --benchmark {about}' lists all",
    "teach": "'vlm2vec teach' makes them",
    "processes": "start with 'vlm2vec train' or 'torchrun --nproc-per-node {about} -m vlm2vec train' ('accelerate "
    "launch' starts one process on a machine without GPU), or change 'processes'",
}
"""What a hint means to a user of the command line; `{about}` stands for what it is about."""


def print_json(value: object) -> None:
    """Print one JSON document, in ASCII so that every file name survives every terminal and pipe."""
    print(json.dumps(value))


def note(message: str) -> None:
    """Tell the user something that is no result."""
    print(message, file=sys.stderr)


def fail(message: str) -> None:
    """Report an error in one line."""
    print(f"error: {message}", file=sys.stderr)


def told(error: VLM2VecError) -> str:
    """What happened and what to do next, as a command prints it."""
    return error.worded(ON_COMMAND_LINE)


@contextmanager
def stoppable(kept: str) -> Iterator[None]:
    """Say what Ctrl-C leaves of the work inside, and exit with 130.

    Args:
        kept: as in "the vectors in DIR are kept".
    """
    try:
        yield
    except KeyboardInterrupt:
        note(f"stopped; {kept}, and the same command continues")
        raise Exit(130) from None


def write_file(path: Path, text: str) -> None:
    """Write what the user has asked for to a file, and say so.

    Raises:
        StorageError: it cannot be written.
    """
    with writing(path, "other_path"):
        path.write_text(text, encoding="utf-8")
    note(f"wrote {path}")


def quiet_datasets() -> None:
    """Keep the bars of the library `datasets` off the terminal, where they would be drawn over ours."""
    # Read when the library is imported, which many commands never do.
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


@contextmanager
def progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with rate and time left, in a terminal only; yields what to call with (done, total)."""
    with _bars() as bars:
        if bars is None:
            yield lambda done, total: None
            return
        task = bars.add_task(description, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def nested_progress(
    description: str, parts: int, *, shown: bool = True
) -> Iterator[Callable[[int, str, int, int], None]]:
    """A bar for a run of so many parts and one for the part at hand, in a terminal only.

    Yields what to call with (parts done, name of the part at hand, its items done, all its items).
    """
    with _bars(shown) as bars:
        if bars is None:
            yield lambda done, name, items, total: None
            return
        run = bars.add_task(description, total=parts)
        part = bars.add_task("", total=None)

        def show(done: int, name: str, items: int, total: int) -> None:
            if name != bars.tasks[part].description:
                # Without this its rate would be that of the part before.
                bars.reset(part, description=name)
            bars.update(part, completed=items, total=total or None)
            bars.update(run, completed=done + (items / total if total else 0))

        yield show


@contextmanager
def _bars(shown: bool = True) -> Iterator[Progress | None]:
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "")

    class Done(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{int(task.completed):,}/{task.total:,.0f}" if task.total else f"{int(task.completed):,}")

    columns = TextColumn("{task.description}"), BarColumn(), Done(), Rate(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield bars
