"""With which questions is every score of an index compared?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from vlm2vec.search.store import Background

if TYPE_CHECKING:
    from vlm2vec.model.embedder import Embedder

# Libraries that share a model share these.
_OF_MODELS: WeakKeyDictionary[Embedder, Background] = WeakKeyDictionary()
_QUESTIONS = Path(__file__).with_name("background.txt")


def background_questions() -> list[str]:
    """400 of them about anything: captions, topics of documents, sentences, names; in English, of 1 to 12 words.

    They were written for this, before any of them was asked; none is about a file of the samples or of a benchmark.
    """
    return _QUESTIONS.read_text("utf-8").splitlines()


def read_background(embedder: Embedder) -> Background:
    """The questions as a model sees them, without instruction, as `Library.search` puts questions without a kind.

    They are embedded once an index. With the default model that takes 1.3 s of processor.
    """
    if embedder not in _OF_MODELS:
        vectors = embedder.encode_query(background_questions(), prompt="", normalize_embeddings=True)
        _OF_MODELS[embedder] = Background(np.asarray(vectors, np.float32))
    return _OF_MODELS[embedder]
