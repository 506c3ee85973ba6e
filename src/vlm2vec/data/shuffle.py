"""Where does element i of a list of n go? A seeded permutation as arithmetic, without building it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 4


def shuffled(offsets: NDArray[np.int64], sizes: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Place of each offset in a permutation of `range(size)` that its key alone decides, element by element.

    A Feistel network permutes a rectangle that is hardly larger than `size`; what falls outside is sent round again
    until it falls inside, which keeps it a permutation (Black and Rogaway, CT-RSA 2002).
    """
    columns = np.ceil(np.sqrt(sizes)).astype(np.uint64)
    rows = -(-sizes // columns.astype(np.int64))
    found = offsets.astype(np.uint64)
    todo = np.arange(len(found))
    limits, heights = sizes.astype(np.uint64), rows.astype(np.uint64)
    while len(todo):
        found[todo] = _feistel(found[todo], heights[todo], columns[todo], keys[todo])
        todo = todo[found[todo] >= limits[todo]]
    return found.astype(np.int64)


def _feistel(
    values: NDArray[np.uint64], rows: NDArray[np.uint64], columns: NDArray[np.uint64], keys: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    row, column = np.divmod(values, columns)
    for number in range(_ROUNDS):
        row = (row + mixed(keys + np.uint64(2 * number), column) % rows) % rows
        column = (column + mixed(keys + np.uint64(2 * number + 1), row) % columns) % columns
    return row * columns + column


def mixed(*words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """64 well-mixed bits of the words, element by element (the finaliser of SplitMix64, Steele et al. 2014)."""
    state = np.zeros(1, dtype=np.uint64)
    # Products are meant to wrap; arrays do so silently where scalars would warn.
    for word in words:
        state = (state ^ word) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state


def words(*values: int) -> tuple[NDArray[np.uint64], ...]:
    """Whole numbers as words for `mixed`."""
    return tuple(np.array([value % 2**64], dtype=np.uint64) for value in values)
