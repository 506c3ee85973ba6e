"""One vector space for text, images, videos and visual documents: the public names, most imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from vlm2vec.errors import AdapterError as AdapterError
from vlm2vec.errors import BusyError as BusyError
from vlm2vec.errors import ConfigError as ConfigError
from vlm2vec.errors import DataError as DataError
from vlm2vec.errors import Hint
from vlm2vec.errors import HubError as HubError
from vlm2vec.errors import IndexFolderError as IndexFolderError
from vlm2vec.errors import InputError as InputError
from vlm2vec.errors import LimitError as LimitError
from vlm2vec.errors import MediaError as MediaError
from vlm2vec.errors import MissingError as MissingError
from vlm2vec.errors import ModelError as ModelError
from vlm2vec.errors import StorageError as StorageError
from vlm2vec.errors import StyleError as StyleError
from vlm2vec.errors import VectorError as VectorError
from vlm2vec.errors import VLM2VecError as VLM2VecError
from vlm2vec.items import MEDIA_MARKER as MEDIA_MARKER
from vlm2vec.items import Image as Image
from vlm2vec.items import Item as Item
from vlm2vec.items import Video as Video
from vlm2vec.items import as_item as as_item

if TYPE_CHECKING:
    from vlm2vec.evaluation.runner import evaluate as evaluate
    from vlm2vec.media.document import read_pages as read_pages
    from vlm2vec.model.embedder import Embedder as Embedder
    from vlm2vec.search.examples import Examples as Examples
    from vlm2vec.search.library import Library as Library
    from vlm2vec.search.retrieve import Question as Question
    from vlm2vec.search.store import Filter as Filter
    from vlm2vec.search.store import Hit as Hit
    from vlm2vec.search.watch import follow as follow
    from vlm2vec.tasks.registry import get_tasks as get_tasks
    from vlm2vec.training.loop import train as train
    from vlm2vec.training.mining import mine as mine
    from vlm2vec.training.teachers import write_teacher as write_teacher

_LAZY = {
    "evaluate": "vlm2vec.evaluation.runner",
    "read_pages": "vlm2vec.media.document",
    "Embedder": "vlm2vec.model.embedder",
    "Library": "vlm2vec.search.library",
    "Examples": "vlm2vec.search.examples",
    "Question": "vlm2vec.search.retrieve",
    "Filter": "vlm2vec.search.store",
    "Hit": "vlm2vec.search.store",
    "follow": "vlm2vec.search.watch",
    "get_tasks": "vlm2vec.tasks.registry",
    "train": "vlm2vec.training.loop",
    "mine": "vlm2vec.training.mining",
    "write_teacher": "vlm2vec.training.teachers",
}
__all__ = [
    *(name for name in globals() if name.endswith("Error")),
    *("Item", "Image", "Video", "as_item", "MEDIA_MARKER"),
    *_LAZY,
]


def __getattr__(name: str) -> object:
    if name in _LAZY:
        try:
            return getattr(importlib.import_module(_LAZY[name]), name)
        except ModuleNotFoundError as error:
            # Only training imports what the base does not have.
            raise MissingError(f"{error.name} is not installed, which {name} needs", Hint("extra", "train")) from error
    raise AttributeError(f"module 'vlm2vec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
