"""By which draws, and of which words, is the benchmark made? Each draw is seeded by the name of what it is for."""

from __future__ import annotations

import random
from pathlib import Path

import yaml
from pydantic import TypeAdapter

SEED = 7
WORDS = TypeAdapter(dict[str, tuple[str, ...]]).validate_python(
    yaml.safe_load(Path(__file__).with_name("words.yaml").read_text("utf-8"))
)
"""The lists of `words.yaml` by their names."""


def dice(*names: object) -> random.Random:
    """A generator of its own for whatever the names say."""
    return random.Random("/".join(str(name) for name in (SEED, *names)))
