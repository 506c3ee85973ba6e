"""How long do 48 pictures take alone and beside one busy process, by how OpenMP's threads wait for each other?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from statistics import median

import numpy as np
from size import sized

PICTURES = sized(48, 2)
TURNS = sized(3, 1)
WAYS = {
    "with nothing set": {},
    "with OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "with GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "as the command line sets it": {"AS_THE_COMMAND_LINE": "1"},
}
NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")


def main() -> None:
    """Measure each way alone, then each beside a busy process, in processes of their own."""
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    for beside in (False, True):
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if beside else None
        try:
            for way, settings in WAYS.items():
                done = subprocess.run(
                    [sys.executable, __file__, "encode"],
                    env=environment | settings,
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                place = "beside a busy process" if beside else "alone"
                row = f"encode {PICTURES} pictures, {place}, {way}"
                print(json.dumps({"row": row, "unit": "s", "value": float(done.stdout)}), flush=True)
        finally:
            if busy is not None:
                busy.kill()
                busy.wait()


def encode() -> None:
    """Print the median seconds of encoding pictures of 224 pixels with the bundled model, after a first turn."""
    if "AS_THE_COMMAND_LINE" in os.environ:
        try:
            from vlm2vec.cores import share_cores
        except ImportError:
            # An older package sets nothing.
            pass
        else:
            share_cores()
    from PIL import Image as PILImage

    from vlm2vec import Embedder
    from vlm2vec.items import Image, Item

    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (PICTURES, 224, 224, 3), np.uint8)
    items = [Item(media=(Image(PILImage.fromarray(one)),)) for one in pixels]
    embedder = Embedder.load(device="cpu")
    embedder.encode(items[:2])
    times = []
    for _ in range(TURNS):
        start = time.perf_counter()
        embedder.encode(items)
        times.append(time.perf_counter() - start)
    print(round(median(times), 4))


if __name__ == "__main__":
    if sys.argv[1:] == ["encode"]:
        encode()
    else:
        main()
