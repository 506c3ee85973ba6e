"""What does a store of 100,000 vectors of 384 numbers cost to write, to open and to search, beside numpy's own product?

    python benchmarks/speed/store.py     writes benchmarks/results/store.json   (two minutes)

*cold* is the processor time of a fresh process beyond importing numpy: importing the store, then opening it and asking
for ten hits, then what it knows of all files. *warm* is a search of an open store, in turns with the product of all
vectors and the query.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, get_args

import numpy as np
from machine import describe
from size import sized, write_results

from vlm2vec.search.store import FileRows, IndexInfo, Look, StoredUnit
from vlm2vec.search.stores import StoreKind, create_store, open_store

ROWS, DIM, COMMIT, COLD, WARM = sized((100_000, 384, 1024, 7, 100), (500, 16, 100, 1, 3))
COLD_SEARCH = """
import json, sys, time
import numpy as np
times_s = [time.process_time()]
from pathlib import Path
from vlm2vec.search.stores import open_store
if sys.argv[2] == "lance":
    import lancedb
times_s.append(time.process_time())
store = open_store(Path(sys.argv[1]))
assert len(store.nearest(np.full(store.info.dim, store.info.dim**-0.5, np.float32), 10)) == 10
times_s.append(time.process_time())
store.files()
times_s.append(time.process_time())
print(json.dumps(np.diff(times_s).tolist()))
"""


def main() -> None:
    """Measure and write."""
    vectors = np.random.default_rng(0).standard_normal((ROWS, DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with tempfile.TemporaryDirectory() as work:
        rows = [measure(Path(work) / kind, kind, vectors) for kind in get_args(StoreKind)]
    document = {"command": "python benchmarks/speed/store.py", "machine": describe(), "rows": rows}
    write_results("store", document)


def measure(place: Path, kind: StoreKind, vectors: np.ndarray) -> dict[str, Any]:
    """Write a store and search it."""
    files = [
        FileRows(
            f"some/folder/{number % 100}/{number}.png",
            Look(100_000 + number, 10**18 + number, 10**18 + number, number),
            f"{number:032x}",
            1,
            (StoredUnit("image", None, None, vector),),
        )
        for number, vector in enumerate(vectors)
    ]
    store = create_store(place, IndexInfo("m", "f", DIM, "float32", ".."), kind=kind)
    start_s = time.perf_counter()
    with store.writing():
        for first in range(0, ROWS, COMMIT):
            store.commit([], files[first : first + COMMIT])
    write_s = time.perf_counter() - start_s
    store.close()
    cold = [_cold(place, kind) for _ in range(1 + COLD)][1:]
    import_s, search_s, files_s = (round(median(times), 3) for times in zip(*cold, strict=True))
    product_ms, warm_ms = _warm(place, vectors)
    row = {
        "store": kind,
        "rows": ROWS,
        "rows_per_s": round(ROWS / write_s),
        "mb": round(sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) / 1e6),
        "cold_import_s": import_s,
        "cold_search_s": search_s,
        "cold_files_s": files_s,
        "product_ms": round(product_ms, 2),
        "warm_ms": round(warm_ms, 2),
        "warm_to_product": round(warm_ms / product_ms, 2),
    }
    print(json.dumps(row), flush=True)
    return row


def _cold(place: Path, kind: str) -> list[float]:
    command = [sys.executable, "-c", COLD_SEARCH, str(place), kind]
    times_s: list[float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return times_s


def _warm(place: Path, vectors: np.ndarray) -> tuple[float, float]:
    """Medians of the product and of a search, in milliseconds."""
    store = open_store(place)
    queries = np.random.default_rng(1).standard_normal((WARM, DIM), dtype=np.float32)
    store.nearest(queries[0], 10)
    products_s, searches_s = [], []
    for query in queries / np.linalg.norm(queries, axis=1, keepdims=True):
        times_s = [time.perf_counter()]
        vectors @ query
        times_s.append(time.perf_counter())
        store.nearest(query, 10)
        times_s.append(time.perf_counter())
        products_s.append(times_s[1] - times_s[0])
        searches_s.append(times_s[2] - times_s[1])
    return 1000 * median(products_s), 1000 * median(searches_s)


if __name__ == "__main__":
    main()
