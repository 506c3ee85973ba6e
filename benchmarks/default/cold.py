"""How long from a question to its hits on an index of 10,000 pictures: by a new process, and by one that is running?

Seconds of processor are those of the whole process with its children, user and system, and the median of some turns.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import PIL.Image
from size import sized

from vlm2vec import Library

FILES, TURNS, WARM = sized((10_000, 9, 100), (20, 1, 5))
FOLDERS = 100
QUESTION = "a red square"
IMPORTS = "import numpy, onnxruntime, tokenizers, typer, pydantic, PIL.Image"
PROGRAM = (sys.executable, "-m", "vlm2vec")


def measure() -> dict[str, Any]:
    """Times of processes in turns, and of questions to an open library."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        _draw(folder)
        indexing = _run([*PROGRAM, "index", str(folder), "-q"])
        commands: dict[str, Sequence[str]] = {
            "python alone": [sys.executable, "-c", "pass"],
            "imports of the packages that a search needs": [sys.executable, "-c", IMPORTS],
            "vlm2vec --help": [*PROGRAM, "--help"],
            "search by words": [*PROGRAM, "search", QUESTION, str(folder)],
            "search by an indexed file": [*PROGRAM, "search", "", str(folder), "--image", str(folder / "07" / "7.png")],
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for turn in range(1 + TURNS):
            for name, command in commands.items():
                times = _run(command)
                # The first turn reads files that the system has not yet in memory.
                if turn:
                    taken[name].append(times)
        rows = []
        for name, turns in taken.items():
            processor, wall = (round(median(column), 3) for column in zip(*turns, strict=True))
            rows.append({"what": name, "processor_s": processor, "s": wall})
        document = {
            "files": FILES,
            "index_processor_s": round(indexing[0], 1),
            "rows": rows,
            "warm_ms": _warm(folder),
        }
    print(json.dumps(document), flush=True)
    return document


def _draw(folder: Path) -> None:
    """Pictures of 64 x 64 pixels, no two alike: patches of colour, drawn by seed."""
    random = np.random.default_rng(0)
    for number in range(FILES):
        part = folder / f"{number % FOLDERS:02}"
        part.mkdir(exist_ok=True)
        patches = PIL.Image.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8))
        patches.resize((64, 64), PIL.Image.Resampling.NEAREST).save(part / f"{number}.png")


def _run(command: Sequence[str]) -> tuple[float, float]:
    """Seconds of processor and of time that a process takes."""
    before, start = _children_s(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    processor, wall = _children_s() - before, time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return processor, wall


def _children_s() -> float:
    """Seconds of processor that all processes took which this one has started and which have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _warm(folder: Path) -> dict[str, float]:
    """Milliseconds of processor and of time for a question by words, the model and the vectors being in memory."""
    with Library.open(folder) as library:
        for number in range(3):
            library.search(f"{number} blue circles")
        processor, wall = [], []
        for number in range(WARM):
            processor.append(_taken(time.process_time, library, number))
            wall.append(_taken(time.perf_counter, library, WARM + number))
    return {"processor": round(1000 * median(processor), 2), "time": round(1000 * median(wall), 2)}


def _taken(clock: Callable[[], float], library: Library, number: int) -> float:
    start = clock()
    library.search(f"a red square with {number} stars")
    return clock() - start
