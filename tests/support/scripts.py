"""Scripts of the repository, imported as modules."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from support.places import ROOT


def forget_scripts(folder: Path) -> None:
    """Let modules of a folder be imported anew."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def script(monkeypatch: pytest.MonkeyPatch, path: str) -> ModuleType:
    """A script such as "recipes/default/holdouts.py". Scripts of a folder import one another by their bare names."""
    place = ROOT / path
    monkeypatch.syspath_prepend(str(place.parent))
    return importlib.import_module(place.stem)
