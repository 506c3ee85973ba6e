"""How long does the 300th update of LanceDB's index take within a minute, and how many versions are left?"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from size import sized

from vlm2vec.search.store import FileRows, IndexInfo, Look, StoredUnit
from vlm2vec.search.stores import create_store

UPDATES, LAST = sized((300, 10), (4, 2))


def main() -> None:
    """Replace the row of one file again and again, as `vlm2vec search` does while that file is worked on."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        store = create_store(place, IndexInfo("m", "f", 768, None, ".."), kind="lance")
        times_s = []
        for turn in range(UPDATES):
            vector = rng.normal(size=768).astype(np.float32)
            file = FileRows("a.png", Look(1, turn), str(turn), 1, (StoredUnit("image", None, None, vector),))
            start_s = time.perf_counter()
            store.refresh()
            store.commit(["a.png"], [file])
            store.tidy(lambda _: nullcontext())
            times_s.append(time.perf_counter() - start_s)
        versions = len(list((place / "units.lance" / "_versions").glob("*.manifest")))
    result = {
        "row": f"the last of {UPDATES} updates of an index (median of {LAST})",
        "unit": "s",
        "value": round(statistics.median(times_s[-LAST:]), 4),
        "first_s": round(statistics.median(times_s[:LAST]), 4),
        "versions": versions,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
