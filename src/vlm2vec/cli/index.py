"""`vlm2vec index`: make or update the search index of a folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm2vec.cli.options import IndexModel, IndexPath
from vlm2vec.cli.output import note, print_json, progress
from vlm2vec.cli.starting import without_garbage_collection
from vlm2vec.search.index import Index
from vlm2vec.search.indexing import Summary
from vlm2vec.search.scan import printable
from vlm2vec.search.searching import open_index

if TYPE_CHECKING:
    from vlm2vec.model.embedder import Embedder


def index(
    folder: Annotated[Path, typer.Argument(help="Whose images, videos and PDFs to index.", show_default=False)],
    index_path: IndexPath = None,
    model: IndexModel = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Throw the index away and start anew.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a file cannot be read.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Make or update the search index of a folder.

    Only new and changed files are embedded. A run that is stopped keeps what it has done, and the next one continues.
    """
    with without_garbage_collection():
        opened, embedder = open_index(folder, path=index_path, model=model, rebuild=rebuild)
    try:
        summary = bring_up_to_date(opened, embedder)
    except KeyboardInterrupt:
        note("stopped; what is done is kept, and the same command continues")
        raise typer.Exit(130) from None
    if as_json:
        failed = [{"path": path, "reason": reason} for path, reason in summary.failed]
        print_json(asdict(summary) | {"failed": failed})
    else:
        print(as_text(summary))
        for path, reason in summary.failed:
            note(f"not read: {printable(path)}: {reason}")
    if strict and summary.failed:
        raise typer.Exit(1)


def bring_up_to_date(index: Index, embedder: Embedder) -> Summary:
    """`Index.add` with its progress on stderr."""
    with ExitStack() as bar:
        show = bar.enter_context(progress("indexing"))

        @contextmanager
        def building(num_rows: int) -> Iterator[None]:
            # All files are done, and two live displays would be drawn over each other.
            bar.close()
            with _building(f"the search index over {num_rows:,} rows"):
                yield

        return index.add(embedder=embedder, progress=show, building=building)


@contextmanager
def _building(what: str) -> Iterator[None]:
    """The time it takes so far, in a terminal; else a line before and one after. LanceDB does not say how far it is."""
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


def as_text(summary: Summary) -> str:
    """The counts in one line."""
    counts = asdict(summary) | {"failed": len(summary.failed)}
    return ", ".join(f"{counts[name]} {name}" for name in (*_FILES, "embedded", "ignored"))


_FILES = ("added", "changed", "removed", "unchanged", "failed")
