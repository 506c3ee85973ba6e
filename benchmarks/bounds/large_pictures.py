"""How much memory does it take to prepare eight pictures of 200 megapixels in several threads?"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import PIL.Image
from size import sized

SIDES = sized((16_384, 12_288), (64, 48))
WORKERS = sized((4, 1, 8), (4,))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, help="measure in this process, with so many")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    if arguments.workers is not None:
        print(_peak_mb(arguments.picture, arguments.workers))
        return
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "large.jpg"
        PIL.Image.linear_gradient("L").resize(SIDES).convert("RGB").save(path)
        # Each in a process of its own, because a process does not forget its peak.
        command = [sys.executable, __file__, "--picture", str(path), "--workers"]
        peaks = {
            workers: float(subprocess.run([*command, str(workers)], capture_output=True, text=True, check=True).stdout)
            for workers in WORKERS
        }
    print(
        json.dumps(
            {
                "row": "memory to prepare eight pictures of 200 megapixels with 4 workers",
                "unit": "MB",
                "value": peaks[4],
                "by_workers": peaks,
            }
        )
    )


def _peak_mb(path: Path, workers: int) -> float:
    from vlm2vec.items import Image
    from vlm2vec.model.embedder import Embedder

    embedder = Embedder.load("tiny")
    stream = embedder.stream([Image(path)] * 8, workers=workers)
    for _, vector in stream:
        if isinstance(vector, Exception):
            raise vector
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


if __name__ == "__main__":
    main()
