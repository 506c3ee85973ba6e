"""The paper's ablation on this scale: how large should sub-batches be, and is it better to mix modalities?

    python recipes/bundled/ablation.py [SEED ...]      seeds 1, 2, 3 without any   (some 25 minutes a seed, two cores)

Every run starts from the fourth stage of the bundled model, as the repository's history has it, trains for the same
number of pairs on the sources of train_5.yaml without its teachers, and is measured on mmeb-mini. A run that is there
already is not made again; killed, the same command goes on. Writes benchmarks/results/ablation.json, of which
benchmarks/speed makes table and figure of docs/ablation.md.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import yaml
from fetch import RECIPE

from vlm2vec.evaluation.aggregate import dataset_score, means
from vlm2vec.evaluation.scores import read_scores
from vlm2vec.tasks.registry import get_tasks
from vlm2vec.training.checkpoint import check_same_run
from vlm2vec.training.config import read_config

ROOT = RECIPE.parents[1]
sys.path.insert(0, str(ROOT / "benchmarks" / "speed"))
from machine import describe  # noqa: E402  # A script of benchmarks/speed.

WORK = RECIPE / "work" / "ablation"
START = WORK / "start"
RESULTS = ROOT / "benchmarks" / "results" / "ablation.json"
START_COMMIT = "74ba204"
"""Its model knows captions, pictures of one concept, drawings, clips, pages and texts, and none of the other tasks."""

STEPS, BATCH = 60, 256
VIDEO = {"text_to_video", "video_to_text", "clip_to_motion", "clip_to_thing", "clip_question", "order_to_clip",
         "film_to_shot"}  # fmt: skip
DOCUMENT = {"text_to_page", "chart_by_question", "slide_by_question", "section_to_page"}
TEXT = {"text_to_text"}
"""As mmeb-mini counts them; all other sources are of images."""

SUB_BATCHES = (0, 32, 64, 128, BATCH)
MIXES = ("image", "video", "document", "all")
MIX_SUB_BATCH = 32
TOGETHER = 2
"""Runs at once, each with its share of the cores: that does more than one after the other with all."""


def main(seeds: list[int]) -> None:
    """Train what is missing, measure it, and write."""
    _fetch_start()
    base: dict[str, Any] = yaml.safe_load((RECIPE / "train_5.yaml").read_text("utf-8"))
    runs = [
        {"sub_batch": sub_batch, "mix": mix, "seed": seed}
        for seed in seeds
        for sub_batch in SUB_BATCHES
        # The mix of all is the run with its sub-batch.
        for mix in (MIXES if sub_batch == MIX_SUB_BATCH else ("all",))
    ]
    rows: list[dict[str, Any]] = [{"sub_batch": None, "mix": "before", "seed": None} | _measured("start", START)]
    with ThreadPoolExecutor(TOGETHER) as pool:
        jobs = [pool.submit(_done, base, **run) for run in runs]
        try:
            for job in as_completed(jobs):
                print(json.dumps(runs[jobs.index(job)] | {"means": job.result()["means"]}), flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    rows += [run | job.result() for run, job in zip(runs, jobs, strict=True)]
    command = " ".join(["python recipes/bundled/ablation.py", *map(str, seeds)])
    document = {"command": command, "machine": describe(), "steps": STEPS, "batch": BATCH, "rows": rows}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def _done(base: Mapping[str, Any], sub_batch: int, mix: str, seed: int) -> dict[str, dict[str, float]]:
    """Train one run, if it is not there, and measure it."""
    out = WORK / f"sub-batch-{sub_batch}-{mix}-seed-{seed}"
    path = WORK / f"{out.name}.yaml"
    path.write_text(yaml.safe_dump(_config(base, sub_batch, mix, seed) | {"out": str(out)}), "utf-8")
    # A run writes its card last.
    if (out / "README.md").exists():
        check_same_run(out, read_config(path))
    else:
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(WORK / "scores" / out.name, ignore_errors=True)
        _vlm2vec("train", str(path))
    return _measured(out.name, out)


def _fetch_start() -> None:
    if (START / "model.safetensors").exists():
        return
    bundled = "src/vlm2vec/bundled"
    command = ["git", "archive", "--format=tar", f"{START_COMMIT}:{bundled}"]
    files = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(files)) as archive:
        archive.extractall(START, filter="data")


def _config(base: Mapping[str, Any], sub_batch: int, mix: str, seed: int) -> dict[str, Any]:
    kinds = {name: _mix_of(name) for name in base["data"]}
    data = {
        name: source | {"path": str(RECIPE / source["path"])}
        for name, source in base["data"].items()
        if mix == "all" or kinds[name] == mix
    }
    kept = {"decay", "weight_decay", "loss", "precision"}
    return {key: value for key, value in base.items() if key in kept} | {
        "init": str(START),
        "data": data,
        "steps": STEPS,
        "warmup_steps": 10,
        # Half of train_5.yaml's: warm-up is short, and there is no teacher that keeps vectors apart.
        "learning_rate": 0.0004,
        "batch_size": BATCH,
        "sub_batch": sub_batch,
        "seed": seed,
        # On two cores a process that prepares rows takes as much from the step as it saves.
        "loader_workers": 0,
    }


def _mix_of(source: str) -> str:
    """Texts alone belong to none of them, and are trained with all."""
    return "video" if source in VIDEO else "document" if source in DOCUMENT else "text" if source in TEXT else "image"


def _measured(name: str, model: Path) -> dict[str, dict[str, float]]:
    """Means and the scores of tasks that they are of, in hundredths."""
    out = WORK / "scores" / name
    # It goes on where it was stopped, and what is there already is not embedded again.
    _vlm2vec("evaluate", "--model", str(model), "--out", str(out))
    scores, tasks = read_scores(out / "scores.json"), get_tasks("mmeb-mini")
    of_task = {task.name: dataset_score(scores, task) for task in tasks}
    averages = {name: mean.score for name, mean in means(scores, tasks).items()}
    return {
        key: {name: round(score, 2) for name, score in found.items() if score is not None}
        for key, found in (("means", averages), ("tasks", of_task))
    }


def _vlm2vec(*arguments: str) -> None:
    command = [sys.executable, "-m", "vlm2vec", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // TOGETHER))}
    if subprocess.run(command, stdout=subprocess.DEVNULL, env=environment).returncode:
        sys.exit(f"failed: {' '.join(command)}")


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or [1, 2, 3])
