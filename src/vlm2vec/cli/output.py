"""How does the command line speak: results to stdout, notes, errors and progress to stderr?"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def print_json(value: object) -> None:
    """Print one JSON document, in ASCII so that every file name survives every terminal and pipe."""
    print(json.dumps(value))


def note(message: str) -> None:
    """Tell the user something that is no result."""
    print(_printable(message), file=sys.stderr)


def fail(message: str) -> None:
    """Report an error in one line."""
    print(f"error: {_printable(message)}", file=sys.stderr)


@contextmanager
def progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with rate and time left, in a terminal only; yields what to call with (done, total)."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "")

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _printable(message: str) -> str:
    return message.encode("utf-8", "replace").decode("utf-8")
