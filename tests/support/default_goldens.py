"""The vectors of the default model as they were when its weights were final: to notice whatever moves them.

PYTHONPATH=tests python -m support.default_goldens     writes tests/data/golden/default.json
"""

from __future__ import annotations

import json

import numpy as np

from support.places import DATA, ROOT
from vlm2vec import Embedder
from vlm2vec.items import Image, Item, ItemLike, Video
from vlm2vec.model.backbone import Vectors

FILE = DATA / "golden" / "default.json"
SAMPLES = ROOT / "samples"
CAT = SAMPLES / "photos" / "cat.jpg"
CASES: dict[str, ItemLike] = {
    "a word": "cat",
    "a sentence": "Two dogs run over a field; it rains!",
    "accents": "Crème brûlée à la carte",
    "a long text": "The annual report of a bank, with tables and a photograph of its board. " * 40,
    "a photograph": CAT,
    "a drawing": SAMPLES / "drawings" / "teapot.png",
    "a page": Image(SAMPLES / "documents" / "slides.pdf", page=1),
    "frames": Video((CAT, SAMPLES / "photos" / "coffee.jpg")),
    "a photograph with words": Item("a cat", (Image(CAT),)),
}


def vectors_of(model: Embedder) -> dict[str, Vectors]:
    """Of every case, of length one."""
    return dict(zip(CASES, model.encode(list(CASES.values())), strict=True))


def main() -> None:
    """Write the file."""
    found = {name: [round(float(one), 6) for one in vector] for name, vector in vectors_of(Embedder.load()).items()}
    lines = [f" {json.dumps(name)}: {json.dumps(vector)}" for name, vector in found.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def stored() -> dict[str, Vectors]:
    """As the file has them."""
    return {name: np.array(vector, np.float32) for name, vector in json.loads(FILE.read_text("utf-8")).items()}


if __name__ == "__main__":
    main()
