"""How much memory does a run take above the loaded model? A process for each way, once.

python benchmarks/speed/memory.py     writes benchmarks/results/memory.json   (four minutes; Linux)
"""

from __future__ import annotations

import json
import multiprocessing
import re
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from machine import describe
from models import build_model

RESULTS = Path(__file__).parents[1] / "results" / "memory.json"
WAYS = ("packed", "padded", "sentence-transformers")


def main() -> None:
    """Measure and write."""
    context = multiprocessing.get_context("spawn")
    rows = []
    with tempfile.TemporaryDirectory() as work:
        build = context.Process(target=build_model, args=("large", Path(work) / "large"))
        build.start()
        build.join()
        for workload in ("texts", "images", "pages", "videos"):
            row: dict[str, Any] = {"workload": workload}
            for way in WAYS if workload == "texts" else WAYS[:2]:
                ours, theirs = context.Pipe()
                process = context.Process(target=_measure, args=(theirs, way, Path(work), workload))
                process.start()
                row[way] = ours.recv()
                process.join()
            rows.append(row)
            print(json.dumps(row), flush=True)
    document = {"command": "python benchmarks/speed/memory.py", "machine": describe(), "model": "large, float32"}
    RESULTS.write_text(json.dumps(document | {"rows": rows}, indent=1) + "\n", "utf-8")


def _measure(end: Connection, way: str, work: Path, workload: str) -> None:
    """MB that a run's peak lies above what the process held before it."""
    from ways import WAYS as MADE
    from workloads import WORKLOADS

    items = WORKLOADS[workload](work)
    run = MADE[way](work / "large", "float32", workload, items)
    # The highest mark is set to what is held now.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    run()
    end.send(round((_status("VmHWM") - before) / 1000))


def _status(name: str) -> int:
    """In kB."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    main()
