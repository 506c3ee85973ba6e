"""Which candidates are nearest to each query? Exact, in bounded memory, with a written rule for ties."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import InputError

# Scores held at once: 32 MiB of float64, and some four arrays of that size while they are sorted out.
_SCORES_AT_ONCE = 1 << 22
_CANDIDATES_AT_ONCE = 1 << 13

_NOT_RANKED = np.iinfo(np.int64).min
_LOW = 0xFFFF_FFFF


def top_k(
    queries_QD: NDArray[np.float32],
    candidates_CD: NDArray[np.float32],
    k: int,
    *,
    exclude: Sequence[NDArray[np.int64]] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `k` candidates with the largest inner product for each query, best first.

    Of equal scores the lower index comes first. Scores are summed in float64 and then rounded to float32: a float32
    product of matrices depends on the place in the matrix, so that candidates with equal vectors would not tie.

    Args:
        queries_QD, candidates_CD: may be mapped files; candidates are read in chunks.
        k: clipped to C.
        exclude: for each query the candidates that do not count. One array may serve many queries.

    Returns:
        int64 [Q, k] and float32 [Q, k]. A query with fewer than k candidates left has index -1 and score -inf there.

    Raises:
        InputError: shapes do not fit, `k` is less than 1, or a score is not finite.
    """
    _check(queries_QD, candidates_CD, k, exclude)
    num_queries, num_candidates = len(queries_QD), len(candidates_CD)
    k = min(k, num_candidates)
    ranks = np.full((num_queries, k), _NOT_RANKED, dtype=np.int64)
    if k:
        rows = max(1, _SCORES_AT_ONCE // (k + _CANDIDATES_AT_ONCE))
        for start in range(0, num_queries, rows):
            stop = min(start + rows, num_queries)
            ranks[start:stop] = _best(queries_QD[start:stop], candidates_CD, k, exclude and exclude[start:stop])
    return _unpack(ranks)


def _best(
    queries_QD: NDArray[np.float32],
    candidates_CD: NDArray[np.float32],
    k: int,
    exclude: Sequence[NDArray[np.int64]] | None,
) -> NDArray[np.int64]:
    queries = np.asarray(queries_QD, dtype=np.float64)
    excluded = None if exclude is None else [np.sort(of_query) for of_query in exclude]
    best: NDArray[np.int64] = np.empty((len(queries), 0), dtype=np.int64)
    for start in range(0, len(candidates_CD), _CANDIDATES_AT_ONCE):
        stop = min(start + _CANDIDATES_AT_ONCE, len(candidates_CD))
        with np.errstate(over="ignore", invalid="ignore"):
            scores = (queries @ np.asarray(candidates_CD[start:stop], dtype=np.float64).T).astype(np.float32)
        if not np.isfinite(scores).all():
            raise InputError("vectors cannot be ranked: a score is not finite; look for nan or inf among them")
        ranks = _pack(scores, start)
        for row, of_query in enumerate(excluded or ()):
            inside = of_query[slice(*np.searchsorted(of_query, [start, stop]))]
            ranks[row, inside - start] = _NOT_RANKED
        best = np.concatenate([best, ranks], axis=1)
        if best.shape[1] > k:
            best = np.partition(best, best.shape[1] - k, axis=1)[:, -k:]
    return np.sort(best, axis=1)[:, ::-1]


def _pack(scores: NDArray[np.float32], first: int) -> NDArray[np.int64]:
    """One whole number for score and index, larger for a better rank, so that no two are equal.

    The bits of a float32 are ordered like its value once those of negative numbers are turned round (IEEE 754).
    """
    # Adding zero makes -0.0 and 0.0 the same bits.
    bits = (scores + np.float32(0.0)).view(np.int32)
    ordered: NDArray[np.int64] = np.where(bits < 0, bits ^ 0x7FFF_FFFF, bits).astype(np.int64)
    places: NDArray[np.int64] = _LOW - np.arange(first, first + scores.shape[1], dtype=np.int64)
    return (ordered << 32) | places


def _unpack(ranks: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    ordered = (ranks >> 32).astype(np.int32)
    scores = np.where(ordered < 0, ordered ^ 0x7FFF_FFFF, ordered).astype(np.int32).view(np.float32)
    missing = ranks == _NOT_RANKED
    return np.where(missing, -1, _LOW - (ranks & _LOW)), np.where(missing, np.float32(-np.inf), scores)


def _check(
    queries_QD: NDArray[np.float32],
    candidates_CD: NDArray[np.float32],
    k: int,
    exclude: Sequence[NDArray[np.int64]] | None,
) -> None:
    shapes = np.shape(queries_QD), np.shape(candidates_CD)
    if len(shapes[0]) != 2 or len(shapes[1]) != 2 or shapes[0][1] != shapes[1][1]:
        raise InputError(f"queries {shapes[0]} and candidates {shapes[1]} cannot be ranked: give [Q, D] and [C, D]")
    if k < 1:
        raise InputError(f"k is {k}: ask for at least one candidate")
    if exclude is not None and len(exclude) != len(queries_QD):
        raise InputError(f"exclude names candidates for {len(exclude)} queries of {len(queries_QD)}")
