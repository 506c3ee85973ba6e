"""The published implementation's inputs and outputs (tests/golden), as items of this package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from support.places import DATA
from vlm2vec.items import MEDIA_MARKER, Image, Item, Video
from vlm2vec.model.embedder import Embedder
from vlm2vec.model.families.qwen_vl import QwenVLBackbone

GOLDEN = DATA / "golden"
MODEL = GOLDEN / "model"
_FILE = json.loads((GOLDEN / "cases.json").read_text("utf-8"))
EXPECTED: dict[str, Any] = _FILE["expected"]
CASES: dict[str, dict[str, Any]] = {case["id"]: case for case in _FILE["cases"]}
SINGLE_IDS: list[str] = _FILE["ids"]
ADAPTER_IDS: list[str] = _FILE["adapter_ids"]
EMBEDDINGS = dict(np.load(GOLDEN / "embeddings.npz"))


def item(case_id: str) -> Item:
    """A case as an item whose text already is the whole string."""
    case = CASES[case_id]
    files = tuple(GOLDEN / name for name in case["images"] or ())
    if "<|video_pad|>" in case["text"]:
        media: tuple[Image | Video, ...] = (Video(files),)
    else:
        media = tuple(Image(file, as_stored=True) for file in files)
    text = case["text"].replace("<|image_pad|>", MEDIA_MARKER).replace("<|video_pad|>", MEDIA_MARKER)
    return Item(text, media)


def load_tiny(folder: Path = MODEL, **arguments: object) -> Embedder:
    """The tiny golden model, or a checkpoint like it, in the published style unless told otherwise."""
    return Embedder.load(folder, **({"prompt_style": "vlm2vec", "device": "cpu"} | arguments))  # type: ignore[arg-type]


def qwen(embedder: Embedder) -> QwenVLBackbone:
    """The backbone of such a model."""
    assert isinstance(embedder.backbone, QwenVLBackbone)
    return embedder.backbone
