"""`vlm2vec index`: make or update the search index of a folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vlm2vec.cli.options import IndexModel, IndexPath
from vlm2vec.cli.output import note, print_json, progress
from vlm2vec.search.indexing import Summary
from vlm2vec.search.scan import printable
from vlm2vec.search.searching import open_index


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
    opened, embedder = open_index(folder, path=index_path, model=model, rebuild=rebuild)
    try:
        with progress("indexing") as show:
            summary = opened.add(embedder=embedder, progress=show)
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


def as_text(summary: Summary) -> str:
    """The counts in one line."""
    counts = asdict(summary) | {"failed": len(summary.failed)}
    return ", ".join(f"{counts[name]} {name}" for name in (*_FILES, "embedded", "ignored"))


_FILES = ("added", "changed", "removed", "unchanged", "failed")
