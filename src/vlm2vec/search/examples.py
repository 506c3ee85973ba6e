"""What is looked for where several examples show it, or examples of what is not wanted?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vlm2vec.errors import InputError
from vlm2vec.items import ItemLike
from vlm2vec.search.store import Vector

SHARE = 0.25
"""How much examples of what is not wanted count, against those of what is; docs/search.md has the measurement."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Items that show together what is looked for: the item of a `Question`.

    Args:
        like: what is wanted is like all of them; at least one.
        unlike: what is wanted is not like these.

    Raises:
        InputError: there is no example of what is wanted.
    """

    like: tuple[ItemLike, ...]
    unlike: tuple[ItemLike, ...] = ()

    def __post_init__(self) -> None:
        if not self.like:
            raise InputError("there are only examples of what is not wanted: give one of what is, or words")


def combined(like: ArrayLike, unlike: ArrayLike = (), share: float = SHARE) -> Vector:
    """The vector of a question: the mean of what is wanted, less a share of the mean of what is not.

    Each example counts the same, whatever the length of its vector.

    Args:
        like: [N, dim], N at least 1.
        unlike: [M, dim].
        share: of the mean of `unlike`.

    Returns:
        float32 [dim], of length one.

    Raises:
        InputError: one of them is no direction, or nothing is left.
    """
    vector = _mean(like)
    if len(np.asarray(unlike)):
        vector = vector - share * _mean(unlike)
    norm = float(np.linalg.norm(vector))
    # Rounding leaves something of equal vectors.
    if norm < 1e-6:
        raise InputError("what is wanted and what is not are the same: leave one of the examples out")
    return (vector / norm).astype(np.float32)


def _mean(vectors: ArrayLike) -> Vector:
    rows = np.asarray(vectors, np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.all((norms > 0) & np.isfinite(norms)):
        raise InputError("the vector of an example is zero or not finite")
    mean: Vector = (rows / norms).mean(axis=0)
    return mean
