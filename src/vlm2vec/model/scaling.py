"""How is a vector scaled, cut to fewer dimensions, or rounded to smaller numbers?"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import InputError
from vlm2vec.model.backbone import Vectors

Precision: TypeAlias = Literal["float32", "int8"]


def as_unit(vectors: NDArray[np.generic]) -> Vectors:
    """Vectors [..., D] scaled to length one in float32; a length counts as at least 1e-12, as published."""
    wide = np.asarray(vectors, dtype=np.float32)
    length = np.sqrt(np.square(wide, dtype=np.float64).sum(axis=-1, keepdims=True)).astype(np.float32)
    unit: Vectors = wide / np.maximum(length, np.float32(1e-12))
    return unit


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


def to_int8(vectors: Vectors) -> NDArray[np.int8]:
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
