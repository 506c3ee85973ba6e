"""Vectors that stay on disk until some of them are asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vlm2vec.vectors.store import Vectors, VectorStore


class StoredVectors:
    """The vectors of a store under some keys, read from it a piece at a time; to be ranked like an array [N, dim].

    Args:
        store: keeps them.
        keys: one for each row. Of a key that the store lacks, such as b"", the row is zeros.
    """

    def __init__(self, store: VectorStore, keys: Sequence[bytes]) -> None:
        self._store = store
        self._keys = keys

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._keys), self._store.dim

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Vectors:
        numbers = range(len(self._keys))[rows] if isinstance(rows, slice) else rows
        return self._store.get([self._keys[number] for number in numbers])[1]
