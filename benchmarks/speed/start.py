"""How long from pressing enter to an answer? Whole processes, in turns.

    python benchmarks/speed/start.py     writes benchmarks/results/start.json   (six minutes)

The index holds 100,000 pictures of the bundled model's dimensions: equal small files of different names, with random
vectors, up to date so that nothing is embedded. Times are medians of seven turns.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from machine import describe
from size import sized, write_results

from vlm2vec import Embedder, Index
from vlm2vec.search.table import Row

FILES, TURNS = sized((100_000, 7), (1000, 1))
IMPORTS = "import torch, lancedb; from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel"
# As `vlm2vec search` imports them.
IMPORTS_WITHOUT_GC = f"import gc; gc.disable(); {IMPORTS}; gc.freeze()"
BY_VECTOR = (
    "import sys, numpy as np; from pathlib import Path; from vlm2vec import Index;"
    "index = Index.open(Path(sys.argv[1]));"
    "print(index.search(np.ones(index.dim, np.float32))[0].path); assert 'torch' not in sys.modules"
)


def main() -> None:
    """Measure and write."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        _fill(folder)
        program = [sys.executable, "-m", "vlm2vec"]
        commands = {
            "vlm2vec --help": [*program, "--help"],
            "bare imports of torch, the model class and LanceDB": [sys.executable, "-c", IMPORTS],
            "the same without garbage collection": [sys.executable, "-c", IMPORTS_WITHOUT_GC],
            "search 100,000 by text": [*program, "search", "a red square", str(folder)],
            "search 100,000 by an indexed file": [
                *program,
                "search",
                "",
                str(folder),
                "--image",
                str(folder / "0/7.png"),
            ],
            "search 100,000 by vector, in Python": [sys.executable, "-c", BY_VECTOR, str(folder)],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(1 + TURNS):
            for name, command in commands.items():
                start = time.perf_counter()
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    sys.exit(f"{name}: {done.stderr}")
                if turn:
                    seconds[name].append(time.perf_counter() - start)
        warm = _text_query()
    rows = [
        {"what": name, "median_s": round(median(times), 3), "longest_s": round(max(times), 3)}
        for name, times in seconds.items()
    ]
    rows.append(
        {"what": "a text's vector, model loaded", "median_s": round(median(warm), 4), "longest_s": round(max(warm), 4)}
    )
    for row in rows:
        print(json.dumps(row), flush=True)
    document: dict[str, Any] = {"command": "python benchmarks/speed/start.py", "machine": describe(), "rows": rows}
    write_results("start", document)


def _fill(folder: Path) -> None:
    """100,000 files in 100 folders, and their rows."""
    picture = sorted((Path(__file__).parents[2] / "samples" / "objects").iterdir())[0]
    embedder = Embedder.load(device="cpu")
    index = Index.create(folder, embedder=embedder)
    random = np.random.default_rng(0)
    for part in range(100):
        (folder / str(part)).mkdir()
        rows = []
        vectors = random.standard_normal((FILES // 100, embedder.dim), dtype=np.float32)
        for number, vector in enumerate(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)):
            path = folder / str(part) / f"{number}.png"
            shutil.copyfile(picture, path)
            status = path.stat()
            rows.append(
                Row(
                    f"{part}/{number}.png", "image", None, None, 1,
                    f"{part * 1000 + number:032x}", status.st_size, status.st_mtime_ns, vector,
                )
            )  # fmt: skip
        index.table.replace([], rows)
    index.table.tidy()


def _text_query() -> list[float]:
    embedder = Embedder.load(device="cpu")
    times = []
    for turn in range(sized(30, 6)):
        start = time.perf_counter()
        embedder.encode_query(f"a red square with {turn} stars", target="image")
        times.append(time.perf_counter() - start)
    return times[5:]


if __name__ == "__main__":
    main()
