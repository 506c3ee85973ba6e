"""A benchmark is measured with fewer dimensions and smaller numbers, beside the model's own vectors."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from support.evaluation_runs import run
from vlm2vec.errors import InputError
from vlm2vec.evaluation.runner import NamedEncoder, evaluate
from vlm2vec.evaluation.smaller import SmallerVectors
from vlm2vec.model.embedder import Embedder, Vectors
from vlm2vec.model.pooling import to_int8
from vlm2vec.tasks.registry import get_tasks


@pytest.fixture(scope="module")
def bundled() -> Embedder:
    return Embedder.load("bundled")


def _vectors(encoder: NamedEncoder, *texts: str) -> Vectors:
    return np.stack([vector for _, vector in sorted(encoder.stream(texts)) if not isinstance(vector, Exception)])


def test_vectors_are_cut_then_rounded_and_of_length_one(bundled: Embedder) -> None:
    whole = bundled.encode(["a cat", "a red circle"], truncate_dim=64, normalize_embeddings=True)
    cut = SmallerVectors(bundled, dim=64)
    assert (cut.dim, cut.name, cut.fingerprint) == (
        64,
        "bundled (64 dimensions, float32)",
        f"{bundled.fingerprint} 64 dimensions, float32",
    )
    np.testing.assert_allclose(_vectors(cut, "a cat", "a red circle"), whole, rtol=0, atol=1e-6)
    rounded = to_int8(whole).astype(np.float32)
    rounded /= np.linalg.norm(rounded, axis=1, keepdims=True)
    got = _vectors(SmallerVectors(bundled, dim=64, precision="int8"), "a cat", "a red circle")
    np.testing.assert_allclose(got, rounded, rtol=0, atol=1e-6)
    with pytest.raises(InputError, match=f"dim=1000: this model's vectors have 1 to {bundled.dim} dimensions"):
        SmallerVectors(bundled, dim=1000)


@pytest.mark.slow
def test_all_dimensions_score_as_the_model_does_and_one_bit_does_not(bundled: Embedder, tmp_path: Path) -> None:
    tasks = get_tasks("mmeb-mini", names=["noto-to-3d"])
    scores = {
        name: evaluate(encoder, tasks, out=tmp_path / name).scores.datasets["image"]["noto-to-3d"].metrics
        for name, encoder in (
            ("own", bundled),
            ("all", SmallerVectors(bundled, dim=bundled.dim)),
            ("bit", SmallerVectors(bundled, dim=1, precision="int8")),
        )
    }
    assert scores["all"] == scores["own"]
    assert scores["bit"]["hit@1"] < 0.1 < scores["own"]["hit@1"]


def test_the_command_names_size_and_precision_and_keeps_runs_apart(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vlm2vec", "evaluate", "--tasks", "which-way", "--limit", "4"]
    done = run([*command, "--dim", "64", "--precision", "int8"], tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bundled (64 dimensions, int8)" in done.stdout
    assert [folder.name for folder in (tmp_path / "evaluations" / "mmeb-mini").iterdir()] == ["bundled-64-int8-limit4"]
    refused = run([*command, "--dim", "64", "--late-interaction"], tmp_path, cwd=tmp_path)
    assert refused.returncode == 2
    assert "--dim and --precision are of single vectors; leave them out, or --late-interaction" in refused.stderr
