"""How much memory does a run take above the loaded model? A process for each way, once.

python benchmarks/speed/memory.py     writes benchmarks/results/memory.json   (four minutes; Linux)
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import describe, peak_mb
from models import build_model
from processes import Served, alone

RESULTS = Path(__file__).parents[1] / "results" / "memory.json"
WAYS = ("packed", "padded", "sentence-transformers")


def main() -> None:
    """Measure and write."""
    rows = []
    with tempfile.TemporaryDirectory() as work:
        alone(build_model, "large", Path(work) / "large")
        for workload in ("texts", "images", "pages", "videos"):
            row: dict[str, Any] = {"workload": workload}
            for way in WAYS if workload == "texts" else WAYS[:2]:
                served = Served(_made, way, Path(work), workload)
                row[way] = served.ask("peak")
                served.stop()
            rows.append(row)
            print(json.dumps(row), flush=True)
    document = {"command": "python benchmarks/speed/memory.py", "machine": describe(), "model": "large, float32"}
    RESULTS.write_text(json.dumps(document | {"rows": rows}, indent=1) + "\n", "utf-8")


def _made(way: str, work: Path, workload: str) -> Callable[[str], int]:
    from ways import WAYS as MADE
    from workloads import WORKLOADS

    made = MADE[way](work / "large", "float32", workload, WORKLOADS[workload](work))
    return lambda _: peak_mb(made.embed)


if __name__ == "__main__":
    main()
