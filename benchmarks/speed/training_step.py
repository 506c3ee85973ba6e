"""How long does a training step take? Ours, packed, beside the gradient cache as published, padded.

    python benchmarks/speed/training_step.py     writes benchmarks/results/training_step.json   (four minutes; Linux)

A batch of captions and pictures of mixed sizes, prepared before; an adapter as `vlm2vec train` attaches it, DoRA of
rank 16 on the language model with dropout; float32 weights, autocast to bfloat16, as in both recipes in configs/.
What is timed is the step from the inputs to the adapter's gradients. Ours runs the frozen vision tower once.
The published way is that of benchmarks/gpu.py: chunks of 8, padded, and vision in both passes.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from machine import describe, peak_mb
from models import build_model
from processes import Served, alone
from size import sized, write_results

HERE = Path(__file__).resolve().parent
PAIRS = sized(32, 4)
TOKEN_BUDGET = 2048
"""Of ours: as many as a published chunk has, 8 pictures of 256."""
TEMPERATURE = 0.02
CHECKED = sized(8, 2)
REPEATS = sized(3, 1)
WAYS = ("packed", "published")


def main() -> None:
    """Measure and write."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        alone(build_model, "large", folder / "large")
        served = {way: Served(_make, way, folder) for way in WAYS}
        # The first step warms up, and is the one whose memory is measured.
        rows: dict[str, dict[str, Any]] = {way: {"way": way, **served[way].ask("peak")} for way in WAYS}
        turns = [{way: served[way].ask("seconds") for way in WAYS} for _ in range(REPEATS)]
        gradients = [served[way].ask("gradient") for way in WAYS]
        for process in served.values():
            process.stop()
    ours, theirs = (gradient / np.linalg.norm(gradient) for gradient in gradients)
    cosine = float(ours @ theirs)
    assert cosine > 0.98, f"the ways give other gradients: cosine {cosine}"
    for way, row in rows.items():
        seconds = median(turn[way] for turn in turns)
        row["seconds"] = round(seconds, 3)
        row["pairs_per_s"] = round(PAIRS / seconds, 3)
        # Turn by turn, since a machine's speed drifts.
        row["ratio_to_packed"] = round(median(turn[way] / turn["packed"] for turn in turns), 3)
        print(json.dumps(row), flush=True)
    document = {
        "command": "python benchmarks/speed/training_step.py",
        "machine": describe(),
        "model": "large, autocast to bfloat16",
        "pairs": PAIRS,
        "token_budget": TOKEN_BUDGET,
        "gradient_cosine": round(cosine, 5),
        "rows": list(rows.values()),
    }
    write_results("training_step", document)


def _make(way: str, folder: Path) -> Callable[[str], Any]:
    """In a process of its own: the model, the batch, and what answers for a step."""
    import torch
    from workloads import MAX_PIXELS, images, texts

    from vlm2vec.model.checkpoint import Folders, Settings
    from vlm2vec.model.families.qwen_vl import load
    from vlm2vec.training.config import Adapter
    from vlm2vec.training.trainee import attach_adapter

    folders = Folders.find(folder / "large")
    backbone = load(folders, Settings(max_pixels=MAX_PIXELS["images"]), device="cpu", dtype="float32")
    # Both ways begin with the same adapter.
    torch.manual_seed(1)
    attach_adapter(backbone.model, Adapter())
    media = folder / way
    media.mkdir()
    queries, documents = (
        [backbone.processor.prepare(item) for item in side] for side in (texts(PAIRS, longest=40), images(media, PAIRS))
    )
    make: Callable[..., Callable[[], object]] = {"packed": _packed, "published": _published}[way]
    step = make(backbone, queries, documents)
    backbone.train()

    def clean() -> None:
        backbone.zero_grad(set_to_none=True)
        step()

    def answer(question: str) -> Any:
        if question == "peak":
            return {"peak_mb": peak_mb(clean)}
        if question == "seconds":
            start = time.perf_counter()
            clean()
            return time.perf_counter() - start
        # Of a few pairs, and without dropout, so that it can be compared.
        backbone.eval().zero_grad(set_to_none=True)
        make(backbone, queries[:CHECKED], documents[:CHECKED])()
        return torch.cat([p.grad.flatten() for p in backbone.parameters() if p.grad is not None]).numpy()

    return answer


def _packed(backbone: Any, queries: list[Any], documents: list[Any]) -> Callable[[], None]:
    """As `vlm2vec train` does it: packs made before the step, by its loader."""
    import torch
    from torch import Tensor

    from vlm2vec.model.backbone import plan_packs
    from vlm2vec.model.families.qwen_inputs import PackedBatch
    from vlm2vec.model.similarity import normalize
    from vlm2vec.training.gradcache import GradientCache
    from vlm2vec.training.objective import info_nce

    plans = [plan_packs([one.cost for one in side], TOKEN_BUDGET) for side in (queries, documents)]
    packs = [
        [PackedBatch.of([side[i] for i in members]) for members in plan]
        for side, plan in zip((queries, documents), plans, strict=True)
    ]
    # Where each input lies behind its packs.
    orders = [torch.tensor([i for members in plan for i in members]).argsort() for plan in plans]

    def loss(q: tuple[Tensor, ...], d: tuple[Tensor, ...]) -> Tensor:
        q_BD, d_BD = (normalize(side[0][order]) for side, order in zip((q, d), orders, strict=True))
        return info_nce(q_BD @ d_BD.T, temperature=TEMPERATURE)

    cache = GradientCache(backbone, torch.device("cpu"), "bfloat16", token_budget=TOKEN_BUDGET)

    def step() -> None:
        cache.step(packs[0], packs[1], loss)

    return step


def _published(backbone: Any, queries: list[Any], documents: list[Any]) -> Callable[[], object]:
    """transformers' own model; batches are padded in the step, which takes next to nothing of it."""
    import torch

    sys.path.insert(0, str(HERE.parent))
    from gpu import plain_step

    return partial(plain_step, backbone.model, queries, documents, torch.device("cpu"))


if __name__ == "__main__":
    main()
