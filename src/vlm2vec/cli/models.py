"""`vlm2vec models`: list the models that are known by name."""

from __future__ import annotations

from typing import Annotated

import typer

from vlm2vec.cli.output import print_json
from vlm2vec.model.checkpoint import BUNDLED, BUNDLED_FOLDER, Settings, is_cached
from vlm2vec.model.prompts import KNOWN_CHECKPOINTS
from vlm2vec.text import aligned


def models(as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False) -> None:
    """List the models that are known by name, and which of them are on this machine.

    Any folder with a checkpoint, and any other name on the hub, works as well if its vlm2vec.json names a prompt style.
    """
    style, is_there = Settings.read(BUNDLED_FOLDER).prompt_style, any(BUNDLED_FOLDER.glob("*.safetensors"))
    known = [(BUNDLED, style, is_there), *((name, of, is_cached(name)) for name, of in KNOWN_CHECKPOINTS.items())]
    if as_json:
        print_json({"models": [{"name": name, "prompt_style": style, "ready": ready} for name, style, ready in known]})
        return
    rows = []
    for name, style, ready in known:
        absent = "missing; see 'vlm2vec doctor'" if name == BUNDLED else "fetched from the hub on first use"
        rows.append([name, style or "-", "ready" if ready else absent])
    print(aligned(rows, num_left=3))
