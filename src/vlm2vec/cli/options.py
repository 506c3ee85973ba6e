"""Options that several commands share, written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

IndexPath = Annotated[Path | None, typer.Option("--index", help="Where the index lies; by default FOLDER/.vlm2vec.")]
IndexModel = Annotated[
    str | None,
    typer.Option("--model", help="Name or folder of a model; by default the index's own, then bundled."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Do not introduce the default model.")]

Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Leave out files and folders, as .gitignore does, now and from now on; '!PATTERN' takes it back.",
    ),
]

TaskNames = Annotated[
    str | None,
    typer.Option("--tasks", metavar="NAME,NAME", help="Only these tasks; by default all."),
]
AllowOutside = Annotated[bool, typer.Option("--allow-outside", help="Let rows name files outside of the data root.")]


def task_names(tasks: str | None) -> list[str] | None:
    """The names in `--tasks NAME,NAME`; None: all."""
    return None if tasks is None else [name.strip() for name in tasks.split(",") if name.strip()]
