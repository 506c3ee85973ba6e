"""How far is the default model that ships from the same model in torch, and does a vector depend on its company?

The torch model is that of the recipe: published towers, and heads that `recipes/default/train.py 0` trains (two
minutes) if they are not in its work folder. It is compared with its own export in float32, and with its export as it
ships: int8 for the text tower, float16 for all else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from photographs import RECIPE, UNPACKED, captioned
from size import TOY, sized

from vlm2vec import Embedder, Image, Item
from vlm2vec.items import ItemLike
from vlm2vec.model.checkpoint import SHIPPED
from vlm2vec.model.families.towers import OnnxTower, TowersBackbone
from vlm2vec.model.families.towers_inputs import Looks, TowersConfig, TowersProcessor, read_towers_config
from vlm2vec.model.similarity import as_unit

Vectors = NDArray[np.float32]

COUNT = sized(40, 3)
HEADS = RECIPE / "work" / "0.safetensors"


def measure() -> dict[str, Any]:
    """Differences of vectors of length one."""
    document: dict[str, Any] = {"company": _company()}
    if not TOY:
        document["torch"] = _torch()
    print(json.dumps(document), flush=True)
    return document


def _company() -> dict[str, float]:
    """The largest differences between items alone in one thread, and all together in three."""
    folder = SHIPPED["bundled"]
    items: list[ItemLike] = []
    for one in captioned()[:COUNT]:
        items += [one.caption, Image(one.path), Item(one.caption, (Image(one.path),)), f"{one.caption}. " * 60]
    alone = Embedder(TowersBackbone(folder, read_towers_config(folder), num_threads=1), name="bundled")
    many = Embedder(TowersBackbone(folder, read_towers_config(folder), num_threads=3), name="bundled")
    apart, together = np.stack([alone.encode(item) for item in items]), many.encode(items)
    return {"items": len(items), "largest_difference": float(np.abs(apart - together).max())}


def _torch() -> dict[str, Any]:
    """Of pictures and of texts, how far both exports are from torch."""
    import torch

    sys.path.insert(0, str(RECIPE))
    if not HEADS.exists():
        subprocess.run([sys.executable, RECIPE / "train.py", "0", HEADS], check=True)
    from train import load_heads

    from vlm2vec.model.families.towers_export import export_image, export_text
    from vlm2vec.model.families.towers_torch import load_image_tower, load_text_tower

    config = read_towers_config(SHIPPED["bundled"])
    [weights] = (UNPACKED / "efficientnet").rglob("*.pth")
    image_tower = load_image_tower(weights)
    text_tower = load_text_tower(UNPACKED / "minilm" / "model" / "model.safetensors")
    image_head, text_head = load_heads(HEADS)
    pictures, texts = _inputs(config)

    def look(pixels: NDArray[np.generic]) -> torch.Tensor:
        found: torch.Tensor = image_head(*image_tower(torch.from_numpy(pixels[None])))[0]
        return found

    def read(ids: NDArray[np.generic]) -> torch.Tensor:
        tokens = torch.from_numpy(ids[None])
        found: torch.Tensor = text_head(text_tower(tokens, torch.ones_like(tokens)))[0]
        return found

    with torch.inference_mode():
        seen = as_unit(np.stack([look(one).numpy() for one in pictures]))
        meant = as_unit(np.stack([read(one).numpy() for one in texts]))
    found = {}
    for name, small in (("float32", False), ("as shipped", True)):
        image = OnnxTower(export_image(image_tower, image_head, config.image.size, small=small), config.dim)
        text = OnnxTower(export_text(text_tower, text_head, small=small), config.dim)
        found[name] = {
            "pictures": _apart(seen, [image.run({"pixels": one[None]}) for one in pictures]),
            "texts": _apart(meant, [text.run({"ids": one[None], "mask": np.ones_like(one[None])}) for one in texts]),
        }
    return {"pictures": len(pictures), "texts": len(texts), **found}


def _inputs(config: TowersConfig) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.int64]]]:
    processor = TowersProcessor(SHIPPED["bundled"], config)
    shown = captioned()[:COUNT]
    pictures = []
    for one in shown:
        [part] = processor.prepare(Item(media=(Image(one.path),))).parts
        assert isinstance(part, Looks)
        pictures.append(part.frames[0])
    return pictures, [np.array(processor.words.chunks(one.caption)[0], np.int64) for one in shown]


def _apart(expected: Vectors, found: Sequence[Vectors]) -> dict[str, float]:
    scaled = as_unit(np.stack(found))
    cosine = 1 - (expected.astype(np.float64) * scaled).sum(1)
    return {
        "largest_difference": float(np.abs(expected - scaled).max()),
        "largest_cosine_distance": float(cosine.max()),
    }
