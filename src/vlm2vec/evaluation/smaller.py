"""What do a model's vectors lose when they are made smaller: fewer dimensions, numbers of eight bits?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from vlm2vec.errors import VLM2VecError
from vlm2vec.items import ItemLike
from vlm2vec.model.backbone import Ask
from vlm2vec.model.pooling import Precision, check_precision, check_truncation, to_int8
from vlm2vec.vectors.store import Vectors

if TYPE_CHECKING:
    from vlm2vec.model.embedder import Embedder


class SmallerVectors:
    """A model whose vectors have been cut to their first dimensions, or rounded to int8, for `evaluate`.

    Its vectors are float32 of length one, whatever the checkpoint says of length: int8 keeps none, so that all are
    compared by their cosine.

    Args:
        embedder: the model.
        dim: dimensions that are kept; None: all.
        precision: of the numbers.

    Raises:
        InputError: the model has fewer dimensions, or there is no such precision.
    """

    def __init__(self, embedder: Embedder, *, dim: int | None = None, precision: Precision = "float32") -> None:
        check_truncation(dim, embedder.dim, "dim")
        check_precision(precision)
        self._embedder = embedder
        self._precision = precision
        self.dim = dim or embedder.dim
        said = f"{self.dim} dimensions, {precision}"
        self.name = f"{embedder.name} ({said})"
        # Never the key of a vector as it was.
        self.fingerprint = f"{embedder.fingerprint} {said}"

    def stream(
        self,
        items: Iterable[ItemLike],
        ask: Ask = Ask(),
    ) -> Iterator[tuple[int, Vectors | VLM2VecError]]:
        """As `Embedder.stream`."""
        whole = self._embedder.stream(items, ask, truncate_dim=self.dim, normalize_embeddings=True)
        for position, vector in whole:
            if self._precision == "int8" and not isinstance(vector, VLM2VecError):
                rounded = to_int8(vector).astype(np.float32)
                vector = rounded / np.linalg.norm(rounded)
            yield position, vector
