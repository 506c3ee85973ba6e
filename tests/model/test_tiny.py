"""The small Qwen2-VL in the package, for tests and walks through training."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors import safe_open

from support.places import ROOT
from vlm2vec import Embedder
from vlm2vec.model.checkpoint import SHIPPED

TINY = SHIPPED["tiny"]


@pytest.fixture(scope="module")
def tiny() -> Embedder:
    return Embedder.load("tiny", device="cpu")


def test_it_is_small_half_precision_and_complete() -> None:
    assert sum(path.stat().st_size for path in TINY.iterdir()) <= 25_000_000
    with safe_open(TINY / "model.safetensors", "np") as weights:
        assert {weights.get_slice(key).get_dtype() for key in weights.keys()} == {"F16"}  # noqa: SIM118 - no mapping
    assert json.loads((TINY / "vlm2vec.json").read_text("utf-8"))["prompt_style"] == "qwen2-vl"


def test_its_vectors_do_not_depend_on_their_neighbours(tiny: Embedder) -> None:
    files = sorted((ROOT / "samples" / "objects").iterdir())
    together = tiny.encode_document(files)
    alone = np.stack([tiny.encode_document(file) for file in files])
    np.testing.assert_allclose(together, alone, rtol=0, atol=2e-6)
