"""Shared by all tests: few threads, no network, no writing outside temporary folders."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="vlm2vec-tests-")

import pytest
from hypothesis import settings

from support.golden_cases import MODEL
from support.index_folders import make_picture, summary_of
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.library import Library

# Those that need more examples say so; `make torture` draws thousands.
settings.register_profile("quick", max_examples=25, deadline=None)
settings.load_profile("quick")


def pytest_collection_finish() -> None:
    """Keep what has been imported out of garbage collection, which would look through all of it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def published() -> Embedder:
    """The tiny golden model in the published style."""
    return Embedder.load(MODEL, prompt_style="vlm2vec", device="cpu")


@pytest.fixture(scope="session")
def own() -> Embedder:
    """The tiny golden model in the style of models trained here."""
    return Embedder.load(MODEL, prompt_style="qwen2-vl", device="cpu")


@pytest.fixture
def model_copy(tmp_path: Path) -> Path:
    """A copy of the tiny golden model, to be changed or damaged."""
    return Path(shutil.copytree(MODEL, tmp_path / "model"))


@pytest.fixture
def three(tmp_path: Path, own: Embedder) -> Library:
    """A library of three pictures, in its index."""
    for number in range(3):
        make_picture(tmp_path / f"{number}.png", number)
    library = Library.open(tmp_path, model=own)
    assert library.sync() == summary_of(added=3, embedded=3)
    return library
