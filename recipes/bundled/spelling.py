"""What does a reader who knows letters but no meanings see? A vector of words by their letters, pairs and threes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_HASHED = 256
_SHARES = (1.0, 1.0, 0.7)
"""What letters, pairs and threes count in the whole."""

DIM = len(_LETTERS) + 2 * _HASHED

Vectors = NDArray[np.float32]


def spelled(texts: Sequence[str]) -> Vectors:
    """One row for each text, float32 [N, 548]: alike where the texts share letters, whatever their order of words.

    The number of times each letter stands there (its root, so that a long text is not all `e`), and the pairs and
    threes of letters of each word with its ends, each by a random direction of its own. Each of the three parts is
    centred over the texts, so that having an `e` is nothing in common, and scaled to one length.
    """
    words = [re.findall(r"[a-z0-9]+", text.lower()) for text in texts]
    letters = np.array([[np.sqrt("".join(one).count(letter)) for letter in _LETTERS] for one in words], np.float32)
    parts = [letters, *(np.stack([_sum_of(one, size) for one in words]) for size in (2, 3))]
    scaled = []
    for part, share in zip(parts, _SHARES, strict=True):
        centred = part - part.mean(0)
        scaled.append(share * centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6))
    return np.concatenate(scaled, axis=1).astype(np.float32)


def _sum_of(words: Sequence[str], size: int) -> Vectors:
    marked = [f"^{word}$" for word in words]
    runs = [word[start : start + size] for word in marked for start in range(len(word) - size + 1)]
    return np.sum([_direction(run) for run in runs], axis=0) if runs else np.zeros(_HASHED, np.float32)


@cache
def _direction(run: str) -> Vectors:
    seed = int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest())
    return np.random.default_rng(seed).standard_normal(_HASHED).astype(np.float32)
