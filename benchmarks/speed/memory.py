"""How much memory does a run take above the loaded model? A process for each way, once.

python benchmarks/speed/memory.py     writes benchmarks/results/memory.json   (four minutes; Linux)
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from machine import describe, peak_mb
from models import build_model
from processes import Served, alone
from size import TOY, write_results

WAYS = ("packed", "padded", "sentence-transformers")


def main() -> None:
    """Measure and write."""
    rows = []
    with tempfile.TemporaryDirectory() as work:
        alone(build_model, "large", Path(work) / "large")
        for workload in ("texts", "images", "pages", "videos"):
            row: dict[str, Any] = {"workload": workload}
            # Tests have no sentence-transformers.
            third = workload == "texts" and not (TOY and find_spec("sentence_transformers") is None)
            for way in WAYS if third else WAYS[:2]:
                served = Served(_made, way, Path(work), workload)
                row[way] = served.ask("peak")
                served.stop()
            rows.append(row)
            print(json.dumps(row), flush=True)
    document = {"command": "python benchmarks/speed/memory.py", "machine": describe(), "model": "large, float32"}
    write_results("memory", document | {"rows": rows})


def _made(way: str, work: Path, workload: str) -> Callable[[str], int]:
    from ways import WAYS as MADE
    from workloads import WORKLOADS

    made = MADE[way](work / "large", "float32", workload, WORKLOADS[workload](work))
    return lambda _: peak_mb(made.embed)


if __name__ == "__main__":
    main()
