"""`vlm2vec duplicates`: which files of a folder are there more than once?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlm2vec.cli.options import Exclude, IndexModel, IndexPath, Quiet
from vlm2vec.cli.output import note, print_json
from vlm2vec.cli.search import bring_up_to_date
from vlm2vec.search.copies import Group
from vlm2vec.search.library import Library
from vlm2vec.text import counted, printable


def duplicates(
    folder: Annotated[Path, typer.Argument(help="Whose files to compare.")],
    index_path: IndexPath = None,
    model: IndexModel = None,
    exclude: Exclude = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the groups as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """List files that are equal to the byte, and pictures that are the same in another encoding or size.

    The folder is indexed first, as for a search. Nothing is deleted.
    """
    with Library.open(folder, index=index_path, model=model, exclude=exclude or ()) as library:
        bring_up_to_date(library, introduce=not quiet and not as_json, retry=False)
        groups = library.duplicates()
    if as_json:
        print_json({"groups": [{"exact": group.is_exact, "contents": group.contents} for group in groups]})
        return
    for number, group in enumerate(groups):
        print("\n" * bool(number) + "\n".join(_lines(group)))
    note(f"{counted(len(groups), 'group')}, {counted(sum(len(group.paths) - 1 for group in groups), 'file')} too many")


def _lines(group: Group) -> list[str]:
    """A heading, and each file, with "=" before those that are equal to the one above."""
    title = "equal" if group.is_exact else "the same picture"
    lines = [f"{len(group.paths)} files, {title}:"]
    for paths in group.contents:
        lines += [f"  {mark} {printable(path)}" for mark, path in zip(" " + "=" * (len(paths) - 1), paths, strict=True)]
    return lines
