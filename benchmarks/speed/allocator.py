"""What does memory allocation cost a training run? The same run under glibc's allocator and under tcmalloc.

    python benchmarks/speed/allocator.py [STEPS]     writes benchmarks/results/allocator.json   (three minutes)

On Debian, x86-64, with libtcmalloc-minimal4. `vlm2vec train` goes on from the bundled model, on noise
of many sizes with texts of many lengths, as an ordinary mixture has: no two steps allocate alike. Each run is a process
of its own, with nothing beside it; a machine's speed drifts, so glibc's comes first and once more last.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml
from machine import describe
from PIL import Image
from size import TOY, sized, write_results
from workloads import texts

LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
ALLOCATORS = (
    ("glibc", ""),
    ("tcmalloc", "libtcmalloc_minimal.so.4"),
    ("glibc again", ""),
)
PAIRS = sized(2000, 8)
BATCH = sized(128, 4)
STEPS = sized(24, 4)


def main(steps: int) -> None:
    """Measure and write."""
    missing = [library for _, library in ALLOCATORS if library and not (LIBRARIES / library).exists()]
    if missing and not TOY:
        sys.exit(f"not in {LIBRARIES}: {', '.join(missing)}; apt-get install libtcmalloc-minimal4")
    rows = []
    with tempfile.TemporaryDirectory() as work:
        draw_pairs(Path(work))
        for name, library in ALLOCATORS:
            if library in missing:
                continue
            rows.append({"allocator": name, **train(Path(work), name, library, steps)})
            print(json.dumps(rows[-1]), flush=True)
    document = {
        "command": f"python benchmarks/speed/allocator.py{'' if steps == STEPS else f' {steps}'}",
        "machine": describe(),
        "steps": steps,
        "batch_size": BATCH,
        "rows": rows,
    }
    write_results("allocator", document)


def draw_pairs(folder: Path) -> None:
    """`pairs.jsonl`: texts of 5 to 60 tokens for pictures of 40 x 40 to 400 x 400 and anything between."""
    random = np.random.default_rng(0)
    with (folder / "pairs.jsonl").open("w", encoding="utf-8") as out:
        for number, item in enumerate(texts(PAIRS, longest=60)):
            width, height = random.integers(40, 400, 2)
            pixels = random.integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png", compress_level=1)
            pair = {"query": {"text": item.text}, "positive": {"image": f"{number}.png"}}
            out.write(json.dumps(pair) + "\n")


def train(folder: Path, name: str, library: str, steps: int) -> dict[str, Any]:
    """Seconds of the whole, median tokens a second in the first and the last quarter of the steps, and peak memory."""
    out = folder / name
    config = {
        "out": str(out),
        "init": "tiny",
        "data": {"pairs": {"path": str(folder / "pairs.jsonl")}},
        "steps": steps,
        "batch_size": BATCH,
        "sub_batch": min(32, BATCH),
        "learning_rate": 1e-5,
        "precision": "bfloat16",
        "loader_workers": 0,
        "save_every": steps,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    command = [sys.executable, "-m", "vlm2vec", "train", str(path)]
    environment = os.environ | ({"LD_PRELOAD": str(LIBRARIES / library)} if library else {})
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        sys.exit(f"failed: {' '.join(command)}")
    speeds = [json.loads(line)["tokens_per_s"] for line in (out / "log.jsonl").read_text("utf-8").splitlines()]
    quarter = len(speeds) // 4
    return {
        "seconds": round(seconds, 1),
        "tokens_per_s_first": round(median(speeds[:quarter])),
        "tokens_per_s_last": round(median(speeds[-quarter:])),
        "peak_mb": round(used.ru_maxrss * 1024 / 1e6),
    }


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else STEPS)
