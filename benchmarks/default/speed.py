"""How long does a picture take, from a JPEG to its vector? In time of one core, which other work moves little.

Photographs are the largest of the captioned ones, written anew as cameras do: baseline JPEG, quality 90, 4:2:0.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import mean, median
from typing import Any

from photographs import as_camera, largest
from size import sized

from vlm2vec import Embedder, Image, Item, media
from vlm2vec.model.backbone import Ask, Backbone

COUNT = sized(12, 2)
SIZES = sized({"640 x 480": (640, 480), "12 megapixels": (4000, 3000)}, {"640 x 480": (640, 480)})
TURNS = sized(5, 1)


def measure() -> dict[str, Any]:
    """Milliseconds of each part, and photographs a second and core."""
    embedder = Embedder.load()
    paths = largest(COUNT)
    rows = []
    for name, size in SIZES.items():
        files = [as_camera(path, size) for path in paths]
        for decoding, is_whole in (("as shipped", False), ("whole", True)):
            parts = [_of_file(embedder.backbone, file, is_whole) for file in files]
            prepare_ms, tower_ms = (1000 * mean(part[place] for part in parts) for place in (0, 1))
            row = {
                "photograph": name,
                "mb": round(mean(map(len, files)) / 1e6, 2),
                "decoding": decoding,
                "prepare_ms": round(prepare_ms, 2),
                "tower_ms": round(tower_ms, 2),
                "a_second_and_core": round(1000 / (prepare_ms + tower_ms), 1),
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
    return {"photographs": len(paths), "rows": rows}


def _of_file(backbone: Backbone[Any, Any], file: bytes, is_whole: bool) -> tuple[float, float]:
    """Seconds of processor in the median of some turns, to decode and resize, and in the tower."""

    def prepare() -> Any:
        # A PIL image keeps all its pixels.
        image = Image(media.open_image(Image(file))) if is_whole else Image(file)
        return backbone.prepare(Item(media=(image,)), Ask(), decoder=media)

    prepared = prepare()

    def encode() -> Any:
        return list(backbone.encode([backbone.pack([prepared])], "pooled"))

    encode()
    return _median_s(prepare), _median_s(encode)


def _median_s(run: Callable[[], object]) -> float:
    times = []
    for _ in range(TURNS):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return median(times)
