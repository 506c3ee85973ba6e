"""How fast does LanceDB build an index, and answer? 10,000, 100,000 and a million vectors of 768 dimensions.

    python benchmarks/speed/search.py [FOLDER]    writes benchmarks/results/search.json   (half an hour, 10 GB)

Vectors: 2,000 centres and noise of 0.9 a dimension, scaled to length one; and 250,000 isotropic ones. Stores are
made by the package's own `LanceStore`, and are left in FOLDER for the next run.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from machine import describe
from numpy.typing import NDArray
from size import sized, write_results

from vlm2vec.search.store import FileRows, IndexInfo, Look, StoredUnit
from vlm2vec.search.stores import create_store
from vlm2vec.search.stores.lance import EXACT_UP_TO, LanceStore
from vlm2vec.search.stores.lance.nearest import PARTITIONS
from vlm2vec.search.stores.lance.upkeep import BUILD_WIDTH, LINKS

DIM, QUERIES, K, CHUNK = *sized((768, 200), (16, 25)), 10, 25_000
SETTINGS = sized(
    [("centres", 10_000), ("centres", 100_000), ("centres", 1_000_000), ("isotropic", 250_000)],
    [("centres", 100), ("isotropic", 100)],
)


def main() -> None:
    """Measure and write."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(sys.argv[1] if len(sys.argv) > 1 else scratch)
        rows = [measure(work / f"{kind}_{count}", kind, count) for kind, count in SETTINGS]
    document = {"command": "python benchmarks/speed/search.py", "machine": describe(), "rows": rows}
    write_results("search", document)


def measure(place: Path, kind: str, count: int) -> dict[str, Any]:
    """Build a store, or open the one of an earlier run, and ask it 200 questions."""
    notes = place.with_suffix(".json")
    index = [PARTITIONS, LINKS, BUILD_WIDTH, EXACT_UP_TO]
    if not notes.exists() or json.loads(notes.read_text())["index"] != index:
        store = create_store(place, IndexInfo("benchmark", "benchmark", DIM, "float32", ".."), kind="lance")
        add_s = index_s = 0.0
        for number, vectors in enumerate(_chunks(kind, count)):
            files = [_file(number * CHUNK + place, vector) for place, vector in enumerate(vectors)]
            start = time.perf_counter()
            store.commit([], files)
            add_s += time.perf_counter() - start
        start = time.perf_counter()
        store.tidy(lambda _: nullcontext())
        index_s = time.perf_counter() - start
        notes.write_text(json.dumps({"rows_per_s": round(count / add_s), "tidy_s": round(index_s, 1), "index": index}))
    opened = LanceStore(place)
    queries = next(_draw(kind, 10**6, QUERIES))
    truth = _exact(kind, count, queries)
    for query in queries[:20]:
        opened.nearest(query, K)
    seconds, found = [], 0
    for query, names in zip(queries, truth, strict=True):
        start = time.perf_counter()
        opened.refresh()
        hits = opened.nearest(query, K)
        seconds.append(time.perf_counter() - start)
        found += len(names & {hit.unit.path for hit in hits})
    row = {
        "vectors": kind,
        "rows": count,
        **json.loads(notes.read_text()),
        "median_ms": round(1000 * median(seconds), 2),
        "p95_ms": round(1000 * float(np.quantile(seconds, 0.95)), 2),
        "recall_at_10": found / (K * QUERIES),
    }
    print(json.dumps(row), flush=True)
    return row


def _file(number: int, vector: NDArray[np.float32]) -> FileRows:
    unit = StoredUnit("image", None, None, vector)
    return FileRows(f"{number}.jpg", Look(1, 1), f"{number:032x}", 1, (unit,))


def _chunks(kind: str, count: int) -> Iterator[NDArray[np.float32]]:
    for seed, start in enumerate(range(0, count, CHUNK)):
        yield from _draw(kind, seed + 1, min(CHUNK, count - start))


def _draw(kind: str, seed: int, count: int) -> Iterator[NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    noise = random.standard_normal((count, DIM), dtype=np.float32)
    if kind == "centres":
        centres = np.random.default_rng(0).standard_normal((2000, DIM), dtype=np.float32)
        noise = centres[random.integers(0, len(centres), count)] + np.float32(0.9) * noise
    yield noise / np.linalg.norm(noise, axis=1, keepdims=True)


def _exact(kind: str, count: int, queries: NDArray[np.float32]) -> list[set[str]]:
    """Names of the ten nearest vectors of each query."""
    scores = np.empty((QUERIES, 0), dtype=np.float32)
    places = np.empty((QUERIES, 0), dtype=np.int64)
    for number, vectors in enumerate(_chunks(kind, count)):
        of_chunk = np.arange(number * CHUNK, number * CHUNK + len(vectors))
        scores = np.concatenate([scores, queries @ vectors.T], axis=1)
        places = np.concatenate([places, np.broadcast_to(of_chunk, (QUERIES, len(vectors)))], axis=1)
        order = np.argpartition(-scores, K, axis=1)[:, :K]
        scores, places = np.take_along_axis(scores, order, 1), np.take_along_axis(places, order, 1)
    return [{f"{place}.jpg" for place in row} for row in places]


if __name__ == "__main__":
    main()
