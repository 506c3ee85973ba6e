"""From token states to one vector an item: last token or mean, length one, fewer dimensions, smaller numbers."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from vlm2vec.errors import InputError, ModelError
from vlm2vec.model.packing import Segments

Pooling: TypeAlias = Literal["last", "mean"]
Precision: TypeAlias = Literal["float32", "int8"]
POOLINGS: tuple[Pooling, ...] = ("last", "mean")


def known_pooling(name: str | None) -> Pooling:
    """The pooling of that name. Raises ModelError if there is none."""
    if name not in POOLINGS:
        raise ModelError(f"pooling {name!r} is unknown; use one of {', '.join(POOLINGS)}")
    return name


def last_tokens(x_TD: Tensor, segments: Segments) -> Tensor:
    """State of the last token of each sequence, [N, D]."""
    return x_TD[torch.tensor(segments.ends, device=x_TD.device) - 1]


def mean_tokens(x_TD: Tensor, segments: Segments) -> Tensor:
    """Mean state of each sequence, [N, D], summed in float32."""
    return torch.stack([part.float().mean(0) for part in x_TD.split(segments.lengths)])


def normalize(x_ND: Tensor) -> Tensor:
    """Rows scaled to length one in float32 (at least 1e-12, as published)."""
    return F.normalize(x_ND.float(), dim=-1, eps=1e-12)


def check_truncation(dim: int | None, full: int, name: str = "truncate_dim") -> None:
    """Refuse a number of dimensions to keep, called `name`, that is not between 1 and `full`; None keeps all.

    Raises:
        InputError: it is not.
    """
    if dim is not None and (type(dim) is not int or not 1 <= dim <= full):
        raise InputError(f"{name}={dim!r}: this model's vectors have 1 to {full} dimensions")


def check_precision(precision: str) -> None:
    """Refuse a precision of vectors that is unknown.

    Raises:
        InputError: it is.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision={precision!r} is unknown; use {' or '.join(get_args(Precision))}")


def to_int8(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """Vectors [..., D] as whole numbers from -127 to 127: each scaled so that its largest number has that size.

    Its length is lost, which cosine similarity does not look at; its direction is kept to half a unit a dimension.

    Raises:
        InputError: a number is not finite, for which int8 has no sign.
    """
    if not np.isfinite(vectors).all():
        raise InputError("a vector is not finite and has no form in int8; look for nan in the model's weights")
    largest = np.abs(vectors).max(axis=-1, keepdims=True, initial=np.finfo(np.float32).tiny)
    scaled: NDArray[np.float64] = vectors * (127 / largest.astype(np.float64))
    return np.rint(scaled).astype(np.int8)
