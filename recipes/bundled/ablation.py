"""The paper's ablation on this scale: how large should sub-batches be, and is it better to mix modalities?

    python recipes/bundled/ablation.py [SEED ...]        seeds 1, 2, 3 without any   (half an hour a seed, two cores)

Every run starts from the model of ablation.yaml, trains for the same number of pairs on the sources of train.yaml, and
is measured on mmeb-mini. A run that is there already is not made again; killed, the same command goes on. Writes
benchmarks/results/ablation.json.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from fetch import RECIPE

from vlm2vec.evaluation.aggregate import means
from vlm2vec.evaluation.scores import read_scores
from vlm2vec.tasks.registry import get_tasks

ROOT = RECIPE.parents[1]
sys.path.insert(0, str(ROOT / "benchmarks" / "speed"))
from machine import describe  # noqa: E402  # A script of benchmarks/speed.

WORK = RECIPE / "work" / "ablation"
START = WORK / "start"
RESULTS = ROOT / "benchmarks" / "results" / "ablation.json"
STEPS, BATCH = 150, 128
VIDEO = {"text_to_video", "video_to_text", "clip_to_motion", "clip_to_thing", "clip_question", "order_to_clip",
         "film_to_shot"}  # fmt: skip
DOCUMENT = {"text_to_page", "chart_to_class", "chart_question", "chart_by_question", "slide_by_question",
            "section_to_page"}  # fmt: skip
TEXT = {"text_to_text"}
SUB_BATCHES = (0, 32, 64, BATCH)
MIXES = ("image", "video", "document", "all")
MIX_SUB_BATCH = 32


def main(seeds: list[int]) -> None:
    """Train what is missing, measure it, and write."""
    if not START.exists():
        _vlm2vec("train", str(RECIPE / "ablation.yaml"))
    base: dict[str, Any] = yaml.safe_load((RECIPE / "train.yaml").read_text("utf-8"))
    runs: dict[tuple[str, int], dict[str, Any]] = {}
    for seed in seeds:
        for sub_batch in SUB_BATCHES:
            # The mix of all is the run with its sub-batch.
            mixes = MIXES if sub_batch == MIX_SUB_BATCH else ("all",)
            for mix in mixes:
                runs[f"sub-batch {sub_batch}, {mix}", seed] = _config(base, sub_batch, mix, seed)
    rows = [{"what": "start", "seed": None, "means": _measured("start", START)}]
    for number, ((name, seed), config) in enumerate(runs.items(), start=1):
        folder = WORK / f"{name.replace(', ', '-').replace(' ', '-')}-seed-{seed}"
        print(f"run {number} of {len(runs)}: {name}, seed {seed}", flush=True)
        if not (folder / "model.safetensors").exists():
            shutil.rmtree(folder, ignore_errors=True)
            path = WORK / f"{folder.name}.yaml"
            path.write_text(yaml.safe_dump(config | {"out": str(folder)}, sort_keys=False), "utf-8")
            _vlm2vec("train", str(path))
        rows.append(
            {
                "what": name,
                "sub_batch": config["sub_batch"],
                "mix": name.split(", ")[1],
                "seed": seed,
                "means": _measured(folder.name, folder),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    command = " ".join(["python recipes/bundled/ablation.py", *map(str, seeds)])
    document = {"command": command, "machine": describe(), "steps": STEPS, "batch": BATCH, "rows": rows}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def _config(base: Mapping[str, Any], sub_batch: int, mix: str, seed: int) -> dict[str, Any]:
    kinds = {name: _mix_of(name) for name in base["data"]}
    data = {
        name: source | {"path": str(RECIPE / source["path"])}
        for name, source in base["data"].items()
        if mix == "all" or kinds[name] == mix
    }
    kept = {"decay", "weight_decay", "loss", "precision", "learning_rate"}
    return {key: value for key, value in base.items() if key in kept} | {
        "init": str(START),
        "data": data,
        "steps": STEPS,
        "warmup_steps": 20,
        "batch_size": BATCH,
        "sub_batch": sub_batch,
        "seed": seed,
    }


def _mix_of(source: str) -> str:
    """Texts alone belong to none of them, and are trained with all."""
    return "video" if source in VIDEO else "document" if source in DOCUMENT else "text" if source in TEXT else "image"


def _measured(name: str, model: Path) -> dict[str, float]:
    out = WORK / "scores" / name
    if not (out / "scores.json").exists():
        _vlm2vec("evaluate", "--model", str(model), "--out", str(out))
    found = means(read_scores(out / "scores.json"), get_tasks("mmeb-mini"))
    return {name: round(mean.score, 2) for name, mean in found.items() if mean.score is not None}


def _vlm2vec(*arguments: str) -> None:
    command = [sys.executable, "-m", "vlm2vec", *arguments]
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        sys.exit(f"failed: {' '.join(command)}")


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or [1, 2, 3])
