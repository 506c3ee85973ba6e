"""A benchmark is measured with smaller vectors or those of tokens, beside the model's own."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.evaluation_runs import run
from vlm2vec.errors import InputError, VLM2VecError
from vlm2vec.evaluation.encoders import NamedEncoder, SmallerVectors, TokenVectors
from vlm2vec.evaluation.runner import evaluate
from vlm2vec.items import Item, ItemLike
from vlm2vec.model.backbone import Ask, Vectors
from vlm2vec.model.embedder import Embedder
from vlm2vec.model.similarity import to_int8
from vlm2vec.tasks.registry import get_tasks
from vlm2vec.vectors.job import EmbedJob, Encoder, Flush, Work
from vlm2vec.vectors.keys import item_key
from vlm2vec.vectors.store import TokenStore, VectorStore


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


@pytest.mark.slow
def test_the_command_names_size_and_precision_and_keeps_runs_apart(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vlm2vec", "evaluate", "--tasks", "which-way", "--limit", "4"]
    done = run([*command, "--dim", "64", "--precision", "int8"], tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bundled (64 dimensions, int8)" in done.stdout
    assert [folder.name for folder in (tmp_path / "evaluations" / "mmeb-mini").iterdir()] == ["bundled-64-int8-limit4"]
    refused = run([*command, "--dim", "64", "--late-interaction"], tmp_path, cwd=tmp_path)
    assert refused.returncode == 2
    assert "--dim and --precision are of single vectors; leave them out, or --late-interaction" in refused.stderr


def test_token_vectors_are_made_once_and_meet_no_single_ones(tmp_path: Path) -> None:
    class Tokens:
        fingerprint, dim, token_dim = "lengths", 2, 2

        def __init__(self) -> None:
            self.num_asked = 0

        def stream(
            self, items: Iterable[ItemLike], ask: Ask = Ask(), *, output: str = "pooled", **options: Any
        ) -> Generator[tuple[int, Vectors | VLM2VecError], None, None]:
            for position, item in enumerate(items):
                self.num_asked += 1
                shape = (2,) if output == "pooled" else (len(str(item)), 2)
                yield position, np.full(shape, position, dtype=np.float32)

    def work(encoder: Encoder, store: VectorStore | TokenStore) -> list[bytes]:
        keys = [item_key(Item(text), fingerprint=encoder.fingerprint) for text in ("a", "bb", "ccc", "dddd")]
        # Each pair of texts is more than may wait.
        job = EmbedJob(encoder, store, flush=Flush(num_bytes=20))
        job.run(Work(key, text, "") for key, text in zip(keys, ("a", "bb", "ccc", "dddd"), strict=True))
        return keys

    model = Tokens()
    tokens, single = TokenStore.open(tmp_path, 2), VectorStore.open(tmp_path, 2)
    keys = work(TokenVectors(model), tokens)
    assert [one.tolist() for one in tokens.get(keys)[1][:2]] == [[[0, 0]], [[1, 1], [1, 1]]]
    assert len(list(tmp_path.glob("tokens-2-*.npy"))) == 3
    assert set(keys).isdisjoint(work(model, single))
    assert model.num_asked == 8
    assert work(TokenVectors(model), TokenStore.open(tmp_path, 2)) == keys
    assert model.num_asked == 8
