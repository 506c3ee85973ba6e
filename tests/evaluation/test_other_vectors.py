"""A benchmark is measured by smaller vectors or those of tokens, beside the model's own."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from support.evaluation_runs import (
    Counting,
    Together,
    command,
    in_threads,
    predictions_in,
    run,
    scores_in,
    stored_keys,
    written,
)
from support.golden_cases import MODEL, qwen
from vlm2vec.errors import ConfigError, InputError, VLM2VecError
from vlm2vec.evaluation.runner import Evaluation, SmallerVectors, _TokenVectors, evaluate
from vlm2vec.items import Item, ItemLike
from vlm2vec.model.backbone import Ask, Vectors
from vlm2vec.model.embedder import Embedder
from vlm2vec.model.similarity import to_int8
from vlm2vec.tasks.registry import get_tasks, parse_task
from vlm2vec.vectors.job import EmbedJob, Encoder, Flush, NamedEncoder, Work
from vlm2vec.vectors.keys import item_key
from vlm2vec.vectors.store import TokenStore, VectorStore

TASKS = ["ImageNet-1K", "MSR-VTT", "ViDoRe_docvqa"]
"""Local, global, and pages read from a table."""


@pytest.fixture(scope="module")
def with_head() -> Embedder:
    """The tiny golden model with a token head of eight numbers."""
    embedder = Embedder.load(MODEL, prompt_style="vlm2vec", device="cpu")
    torch.manual_seed(0)
    qwen(embedder).add_token_head(8)
    return embedder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return written(TASKS, tmp_path / "data")


def test_scores_are_those_of_the_models_own_token_vectors(with_head: Embedder, root: Path, tmp_path: Path) -> None:
    """The same order and scores as `encode_tokens` and sums of largest products."""
    tasks = get_tasks(names=TASKS)
    found = evaluate(Counting(with_head), tasks, root=root, out=tmp_path / "out", late_interaction=True)
    assert found.failures == {}
    for task in tasks:
        data = parse_task(task, root)
        queries = with_head.encode_tokens(data.queries)
        candidates = with_head.encode_tokens([data.candidates[place] for place in range(len(data.candidates))])
        lines = predictions_in(tmp_path / "out")[f"{task.name}.jsonl"].splitlines()
        for row, line in enumerate(map(json.loads, lines)):
            pool = data.candidate_names if data.pools is None else data.pools[row]
            assert {name for name, _ in line["ranked"]} <= set(pool)
            for name, score in line["ranked"]:
                products = queries[row] @ candidates[data.candidate_names.index(name)].T
                assert score == pytest.approx(products.max(axis=1).sum(), abs=1e-3)
            assert [score for _, score in line["ranked"]] == sorted((s for _, s in line["ranked"]), reverse=True)


def test_it_embeds_once_and_shares_no_vector_or_folder_with_single_ones(
    with_head: Embedder, root: Path, tmp_path: Path
) -> None:
    tasks, model, out = get_tasks(names=TASKS), Counting(with_head), tmp_path / "out"
    first = evaluate(model, tasks, root=root, out=out, late_interaction=True)
    num_first = model.num_encoded
    assert num_first == len(stored_keys(out)) > 0
    assert all(path.name.startswith("tokens-8-") for path in (out / "vectors").iterdir())
    again = evaluate(model, tasks, root=root, out=out, late_interaction=True)
    assert model.num_encoded == num_first
    assert again.scores.datasets == first.scores.datasets
    assert json.loads((out / "run.json").read_text())["late_interaction"] is True
    assert scores_in(out)["metadata"]["note"] == "ranked by late interaction"
    with pytest.raises(ConfigError, match="holds an evaluation with late_interaction true, not false; give another"):
        evaluate(model, tasks, root=root, out=out)
    # Single vectors in a folder of token vectors.
    shutil.copytree(out / "vectors", tmp_path / "single" / "vectors")
    evaluate(model, tasks, root=root, out=tmp_path / "single")
    assert model.num_encoded == 2 * num_first
    assert set(stored_keys(tmp_path / "single").values()) == {1}


def test_processes_share_the_work(with_head: Embedder, root: Path, tmp_path: Path) -> None:
    models = [Counting(with_head), Counting(with_head)]
    tasks = get_tasks(names=TASKS)

    def work(processes: Together) -> Evaluation:
        out = tmp_path / "out"
        return evaluate(models[processes.rank], tasks, root=root, out=out, late_interaction=True, processes=processes)

    found = in_threads(work)
    alone = evaluate(Counting(with_head), tasks, root=root, out=tmp_path / "alone", late_interaction=True)
    assert found[0].scores.datasets == found[1].scores.datasets == alone.scores.datasets
    assert sum(model.num_encoded for model in models) == len(stored_keys(tmp_path / "alone"))
    assert min(model.num_encoded for model in models) > 0


def test_a_model_without_token_head_cannot(published: Embedder, root: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^tiny has no token head, and so .*; train one with .*; or rank single vectors: leave out "
    ):
        evaluate(Counting(published), get_tasks(names=TASKS), root=root, out=tmp_path / "out", late_interaction=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command_ranks_by_tokens_only_when_told_to(with_head: Embedder, root: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(MODEL, model)
    head = qwen(with_head).token_head
    assert head is not None
    save_file({"weight": head.weight.data}, model / "token_head.safetensors")

    def told(out: Path, *options: str) -> str:
        arguments = command(root, out, "--tasks", "ImageNet-1K", "--model", str(model), *options)
        done = run(arguments, tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    said = f"{model} has a token head; its single vectors are ranked, with --late-interaction those of its tokens"
    assert said in told(tmp_path / "single")
    late = told(tmp_path / "late", "--late-interaction")
    assert "has a token head" not in late
    assert f"{model}: ranked by late interaction" in late
    kinds = [
        {re.sub("-[0-9a-f]{32}", "", path.name) for path in (tmp_path / out / "vectors").iterdir()}
        for out in ("single", "late")
    ]
    assert kinds == [{f"{with_head.dim}.npy"}, {"tokens-8.npy"}]
    refused = run(command(root, tmp_path / "no", "--tasks", "ImageNet-1K", "--late-interaction"), tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: {MODEL} has no token head, and so no vectors of tokens; train one")


# Smaller vectors


@pytest.fixture(scope="module")
def bundled() -> Embedder:
    return Embedder.load("tiny")


def _vectors(encoder: NamedEncoder, *texts: str) -> Vectors:
    return np.stack([vector for _, vector in sorted(encoder.stream(texts)) if not isinstance(vector, Exception)])


def test_vectors_are_cut_then_rounded_and_of_length_one(bundled: Embedder) -> None:
    whole = bundled.encode(["a cat", "a red circle"], truncate_dim=64, normalize_embeddings=True)
    cut = SmallerVectors(bundled, dim=64)
    assert (cut.dim, cut.name, cut.fingerprint) == (
        64,
        "tiny (64 dimensions, float32)",
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
    keys = work(_TokenVectors(model), tokens)
    assert [one.tolist() for one in tokens.get(keys)[1][:2]] == [[[0, 0]], [[1, 1], [1, 1]]]
    assert len(list(tmp_path.glob("tokens-2-*.npy"))) == 3
    assert set(keys).isdisjoint(work(model, single))
    assert model.num_asked == 8
    assert work(_TokenVectors(model), TokenStore.open(tmp_path, 2)) == keys
    assert model.num_asked == 8
