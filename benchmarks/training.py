"""What does training cost? Schedules, memory of the gradient cache, and a frozen vision tower that runs once.

    python benchmarks/training.py        prints tables, writes benchmarks/results/training.json   (6 minutes, two cores)

Memory is the peak of a process of its own for each measurement, above that of the model and the prepared batch.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent / "speed"))

from machine import describe
from size import sized, write_results

BATCHES = sized((32, 64, 128, 256), (2, 4))
FROZEN_BATCH = sized(64, 2)
STEPS = sized(100_000, 200)
SIDE_PX = sized(224, 56)
TURNS = sized(3, 1)
BUDGET = sized(1024, 100)
PAPER_WEIGHTS = [1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 1, 0.5, 0.5, 1, 1, 0.5, 1, 1, 1, 1, 0.5, 0.5, 1, 10, 12, 5, 5, 5]


def main() -> None:
    """Measure everything and write it down."""
    results: dict[str, Any] = {
        "command": "python benchmarks/training.py",
        "machine": describe(),
        "schedule": measure_schedules(),
        "gradient_cache": measure_memory(),
        "frozen_vision": measure_frozen_vision(),
    }
    write_results("training", results)


def measure_schedules() -> list[dict[str, Any]]:
    """Build 100,000 steps of 1,024 rows over the paper's 25 weights, and read steps from everywhere."""
    rows = []
    print(f"{'draw':8} {'sub-batch':>9} {'build s':>8} {'peak MB':>8} {'step ms':>8}")
    for draw in ("even", "sampled"):
        for sub_batch in (0, 64, 1024):
            rows.append(_in_a_process("schedule", draw, str(sub_batch)))
            row = rows[-1]
            print(f"{draw:8} {sub_batch:9} {row['build_s']:8.2f} {row['peak_mb']:8.0f} {row['step_ms']:8.2f}")
    return rows


def measure_memory() -> list[dict[str, Any]]:
    """Peak memory and time of a step, with graph of everything and with the gradient cache, at four batch sizes."""
    rows = []
    print(f"\n{'batch':>6} {'way':8} {'peak MB above model':>20} {'s/step':>8}")
    for batch in BATCHES:
        for way, budget in (("plain", None), ("cached", BUDGET)):
            row = _in_a_process("step", str(batch), str(budget or 0), "0")
            rows.append({"batch": batch, "way": way} | row)
            print(f"{batch:6} {way:8} {row['peak_mb']:20.0f} {row['step_s']:8.2f}")
    return rows


def measure_frozen_vision() -> dict[str, Any]:
    """A cached step with the vision tower trained, frozen and run once, and frozen but run twice."""
    row = _in_a_process("frozen")
    once, twice = row["once_s"], row["twice_s"]
    print(f"\nfrozen vision tower: {once:.2f} s a step run once, {twice:.2f} s run twice ({twice / once:.2f} times)")
    return row


def _in_a_process(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


# -- in a process of its own -----------------------------------------------------------------------------------------


def schedule(draw: str, sub_batch: str) -> dict[str, Any]:
    import tracemalloc

    from vlm2vec.data.mixture import Mixture

    names = [f"{i:02}" for i in range(25)]
    mixture = Mixture(
        sizes={name: 98_000 + 1000 * i for i, name in enumerate(names)},
        weights=dict(zip(names, PAPER_WEIGHTS, strict=True)),
        batch_size=1024,
        sub_batch=int(sub_batch),
        seed=1,
        draw=draw,  # type: ignore[arg-type]
    )
    started = time.perf_counter()
    planned = mixture.schedule(STEPS)
    build_s = time.perf_counter() - started
    times = []
    for step in np.random.default_rng(0).integers(0, STEPS, 200):
        started = time.perf_counter()
        planned.rows(int(step))
        times.append(time.perf_counter() - started)
    tracemalloc.start()
    mixture.schedule(STEPS)
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    return {
        "draw": draw,
        "sub_batch": int(sub_batch),
        "build_s": build_s,
        "peak_mb": peak,
        "step_ms": median(times) * 1e3,
        "step_ms_max": max(times) * 1e3,
    }


def step(batch: str, budget: str, frozen: str) -> dict[str, Any]:
    run = _prepared_step(int(batch), int(budget) or None, frozen=frozen == "1")
    before = _peak_mb()
    times = []
    for _ in range(TURNS):
        started = time.perf_counter()
        run(True)
        times.append(time.perf_counter() - started)
    return {"peak_mb": _peak_mb() - before, "step_s": median(times)}


def frozen() -> dict[str, Any]:
    run = _prepared_step(FROZEN_BATCH, BUDGET, frozen=True)
    times: dict[str, list[float]] = {"once_s": [], "twice_s": []}
    for _ in range(1 + TURNS):
        for name in times:
            started = time.perf_counter()
            run(name == "once_s")
            times[name].append(time.perf_counter() - started)
    # The first of each warms up.
    return {name: median(values[1:]) for name, values in times.items()}


def _prepared_step(batch: int, budget: int | None, *, frozen: bool) -> Callable[[bool], None]:
    """A function that does a step on pairs of a text and a picture of 224 pixels, float32.

    It is told whether the features of a frozen vision tower are kept within the step.
    """
    import PIL.Image
    import torch

    from vlm2vec.items import Image, Item
    from vlm2vec.model.backbone import Ask, plan_packs
    from vlm2vec.model.checkpoint import Folders, Settings
    from vlm2vec.model.families.qwen_inputs import PackedBatch
    from vlm2vec.model.families.qwen_vl import load
    from vlm2vec.model.similarity import normalize
    from vlm2vec.training.gradcache import GradientCache
    from vlm2vec.training.objective import info_nce

    torch.manual_seed(0)
    cpu = torch.device("cpu")
    wanted = Settings(max_pixels=SIDE_PX**2)
    backbone = load(Folders.find("tiny"), wanted, device="cpu", dtype="float32")
    backbone.requires_grad_(True).train()
    if frozen:
        backbone.model.visual.requires_grad_(False)
    generator = np.random.default_rng(0)
    pixels = [generator.integers(0, 255, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8) for _ in range(8)]
    pictures = [Item(media=(Image(PIL.Image.fromarray(array)),)) for array in pixels]
    words = [Item(f"picture {number} of some things that lie about") for number in range(batch)]
    sides = []
    for items, role in ((words, "query"), ([pictures[i % 8] for i in range(batch)], "document")):
        prepared = [backbone.processor.prepare(item, Ask(role)) for item in items]  # type: ignore[arg-type]
        plan = plan_packs([one.cost for one in prepared], budget or 2**62)
        sides.append([PackedBatch.of([prepared[i] for i in members]) for members in plan])

    def run(keep_features: bool) -> None:
        backbone.zero_grad(set_to_none=True)
        cache = GradientCache(backbone, cpu, "float32", token_budget=budget, keep_features=keep_features)
        cache.step(sides[0], sides[1], lambda q, d: info_nce(normalize(q[0]) @ normalize(d[0]).T, temperature=0.05))

    return run


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps({"schedule": schedule, "step": step, "frozen": frozen}[sys.argv[1]](*sys.argv[2:])))
    else:
        main()
