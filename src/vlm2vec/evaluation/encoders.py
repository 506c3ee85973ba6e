"""Which vectors of a model does an evaluation measure: its own, smaller ones, or those of tokens?"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from vlm2vec import media
from vlm2vec.errors import VLM2VecError
from vlm2vec.items import ItemLike
from vlm2vec.model.backbone import Ask, Output, Vectors
from vlm2vec.model.similarity import Precision, check_form, to_int8
from vlm2vec.vectors.job import Encoder

if TYPE_CHECKING:
    from vlm2vec.media.sandbox import Decoder
    from vlm2vec.model.embedder import Embedder


class NamedEncoder(Encoder, Protocol):
    """A model that has a name; `Embedder` is one."""

    @property
    def name(self) -> str: ...


@runtime_checkable
class TokenEncoder(Encoder, Protocol):
    """A model that gives a vector for every token too."""

    @property
    def token_dim(self) -> int: ...

    def stream(
        self,
        items: Iterable[ItemLike],
        ask: Ask = Ask(),
        *,
        output: Output = "pooled",
        normalize_embeddings: bool | None = None,
        decoder: Decoder = media,
    ) -> Generator[tuple[int, Vectors | VLM2VecError], None, None]: ...


class TokenVectors:
    """The token vectors of a model, asked for as single ones are; for a `TokenStore`.

    Raises:
        ModelError: the model has no token head.
    """

    def __init__(self, embedder: TokenEncoder) -> None:
        self.dim = embedder.token_dim
        # Never the key of a single vector.
        self.fingerprint = f"{embedder.fingerprint} tokens"
        self._embedder = embedder

    def stream(
        self,
        items: Iterable[ItemLike],
        ask: Ask = Ask(),
        *,
        normalize_embeddings: bool | None = None,
        decoder: Decoder = media,
    ) -> Generator[tuple[int, Vectors | VLM2VecError], None, None]:
        """As `Embedder.stream`, with vectors [tokens, E], which are of length one in any case."""
        return self._embedder.stream(items, ask, output="tokens", decoder=decoder)


class SmallerVectors:
    """A model whose vectors have been cut to their first dimensions, or rounded to int8.

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
        check_form(dim, embedder.dim, precision, name="dim")
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
        *,
        normalize_embeddings: bool | None = None,
        decoder: Decoder = media,
    ) -> Generator[tuple[int, Vectors | VLM2VecError], None, None]:
        """As `Embedder.stream`, with vectors of length one in any case."""
        whole = self._embedder.stream(items, ask, truncate_dim=self.dim, normalize_embeddings=True, decoder=decoder)
        for position, vector in whole:
            if self._precision == "int8" and not isinstance(vector, VLM2VecError):
                rounded = to_int8(vector).astype(np.float32)
                vector = rounded / np.linalg.norm(rounded)
            yield position, vector
