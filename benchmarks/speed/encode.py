"""How fast is embedding, beside other ways and beside the arithmetic? Each way in a process of its own, in turns.

    python benchmarks/speed/encode.py                 all; writes benchmarks/results/encode.json   (half an hour)
    python benchmarks/speed/encode.py texts images    only these workloads; writes nothing

Needs sentence-transformers beside the package: pip install -c constraints.txt sentence-transformers
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from machine import describe

RESULTS = Path(__file__).parents[1] / "results" / "encode.json"
REPEATS = 2
SETTINGS = [("large", "float32"), ("large", "bfloat16"), ("small", "float32")]


def main() -> None:
    """Measure and write."""
    from workloads import WORKLOADS

    chosen = sys.argv[1:] or list(WORKLOADS)
    rows = []
    with tempfile.TemporaryDirectory() as work:
        _build(Path(work))
        for size, dtype in SETTINGS:
            for workload in chosen:
                rows += measure(Path(work), size, dtype, workload)
    if not sys.argv[1:]:
        document = {"command": "python benchmarks/speed/encode.py", "machine": describe(), "rows": rows}
        RESULTS.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def measure(work: Path, size: str, dtype: str, workload: str) -> list[dict[str, Any]]:
    """One workload on one model: every way in turn, twice after a first run that does not count."""
    ways = ["packed", "padded", "floor"]
    if workload == "texts":
        ways.insert(2, "sentence-transformers")
    context = multiprocessing.get_context("spawn")
    ends: dict[str, Connection] = {}
    processes = []
    for way in ways:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, way, work, size, dtype, workload), daemon=True)
        process.start()
        theirs.close()
        ends[way] = ours
        processes.append(process)
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    vectors: dict[str, np.ndarray] = {}
    for _ in range(1 + REPEATS):
        for way in ways:
            ends[way].send("run")
            told, vectors[way] = ends[way].recv()
            runs[way].append(told)
    if workload == "texts" and size == "large" and dtype == "float32":
        # Takes minutes: once.
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, "published", work, size, dtype, workload), daemon=True)
        process.start()
        ours.send("run")
        told, vectors["published"] = ours.recv()
        ends["published"], runs["published"] = ours, [told, told]
        processes.append(process)
    for end in ends.values():
        end.send("stop")
    for process in processes:
        process.join()
    # Those of the last turn.
    for way, found in vectors.items():
        if way != "floor":
            nearest = float((found * vectors["packed"]).sum(axis=1).min())
            assert nearest > (0.999 if dtype == "float32" else 0.97), f"{way} gives other vectors: cosine {nearest}"
    rows = [_row(size, dtype, workload, way, told[1:], runs) for way, told in runs.items()]
    for row in rows:
        print(json.dumps(row), flush=True)
    return rows


def _row(
    size: str,
    dtype: str,
    workload: str,
    way: str,
    told: list[dict[str, Any]],
    runs: dict[str, list[dict[str, Any]]],
) -> dict[str, Any]:
    seconds = median(run["total_s"] for run in told)
    ours = runs["packed"][1:]
    # Ratios turn by turn, since a machine's speed drifts.
    ratios = [one["total_s"] / other["total_s"] for one, other in zip(told, ours, strict=False)]
    tokens = ours[0]["slots"]
    slots = told[0].get("slots")
    row = {
        "model": size,
        "dtype": dtype,
        "workload": workload,
        "way": way,
        "seconds": round(seconds, 3),
        "ratio_to_packed": round(median(ratios), 3),
        "items_per_s": round(told[0]["items"] / seconds, 2),
        "tokens_per_s": round(tokens / seconds, 1),
        "padding_share": None if slots is None else round(1 - tokens / slots, 4),
    }
    for part in ("prepare_s", "forward_s", "operations"):
        values = [run[part] for run in told if run.get(part) is not None]
        row[part] = round(median(values), 4) if values else None
    return row


def _serve(end: Connection, way: str, work: Path, size: str, dtype: str, workload: str) -> None:
    """Runs when told to, in a process of its own so that the ways share no cache."""
    from floor import Floor
    from ways import WAYS
    from workloads import WORKLOADS

    media = work / f"{workload}_{way}"
    media.mkdir(exist_ok=True)
    items = WORKLOADS[workload](media)
    folder = work / size
    floor = Floor(folder, dtype, workload, items) if way == "floor" else None
    run = None if floor else WAYS[way](folder, dtype, workload, items)
    while end.recv() == "run":
        told: dict[str, Any] = {"items": len(items)}
        vectors = None
        if floor is not None:
            told |= {"total_s": floor.measure(), "operations": floor.operations}
        else:
            assert run is not None
            done = run()
            vectors = done.vectors
            told |= {"total_s": done.total_s, "prepare_s": done.prepare_s, "forward_s": done.forward_s}
            told |= {"slots": done.slots}
        end.send((told, vectors))


def _build(work: Path) -> None:
    """In a process of its own, which takes torch's memory with it."""
    from models import SHAPES, build_model

    context = multiprocessing.get_context("spawn")
    for size in SHAPES:
        process = context.Process(target=build_model, args=(size, work / size))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
