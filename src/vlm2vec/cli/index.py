"""`vlm2vec index`: make or update the search index of a folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vlm2vec.cli.options import IndexModel, IndexPath
from vlm2vec.cli.output import note, print_json, progress, stoppable
from vlm2vec.search.library import Library
from vlm2vec.search.update import Summary
from vlm2vec.text import printable


def index(
    folder: Annotated[Path, typer.Argument(help="Whose images, videos and PDFs to index.")],
    index_path: IndexPath = None,
    model: IndexModel = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Throw the index away and start anew.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a file cannot be read.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Make or update the search index of a folder.

    Only new and changed files are embedded. A run that is stopped keeps what it has done, and the next one continues.
    """
    opened = Library.open(folder, index=index_path, model=model, rebuild=rebuild)
    with opened as library, stoppable("what is done is kept"):
        summary = bring_up_to_date(library)
    if as_json:
        failed = [{"path": path, "reason": reason} for path, reason in summary.failed]
        counts = asdict(summary) | {"failed": failed, "left_out": dict(_most_first(summary.left_out))}
        # Every file was tried.
        del counts["failed_before"]
        print_json(counts)
    else:
        print(_as_text(summary))
        for path, reason in summary.failed:
            note(f"not read: {printable(path)}: {reason}")
    if strict and summary.failed:
        raise typer.Exit(1)


def bring_up_to_date(library: Library, *, retry: bool = True) -> Summary:
    """`Library.sync` with its progress on stderr."""
    with ExitStack() as bar:
        show = bar.enter_context(progress("indexing"))

        @contextmanager
        def building(num_rows: int) -> Iterator[None]:
            # All files are done, and two live displays would be drawn over each other.
            bar.close()
            with _building(f"the search index over {num_rows:,} rows"):
                yield

        return library.sync(on_progress=show, building=building, retry=retry)


@contextmanager
def _building(what: str) -> Iterator[None]:
    """The time it takes so far, in a terminal; elsewhere a line before and one after.

    LanceDB does not say how far it is.
    """
    if not sys.stderr.isatty():
        note(f"building {what}; this takes minutes")
        start = time.monotonic()
        yield
        note(f"built {what} in {time.monotonic() - start:.0f} s")
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as spinner:
        spinner.add_task(f"building {what}", total=None)
        yield


def _as_text(summary: Summary) -> str:
    """The counts in one line, and behind them what is left out: "3 ignored (2 .heic, 1 .svg)"."""
    counts = asdict(summary) | {"failed": len(summary.failed)}
    line = ", ".join(f"{counts[name]} {name}" for name in (*_FILES, "embedded", "ignored"))
    return f"{line} ({_endings(summary.left_out)})" if summary.left_out else line


def _endings(left_out: Mapping[str, int]) -> str:
    """Endings with their numbers, most frequent first, no more than a line of them."""
    most_first = _most_first(left_out)
    named = [
        f"{count:,} {printable(ending[:_LONGEST_ENDING]) or 'without an ending'}"
        for ending, count in most_first[:_MOST_ENDINGS]
    ]
    if rest := len(most_first) - len(named):
        named.append(f"and {rest} other endings" if rest > 1 else "and 1 other ending")
    return ", ".join(named)


def _most_first(left_out: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(left_out.items(), key=lambda entry: (-entry[1], entry[0]))


_MOST_ENDINGS, _LONGEST_ENDING = 12, 16
_FILES = ("added", "changed", "removed", "unchanged", "failed")
