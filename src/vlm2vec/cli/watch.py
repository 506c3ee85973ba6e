"""`vlm2vec watch`: keep the index of a folder up to date while its files change."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from vlm2vec.cli.options import Exclude, IndexModel, IndexPath
from vlm2vec.cli.output import note, told
from vlm2vec.cli.search import bring_up_to_date
from vlm2vec.search.library import Library
from vlm2vec.search.update import Summary
from vlm2vec.search.watch import Followed, follow
from vlm2vec.text import counted, printable

_MOST_NAMES = 3


def watch(
    folder: Annotated[Path, typer.Argument(help="Whose files to follow.")],
    index_path: IndexPath = None,
    model: IndexModel = None,
    exclude: Exclude = None,
) -> None:
    """Keep the index of a folder up to date until Ctrl-C: files that come, change or go are seen at once.

    One line tells of each update. A burst of changes is one update.
    """
    # A service that is stopped ends as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Library.open(folder, index=index_path, model=model, exclude=exclude or ()) as library:
        with suppress(KeyboardInterrupt):
            bring_up_to_date(library, introduce=True, retry=False)
            for followed in follow(library):
                _tell(library, followed)
        note("stopped; the index is as of the last line")


def _tell(library: Library, followed: Followed) -> None:
    if followed.trouble is not None:
        note(f"waiting: {told(followed.trouble)}")
    if followed.summary is None:
        return
    if followed.paths is None:
        note(f"watching {library.folder}; Ctrl-C ends")
    if changes := _changes(followed.summary):
        # A reader at the other end of a pipe sees it now.
        print(f"{time.strftime('%H:%M:%S')}  {changes}{_names(followed.paths or ())}", flush=True)
    for path, reason in followed.summary.failed:
        # What was made and deleted in between is no failure.
        if os.path.lexists(library.folder / path):
            note(f"not read: {printable(path)}: {reason}")


def _changes(summary: Summary) -> str:
    counts = {"added": summary.added, "changed": summary.changed, "removed": summary.removed}
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


def _names(paths: tuple[str, ...]) -> str:
    named = [printable(path) for path in paths[:_MOST_NAMES]]
    if rest := len(paths) - len(named):
        named.append(f"and {counted(rest, 'other')}")
    return f"  {', '.join(named)}" if named else ""
