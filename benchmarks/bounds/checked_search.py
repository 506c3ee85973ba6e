"""How long does LanceDB take to search 100,000 rows, with the check that its files are as they were written?"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from size import sized

from vlm2vec.search.store import FileRows, IndexInfo, Look, StoredUnit
from vlm2vec.search.stores import create_store, open_store

ROWS, DIM, SEARCHES = sized((100_000, 768, 20), (20_000, 8, 2))


def main() -> None:
    """Open the index and search it, again and again; print the medians of both together and of searches alone."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        store = create_store(place, IndexInfo("m", "f", DIM, None, ".."), kind="lance")
        for start in range(0, ROWS, 10_000):
            vectors = rng.normal(size=(10_000, DIM)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            units = [StoredUnit("image", None, None, vector) for vector in vectors]
            files = [
                FileRows(f"{start + n}.png", Look(1, 1), f"{start + n}", 1, (unit,)) for n, unit in enumerate(units)
            ]
            store.commit([], files)
        query = vectors[0]
        whole_s, search_s = [], []
        for _ in range(SEARCHES):
            start_s = time.perf_counter()
            opened = open_store(place)
            between_s = time.perf_counter()
            opened.refresh()
            opened.nearest(query / np.linalg.norm(query), 10)
            end_s = time.perf_counter()
            whole_s.append(end_s - start_s)
            search_s.append(end_s - between_s)
    result = {
        "row": f"opening and searching an index of {ROWS:,} rows",
        "unit": "s",
        "value": round(statistics.median(whole_s), 4),
        "search_s": round(statistics.median(search_s), 4),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
