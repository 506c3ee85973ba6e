"""Scripts of the repository, imported as modules."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

from support.places import ROOT


def script(monkeypatch: pytest.MonkeyPatch, path: str) -> ModuleType:
    """A script such as "recipes/default/holdouts.py". Scripts of a folder import one another by their bare names."""
    place = ROOT / path
    monkeypatch.syspath_prepend(str(place.parent))
    return importlib.import_module(place.stem)
