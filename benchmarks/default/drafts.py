"""Does a large JPEG get the same answers when it is decoded small as when it is decoded whole?

Three ways to a picture of 224 x 224 pixels: "small" as shipped; "whole" with all pixels, of which the model's own
resize first takes the means of blocks (Pillow's `reducing_gap`); "exact" with all pixels and no shortcut. Of every
captioned photograph that is a large JPEG the vectors of all three are compared, also in grey, in CMYK and turned by its
EXIF data. Then all captions are asked among all photographs.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from photographs import Photograph, captioned, jpeg
from ranked import hits, ranks
from size import sized

from vlm2vec import Embedder, Image
from vlm2vec.media import open_image

Vectors = NDArray[np.float32]

TOWER_SIZE = (224, 224)
LEAST_SIDE = sized(896, 200)
"""Pixels of the shorter side of a picture that is decoded at a half: four times the tower's 224."""


def measure() -> dict[str, Any]:
    """Cosines, scores, and how many answers change their place."""
    embedder = Embedder.load()
    shown = captioned()
    asked: Vectors = embedder.encode_query([one.caption for one in shown])
    answers = np.arange(len(shown))
    scores, places = {}, {}
    for name, see in WAYS.items():
        found = _vectors(embedder, [one.path.read_bytes() for one in shown], see)
        scores[name], places[name] = hits(asked, found, answers), ranks(asked, found, answers)
    document = {
        "photographs": len(shown),
        "cosine": _cosines(embedder, [one for one in shown if _is_large(one)]),
        "scores": scores,
        "answers_at_another_place_than_exact": {
            name: int((places[name] != places["exact"]).sum()) for name in ("small", "whole")
        },
    }
    print(json.dumps(document), flush=True)
    return document


def _cosines(embedder: Embedder, shown: list[Photograph]) -> list[dict[str, Any]]:
    """Of each form and pair of ways, the least, median and mean cosine."""
    rows = []
    for name, make in FORMS.items():
        files = [make(one.path.read_bytes()) for one in shown]
        found = {way: _vectors(embedder, files, see) for way, see in WAYS.items()}
        for one, other in (("small", "whole"), ("small", "exact"), ("whole", "exact")):
            cosine = (found[one] * found[other]).sum(1)
            told = {"least": cosine.min(), "median": np.median(cosine), "mean": cosine.mean()}
            row = {"form": name, "files": len(files), "ways": [one, other]}
            rows.append(row | {key: round(float(value), 5) for key, value in told.items()})
    return rows


def _whole(file: bytes) -> Image:
    # It stands upright already.
    return Image(open_image(Image(file)), as_stored=True)


def _exact(file: bytes) -> Image:
    whole = open_image(Image(file)).convert("RGB")
    return Image(whole.resize(TOWER_SIZE, PIL.Image.Resampling.BICUBIC))


WAYS: dict[str, Callable[[bytes], Image]] = {"small": Image, "whole": _whole, "exact": _exact}


def _turned(file: bytes) -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    return jpeg(_opened(file), quality=95, exif=exif)


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda file: file,
    "grey": lambda file: jpeg(_opened(file).convert("L"), quality=95),
    "CMYK": lambda file: jpeg(_opened(file).convert("CMYK"), quality=95),
    "turned": _turned,
}


def _opened(file: bytes) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(file))


def _is_large(photograph: Photograph) -> bool:
    picture = _opened(photograph.path.read_bytes())
    return picture.format in ("JPEG", "MPO") and min(picture.size) >= LEAST_SIDE


def _vectors(embedder: Embedder, files: Sequence[bytes], see: Callable[[bytes], Image]) -> Vectors:
    # One by one: whole pictures of all files would not fit into memory.
    return np.stack([embedder.encode_document(see(file)) for file in files])
