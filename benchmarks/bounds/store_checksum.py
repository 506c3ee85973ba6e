"""How long do 100,000 vectors of 768 numbers take to be stored, and to be read for the first time and once more?"""

from __future__ import annotations

import json
import tempfile
import time
import zlib
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import numpy as np
from size import sized

from vlm2vec.vectors.store import VectorStore

COUNT, DIM = sized((100_000, 768), (100, 8))


def main() -> None:
    """Print a row for each, and one for each way to make a checksum of as many bytes."""
    vectors = np.random.default_rng(0).standard_normal((COUNT, DIM), dtype=np.float32)
    keys = [number.to_bytes(16, "big") for number in range(COUNT)]
    size = f"{COUNT:,} vectors of {DIM}"
    with tempfile.TemporaryDirectory() as work:
        store = VectorStore.open(Path(work), DIM)
        told(f"store {size}", lambda: store.put(keys, vectors))
        opened = VectorStore.open(Path(work), DIM)
        told(f"read {size} for the first time", lambda: opened.get(keys))
        told(f"read {size} once more", lambda: opened.get(keys))
    told(f"blake2b of {size}", lambda: blake2b(vectors.data, digest_size=16).digest())
    told(f"crc32 of {size}", lambda: zlib.crc32(vectors.data))


def told(row: str, run: Callable[[], object]) -> None:
    """Print how long something takes."""
    start = time.perf_counter()
    run()
    print(json.dumps({"row": row, "unit": "s", "value": round(time.perf_counter() - start, 4)}), flush=True)


if __name__ == "__main__":
    main()
