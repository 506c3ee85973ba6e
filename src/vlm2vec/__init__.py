"""One vector space for text, images, videos and visual documents: the public names, imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlm2vec.errors import VLM2VecError as VLM2VecError
    from vlm2vec.evaluation.runner import evaluate as evaluate
    from vlm2vec.items import MEDIA_MARKER as MEDIA_MARKER
    from vlm2vec.items import Image as Image
    from vlm2vec.items import Item as Item
    from vlm2vec.items import Video as Video
    from vlm2vec.items import as_item as as_item
    from vlm2vec.media.document import read_pages as read_pages
    from vlm2vec.model.embedder import Embedder as Embedder
    from vlm2vec.search.index import Hit as Hit
    from vlm2vec.search.index import Index as Index
    from vlm2vec.tasks.registry import get_tasks as get_tasks

_HOME = {
    "Embedder": "vlm2vec.model.embedder",
    "Item": "vlm2vec.items",
    "Image": "vlm2vec.items",
    "Video": "vlm2vec.items",
    "as_item": "vlm2vec.items",
    "MEDIA_MARKER": "vlm2vec.items",
    "read_pages": "vlm2vec.media.document",
    "Index": "vlm2vec.search.index",
    "Hit": "vlm2vec.search.index",
    "evaluate": "vlm2vec.evaluation.runner",
    "get_tasks": "vlm2vec.tasks.registry",
    "VLM2VecError": "vlm2vec.errors",
}

__all__ = [
    "Embedder",
    "Item",
    "Image",
    "Video",
    "as_item",
    "MEDIA_MARKER",
    "read_pages",
    "Index",
    "Hit",
    "evaluate",
    "get_tasks",
    "VLM2VecError",
]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'vlm2vec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
