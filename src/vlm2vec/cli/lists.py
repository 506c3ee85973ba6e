"""`vlm2vec models` and `vlm2vec tasks`: list the models that are known by name, and the tasks of a benchmark."""

from __future__ import annotations

from typing import Annotated

import typer

from vlm2vec.cli.output import print_json
from vlm2vec.model.checkpoint import SETTINGS_FILE, SHIPPED, is_cached, is_shipped, read_json
from vlm2vec.model.prompts import KNOWN_CHECKPOINTS
from vlm2vec.tasks.registry import get_tasks
from vlm2vec.text import aligned

_COLUMNS = ("name", "modality", "group", "metric", "pool")
"""Of the table of tasks."""


def models(as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False) -> None:
    """List the models that are known by name, and which of them are on this machine.

    Any folder with a checkpoint, and any other name on the hub, works as well if its vlm2vec.json names a prompt style.
    """
    styles = {name: read_json(folder / SETTINGS_FILE).get("prompt_style") for name, folder in SHIPPED.items()}
    known = [(name, style, is_shipped(name)) for name, style in styles.items()]
    known += [(name, style, is_cached(name)) for name, style in KNOWN_CHECKPOINTS.items()]
    if as_json:
        print_json({"models": [{"name": name, "prompt_style": style, "ready": ready} for name, style, ready in known]})
        return
    rows = []
    for name, style, ready in known:
        absent = "missing; see 'vlm2vec doctor'" if name in SHIPPED else "fetched from the hub on first use"
        rows.append([name, style or "-", "ready" if ready else absent])
    print(aligned(rows, num_left=3))


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
