"""`vlm2vec tasks`: list the tasks of a benchmark."""

from __future__ import annotations

from typing import Annotated

import typer

from vlm2vec.cli.output import print_json
from vlm2vec.tasks.registry import get_tasks
from vlm2vec.text import aligned

_COLUMNS = ("name", "modality", "group", "metric", "pool")


def tasks(
    benchmark: Annotated[str, typer.Option("--benchmark", help="Name of the benchmark.")] = "mmeb-v2",
    modality: Annotated[str | None, typer.Option("--modality", help="Only image, video or visdoc.")] = None,
    group: Annotated[str | None, typer.Option("--group", help="Only this group, such as I-CLS.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """List the tasks of a benchmark: what they are called, how they are scored and what is ranked.

    With the pool "local" each query ranks its own candidates, with "global" all candidates of the task.
    """
    rows = [
        {column: str(getattr(spec, column)) for column in _COLUMNS}
        for spec in get_tasks(benchmark, modality=modality, group=group)
    ]
    if as_json:
        print_json({"tasks": rows})
        return
    print(aligned([_COLUMNS, *(list(row.values()) for row in rows)], num_left=len(_COLUMNS)))
