"""Shared by all tests: few threads, no network, no writing outside temporary folders."""

from __future__ import annotations

import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="vlm2vec-tests-")

import pytest

from golden_cases import MODEL
from vlm2vec.model.embedder import Embedder


@pytest.fixture(scope="session")
def published() -> Embedder:
    """The tiny golden model in the published style."""
    return Embedder.load(MODEL, prompt_style="vlm2vec", device="cpu")


@pytest.fixture(scope="session")
def own() -> Embedder:
    """The tiny golden model in the style of models trained here."""
    return Embedder.load(MODEL, prompt_style="qwen2-vl", device="cpu")
