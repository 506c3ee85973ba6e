"""How fast is embedding, beside other ways and beside the arithmetic? Each way in a process of its own, in turns.

    python benchmarks/speed/encode.py                 all; writes benchmarks/results/encode.json   (35 minutes)
    python benchmarks/speed/encode.py texts images    only these workloads; writes nothing

Needs sentence-transformers beside the package: pip install -c constraints.txt sentence-transformers
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from machine import describe
from models import SHAPES, build_model
from numpy.typing import NDArray
from processes import Served, alone
from size import TOY, sized, write_results
from workloads import WORKLOADS

REPEATS = sized(3, 1)
SETTINGS = sized([("large", "float32"), ("large", "bfloat16"), ("small", "float32")], [("large", "float32")])
PARTS = ("decode_s", "prepare_s", "forward_s", "operations")

Turns = Mapping[int, dict[str, Any]]
"""What a way told in each turn that counts."""


def main() -> None:
    """Measure and write."""
    chosen = sys.argv[1:] or sized(list(WORKLOADS), ["texts", "videos"])
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for size in SHAPES:
            alone(build_model, size, Path(work) / size)
        for size, dtype in SETTINGS:
            for workload in chosen:
                rows += measure(Path(work), size, dtype, workload)
    if not sys.argv[1:]:
        document = {"command": "python benchmarks/speed/encode.py", "machine": describe(), "rows": rows}
        write_results("encode", document)


def measure(work: Path, size: str, dtype: str, workload: str) -> list[dict[str, Any]]:
    """One workload on one model: every way in turn, three times after a first run that does not count."""
    ways = ["packed", "padded", "floor"]
    # Tests have no sentence-transformers.
    if workload == "texts" and not (TOY and find_spec("sentence_transformers") is None):
        ways.insert(2, "sentence-transformers")
    if (size, dtype) == ("large", "float32"):
        ways.append("published")
    served = {way: Served(_make, way, work, size, dtype, workload) for way in ways}
    told: dict[str, dict[int, dict[str, Any]]] = {way: {} for way in ways}
    vectors: dict[str, NDArray[np.float32]] = {}
    for turn in range(1 + REPEATS):
        for way in ways:
            # It takes longest: once, in the last turn.
            if way != "published" or turn == REPEATS:
                told[way][turn], vectors[way] = served[way].ask("run")
    for process in served.values():
        process.stop()
    # Those of the last turn.
    for way, found in vectors.items():
        if way != "floor":
            nearest = float((found * vectors["packed"]).sum(axis=1).min())
            assert nearest > (0.999 if dtype == "float32" else 0.97), f"{way} gives other vectors: cosine {nearest}"
    counted = {way: {turn: one for turn, one in turns.items() if turn} for way, turns in told.items()}
    rows = [
        {"model": size, "dtype": dtype, "workload": workload, "way": way} | _summary(turns, counted["packed"])
        for way, turns in counted.items()
    ]
    for row in rows:
        print(json.dumps(row), flush=True)
    return rows


def _summary(turns: Turns, ours: Turns) -> dict[str, Any]:
    seconds = median(one["total_s"] for one in turns.values())
    # Ratios turn by turn, since a machine's speed drifts.
    ratios = [one["total_s"] / ours[turn]["total_s"] for turn, one in turns.items()]
    first = next(iter(turns.values()))
    # Ours computes no others than the real ones.
    tokens = next(iter(ours.values()))["slots"]
    summary = {
        "turns": len(turns),
        "items": first["items"],
        "seconds": round(seconds, 3),
        "ratio_to_packed": round(median(ratios), 3),
        "items_per_s": round(first["items"] / seconds, 2),
        "tokens_per_s": round(tokens / seconds, 1),
        "padding_share": round(1 - tokens / first["slots"], 4) if "slots" in first else None,
    }
    for part in PARTS:
        values = [one[part] for one in turns.values() if one.get(part) is not None]
        summary[part] = round(median(values), 4) if values else None
    return summary


def _make(way: str, work: Path, size: str, dtype: str, workload: str) -> Callable[[str], tuple[dict[str, Any], Any]]:
    """In a process of its own: what does one run of this way, and tells its parts and its vectors."""
    from floor import Floor
    from ways import WAYS

    media = work / f"{workload}_{way}"
    media.mkdir(exist_ok=True)
    items = WORKLOADS[workload](media)
    if way == "floor":
        floor = Floor(work / size, dtype, workload, items)
        return lambda _: ({"items": len(items), "total_s": floor.measure(), "operations": floor.operations}, None)
    embed, prepare = WAYS[way](work / size, dtype, workload, items)

    def run(_: str) -> tuple[dict[str, Any], Any]:
        done = embed()
        told = {"items": len(items), "total_s": done.total_s, "forward_s": done.forward_s}
        return told | (prepare()._asdict() if prepare else {}), done.vectors

    return run


if __name__ == "__main__":
    main()
