"""`vlm2vec models`: list the models that are known by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from vlm2vec.cli.output import print_json
from vlm2vec.model.checkpoint import BUNDLED, BUNDLED_FOLDER, Settings, is_cached
from vlm2vec.model.prompts import KNOWN_CHECKPOINTS
from vlm2vec.text import aligned


@dataclass(frozen=True, slots=True)
class _KnownModel:
    """A model that `--model` takes by name; `ready` says whether it can be loaded without the network."""

    name: str
    prompt_style: str | None
    ready: bool


def models(as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False) -> None:
    """List the models that are known by name, and which of them are on this machine.

    Any folder with a checkpoint, and any other name on the hub, works as well if its vlm2vec.json names a prompt style.
    """
    known = _known_models()
    if as_json:
        print_json({"models": [asdict(model) for model in known]})
        return
    rows = []
    for model in known:
        absent = "missing; see 'vlm2vec doctor'" if model.name == BUNDLED else "fetched from the hub on first use"
        rows.append([model.name, model.prompt_style or "-", "ready" if model.ready else absent])
    print(aligned(rows, num_left=3))


def _known_models() -> list[_KnownModel]:
    """The bundled model, then those that the table of prompt styles names."""
    there = any(BUNDLED_FOLDER.glob("*.safetensors"))
    bundled = _KnownModel(BUNDLED, Settings.read(BUNDLED_FOLDER).prompt_style, there)
    return [bundled, *(_KnownModel(name, style, is_cached(name)) for name, style in KNOWN_CHECKPOINTS.items())]
