"""Stores of both kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.stores import INFO
from vlm2vec.search.store import Store
from vlm2vec.search.stores import StoreKind, create_store


@pytest.fixture(params=["sqlite", pytest.param("lance", marks=pytest.mark.slow)])
def kind(request: pytest.FixtureRequest) -> StoreKind:
    """Each kind of store."""
    kind: StoreKind = request.param
    return kind


@pytest.fixture
def store(tmp_path: Path, kind: StoreKind) -> Store:
    """An empty store."""
    return create_store(tmp_path / ".vlm2vec", INFO, kind=kind)
