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

from vlm2vec import Embedder
from vlm2vec.search.store import DEFAULT_NAME, FileRows, IndexInfo, Look, StoredUnit
from vlm2vec.search.stores import create_store

FILES, TURNS = sized((100_000, 7), (1000, 1))
IMPORTS = "import torch; from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel"
# As `vlm2vec search` imports them.
IMPORTS_WITHOUT_GC = f"import gc; gc.disable(); {IMPORTS}; gc.freeze()"
BY_VECTOR = (
    "import sys, numpy as np; from vlm2vec import Library; library = Library.open(sys.argv[1]);"
    "print(library.search(np.ones(library.info.dim, np.float32))[0].path); assert 'torch' not in sys.modules"
)


def main() -> None:
    """Measure and write."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        _fill(folder)
        program = [sys.executable, "-m", "vlm2vec"]
        commands = {
            "vlm2vec --help": [*program, "--help"],
            "bare imports of torch and the model class": [sys.executable, "-c", IMPORTS],
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
    info = IndexInfo(embedder.name, embedder.fingerprint, embedder.dim, embedder.dtype, "..")
    store = create_store(folder / DEFAULT_NAME, info)
    random = np.random.default_rng(0)
    for part in range(100):
        (folder / str(part)).mkdir()
        rows = []
        vectors = random.standard_normal((FILES // 100, embedder.dim), dtype=np.float32)
        for number, vector in enumerate(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)):
            path = folder / str(part) / f"{number}.png"
            shutil.copyfile(picture, path)
            unit = StoredUnit("image", None, None, vector)
            content_hash = f"{part * 1000 + number:032x}"
            rows.append(FileRows(f"{part}/{number}.png", Look.of(path.stat()), content_hash, 1, (unit,)))
        store.commit([], rows)


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
