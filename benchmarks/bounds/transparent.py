"""How much processor time do 50 opaque JPEG and 50 transparent PNG files take until they are pictures in RGB?"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import PIL.Image
from size import sized

from vlm2vec.items import Image
from vlm2vec.media import load_frames

REPEATS, PICTURES = sized((5, 50), (1, 2))


def main() -> None:
    """Write the files, decode them some times, and print the least seconds of one pass."""
    with tempfile.TemporaryDirectory() as folder:
        paths = _write(Path(folder))
        _decode(paths)
        print(
            json.dumps(
                {
                    "row": "decode 50 opaque JPEG and 50 transparent PNG files of 640x480 to RGB, CPU time",
                    "unit": "s",
                    "value": round(min(_decode(paths) for _ in range(REPEATS)), 4),
                }
            )
        )


def _write(folder: Path) -> list[Path]:
    draw = np.random.default_rng(20)
    paths = []
    for number in range(PICTURES):
        # Smooth, as photographs are: noise would make the files large and their unpacking all that is measured.
        small = PIL.Image.fromarray(draw.integers(0, 256, (12, 16, 4), np.uint8))
        picture = small.resize((640, 480), PIL.Image.Resampling.BICUBIC)
        for name, mode in ((f"{number}.jpg", "RGB"), (f"{number}.png", "RGBA")):
            picture.convert(mode).save(folder / name)
            paths.append(folder / name)
    return paths


def _decode(paths: list[Path]) -> float:
    started_s = time.process_time()
    for path in paths:
        load_frames(Image(path), num_frames=1).images[0].convert("RGB")
    return time.process_time() - started_s


if __name__ == "__main__":
    main()
