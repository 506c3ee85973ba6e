"""Models: from items to vectors. Needs only torch, transformers, tokenizers, safetensors, numpy and pillow."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlm2vec.model.embedder import Embedder as Embedder

__all__ = ["Embedder"]


def __getattr__(name: str) -> object:
    # Lazy, so that `vlm2vec.model.prompts` can be read without importing torch.
    if name == "Embedder":
        from vlm2vec.model.embedder import Embedder

        return Embedder
    raise AttributeError(f"module 'vlm2vec.model' has no attribute {name!r}")
