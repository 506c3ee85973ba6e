"""In which words are things told and asked for? The lists of `words/*.yaml`, as they stand there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).parent / "words"


def read_words(name: str) -> dict[str, Any]:
    """The lists of a file by their names; a list is a tuple."""
    words: dict[str, Any] = _frozen(yaml.safe_load((_FOLDER / f"{name}.yaml").read_text("utf-8")))
    return words


def _frozen(value: object) -> object:
    if isinstance(value, dict):
        return {key: _frozen(inner) for key, inner in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
