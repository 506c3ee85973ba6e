"""Which candidates are nearest to each query, by one vector or by one for every token?

Exact, in bounded memory, with a written rule for ties.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import NamedTuple, Protocol, Required, TypeAlias, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import InputError
from vlm2vec.model.backbone import Vectors
from vlm2vec.model.similarity import in_parts, maxsim
from vlm2vec.vectors.store import StoredTokens


@dataclass(frozen=True, slots=True)
class AtOnce:
    """How much of a ranking lies in memory together.

    Args:
        scores: 32 MiB of float64, and some four arrays of that size while they are sorted out.
        candidates: whose vectors are read together.
        tokens: of candidates, for late interaction; one item is never divided.
        pairs: products of two tokens, 32 MiB of float64.
    """

    scores: int = 1 << 22
    candidates: int = 1 << 13
    tokens: int = 1 << 13
    pairs: int = 1 << 22


_Places: TypeAlias = slice | NDArray[np.int64]
"""Some candidates: a run of them, or their indices."""

_Score: TypeAlias = Callable[[_Places], NDArray[np.float32]]
"""Some queries' scores with the candidates at some places, [Q, places]; a score must not depend on the places."""

_Ranked: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Indices of the best candidates of each query and their scores, [Q, k]."""


class _VectorRows(Protocol):
    """Vectors [N, D] of which a piece is read at a time: an array, a mapped file or `VectorStore.rows`."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: _Places, /) -> NDArray[np.float32]: ...


class _RankOptions(TypedDict, total=False):
    """What `rank` and `rank_late` must know beside vectors and `k`; `rank` says what each means."""

    query_ids: Required[Sequence[str]]
    candidate_ids: Required[Sequence[str]]
    pools: Sequence[NDArray[np.int64]] | None
    empty: NDArray[np.bool_] | None
    at_once: AtOnce


_NOT_RANKED = np.iinfo(np.int64).min
_LOW = 0xFFFF_FFFF


class _Ties(NamedTuple):
    """A number for each query and, all different, for each candidate; `_mixed` makes the order of a tie of them."""

    queries: NDArray[np.uint32]
    candidates: NDArray[np.uint32]


def top_k(
    queries_QD: _VectorRows,
    candidates_CD: _VectorRows,
    k: int,
    *,
    exclude: Sequence[NDArray[np.int64]] | None = None,
    at_once: AtOnce = AtOnce(),
) -> _Ranked:
    """The `k` candidates with the largest inner product for each query, best first.

    Of equal scores the lower index comes first. Scores are summed in float64 and then rounded to float32: a float32
    product of matrices depends on the place in the matrix, so that candidates with equal vectors would not tie.

    Args:
        queries_QD, candidates_CD: candidates are read in chunks.
        k: clipped to C.
        exclude: for each query the candidates that do not count. One array may serve many queries.

    Returns:
        int64 [Q, k] and float32 [Q, k]. A query with fewer than k candidates left has index -1 and score -inf there.

    Raises:
        InputError: shapes do not fit, `k` is less than 1, or a score is not finite.
    """
    _check_shapes(queries_QD, candidates_CD)
    _check_k(k)
    num_queries, num_candidates = queries_QD.shape[0], candidates_CD.shape[0]
    if exclude is not None and len(exclude) != num_queries:
        raise InputError(f"exclude names candidates for {len(exclude)} queries of {num_queries}")
    ranks = np.full((num_queries, min(k, num_candidates)), _NOT_RANKED, dtype=np.int64)
    for rows in _blocks(np.arange(num_queries), k, at_once):
        excluded = None if exclude is None else [np.sort(exclude[row]) for row in rows]
        score = _products(queries_QD[rows], candidates_CD)
        ranks[rows] = _best(score, len(rows), num_candidates, ranks.shape[1], at_once.candidates, excluded=excluded)
    indices = np.where(ranks == _NOT_RANKED, -1, _LOW - (ranks & _LOW))
    return indices, _scores(ranks)


def rank(queries_QD: _VectorRows, candidates_CD: _VectorRows, k: int, **options: Unpack[_RankOptions]) -> _Ranked:
    """The `k` best candidates of each query for measuring: ties are broken without favour, scores are as in `top_k`.

    Of equal scores the one comes first whose tie number is larger. It depends on the ids of query and candidate alone,
    never on places, so that a label gains nothing by standing first in its list. It is mix(h(query) xor h(candidate)):
    h is BLAKE2b of the UTF-8 id with a digest of 4 bytes (of candidates that share it, all but the first in the order
    of ids move to the next free number), mix the finishing step of MurmurHash3, which maps 32 bits one to one.

    Args:
        queries_QD, candidates_CD: candidates are read in chunks.
        query_ids, candidate_ids: one for each query and candidate; those of candidates are all different.
        pools: for each query the indices of its own candidates, the only ones it ranks; one named twice counts once.
            None ranks all candidates for every query.
        empty: bool [C], candidates without content. They rank last whatever their vectors hold, with score -inf.

    Returns:
        int64 [Q, min(k, C)] and float32 of that shape. Past the end of a pool the index is -1 and the score -inf.

    Raises:
        InputError: shapes or lengths do not fit, `k` is less than 1, a score is not finite, an id of a candidate occurs
            twice, or a pool names a candidate that does not exist.
    """
    _check_shapes(queries_QD, candidates_CD)
    num_queries, num_candidates = queries_QD.shape[0], candidates_CD.shape[0]
    return _rank_by(lambda rows: _products(queries_QD[rows], candidates_CD), num_queries, num_candidates, k, **options)


def rank_late(
    queries: Sequence[Vectors] | StoredTokens,
    candidates: Sequence[Vectors] | StoredTokens,
    k: int,
    **options: Unpack[_RankOptions],
) -> _Ranked:
    """The `k` best candidates of each query by late interaction; the rest is as in `rank`.

    The score is that of `maxsim`, summed in float64 and rounded to float32.

    Args:
        queries, candidates: for each item its token vectors, float32 [tokens, D]. Candidates are read in chunks, those
            that are empty not at all.

    Raises:
        InputError: as `rank`, or a query or a candidate that is not empty has no tokens.
    """
    empty, at_once = options.get("empty"), options.get("at_once", AtOnce())
    of_queries, of_candidates = _Tokens(queries, "query"), _Tokens(candidates, "candidate")
    if len(queries) and len(candidates) and of_queries.dim != of_candidates.dim:
        raise InputError(
            f"queries with {of_queries.dim} numbers a token and candidates with {of_candidates.dim} cannot be ranked: "
            "give token vectors of one model"
        )
    of_queries.refuse_none()
    of_candidates.refuse_none(empty)
    scores_of = partial(_late, of_queries, of_candidates, empty, at_once)
    return _rank_by(scores_of, len(queries), len(candidates), k, **options)


def _rank_by(
    scores_of: Callable[[NDArray[np.int64]], _Score],
    num_queries: int,
    num_candidates: int,
    k: int,
    *,
    query_ids: Sequence[str],
    candidate_ids: Sequence[str],
    pools: Sequence[NDArray[np.int64]] | None = None,
    empty: NDArray[np.bool_] | None = None,
    at_once: AtOnce = AtOnce(),
) -> _Ranked:
    """As `rank`, by any score: `scores_of` says of the rows of some queries how these are scored."""
    _check_k(k)
    if (len(query_ids), len(candidate_ids)) != (num_queries, num_candidates):
        raise InputError(
            f"{len(query_ids)} query ids and {len(candidate_ids)} candidate ids do not fit {num_queries} queries "
            f"and {num_candidates} candidates: give one id for each vector"
        )
    if empty is not None and empty.shape != (num_candidates,):
        raise InputError(f"empty has the shape {empty.shape}: give one value for each of {num_candidates} candidates")
    ties = _Ties(np.array([_hash(name) for name in query_ids], dtype=np.uint32), _distinct_hashes(candidate_ids))
    ranks = np.full((num_queries, min(k, num_candidates)), _NOT_RANKED, dtype=np.int64)
    for pool, members in _shared_pools(pools, num_queries, num_candidates):
        for rows in _blocks(members, k, at_once):
            best = _best(
                scores_of(rows),
                len(rows),
                num_candidates,
                ranks.shape[1],
                at_once.candidates,
                pool=pool,
                empty=empty,
                ties=_Ties(ties.queries[rows], ties.candidates),
            )
            ranks[rows, : best.shape[1]] = best
    order = np.argsort(ties.candidates)
    numbers = _unmixed((ranks & _LOW).astype(np.uint32)) ^ ties.queries[:, None]
    # A place that is not ranked has no number of a candidate, so it may lie past the end.
    found = np.searchsorted(ties.candidates, numbers, sorter=order)
    indices = order[np.minimum(found, num_candidates - 1)] if num_candidates else found
    return np.where(ranks == _NOT_RANKED, -1, indices), _scores(ranks)


def _products(queries_QD: NDArray[np.float32], candidates_CD: _VectorRows) -> _Score:
    queries = np.asarray(queries_QD, dtype=np.float64)

    def score(places: _Places) -> NDArray[np.float32]:
        return (queries @ np.asarray(candidates_CD[places], dtype=np.float64).T).astype(np.float32)

    return score


class _Tokens:
    """Token vectors of items, a list or in a store."""

    def __init__(self, items: Sequence[Vectors] | StoredTokens, kind: str) -> None:
        self._items = items
        self._kind = kind
        if isinstance(items, StoredTokens):
            self.dim, self.lengths = items.dim, items.lengths
            return
        shapes = {np.shape(one)[1:] for one in items}
        if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
            found = ", ".join(str(shape) for shape in sorted({np.shape(one) for one in items})[:3])
            raise InputError(
                f"{kind} tokens of shapes such as {found} cannot be ranked: give [tokens, D] for each item"
            )
        self.dim = next(iter(shapes), (0,))[0]
        self.lengths = np.array([len(one) for one in items], dtype=np.int64)

    def take(self, places: NDArray[np.int64]) -> list[Vectors]:
        """Those of some items."""
        if isinstance(self._items, StoredTokens):
            return self._items.take(places)
        return [self._items[place] for place in places]

    def refuse_none(self, empty: NDArray[np.bool_] | None = None) -> None:
        """Refuse items without tokens, except those that are known to be empty."""
        bare = self.lengths == 0
        # A wrong shape is refused later, as for single vectors.
        if empty is not None and empty.shape == bare.shape:
            bare &= ~empty
        if bare.any():
            raise InputError(f"{self._kind} {int(bare.argmax())} has no tokens: give at least one, or embed it again")


def _late(
    queries: _Tokens, candidates: _Tokens, empty: NDArray[np.bool_] | None, at_once: AtOnce, rows: NDArray[np.int64]
) -> _Score:
    query_tokens = _wide(queries.take(rows))

    def score(places: _Places) -> NDArray[np.float32]:
        chosen = np.arange(len(candidates.lengths))[places]
        scores_QC = np.zeros((len(rows), len(chosen)), dtype=np.float32)
        filled = np.arange(len(chosen)) if empty is None else np.flatnonzero(~empty[chosen])
        for part in in_parts(candidates.lengths[chosen[filled]], at_once.tokens):
            of_part = _wide(candidates.take(chosen[filled[part]]))
            scores_QC[:, filled[part]] = maxsim(query_tokens, of_part, cells=at_once.pairs)
        return scores_QC

    return score


def _wide(items: Sequence[Vectors]) -> list[NDArray[np.float64]]:
    """Token vectors in float64, checked."""
    wide = [one.astype(np.float64) for one in items]
    if not all(np.isfinite(one).all() for one in wide):
        # The largest of several products would hide one that is -inf.
        raise InputError("vectors cannot be ranked: a token's is not finite; look for nan or inf among them")
    return wide


def _best(
    score: _Score,
    num_queries: int,
    num_candidates: int,
    k: int,
    chunk_size: int,
    *,
    excluded: Sequence[NDArray[np.int64]] | None = None,
    pool: NDArray[np.int64] | None = None,
    empty: NDArray[np.bool_] | None = None,
    ties: _Ties | None = None,
) -> NDArray[np.int64]:
    """Packed ranks, best first; the lower 32 bits are a tie number, or without `ties` stand for the index."""
    best: NDArray[np.int64] = np.empty((num_queries, 0), dtype=np.int64)
    num_ranked = num_candidates if pool is None else len(pool)
    for start in range(0, num_ranked, chunk_size):
        chunk = slice(start, min(start + chunk_size, num_ranked))
        chosen = chunk if pool is None else pool[chunk]
        with np.errstate(over="ignore", invalid="ignore"):
            scores = score(chosen)
        if empty is not None:
            scores[:, empty[chosen]] = 0
        if not np.isfinite(scores).all():
            raise InputError("vectors cannot be ranked: a score is not finite; look for nan or inf among them")
        if empty is not None:
            scores[:, empty[chosen]] = -np.inf
        if ties is None:
            places = _LOW - np.arange(chunk.start, chunk.stop, dtype=np.int64)
        else:
            places = _mixed(ties.queries[:, None] ^ ties.candidates[chosen]).astype(np.int64)
        ranks = (_ordered(scores) << 32) | places
        for row, of_query in enumerate(excluded or ()):
            inside = of_query[slice(*np.searchsorted(of_query, [chunk.start, chunk.stop]))]
            ranks[row, inside - start] = _NOT_RANKED
        best = np.concatenate([best, ranks], axis=1)
        if best.shape[1] > k:
            best = np.partition(best, best.shape[1] - k, axis=1)[:, -k:]
    return np.sort(best, axis=1)[:, ::-1]


def _blocks(rows: NDArray[np.int64], k: int, at_once: AtOnce) -> list[NDArray[np.int64]]:
    """Rows of queries in pieces whose scores fit into memory together."""
    size = max(1, at_once.scores // (k + at_once.candidates))
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _shared_pools(
    pools: Sequence[NDArray[np.int64]] | None, num_queries: int, num_candidates: int
) -> list[tuple[NDArray[np.int64] | None, NDArray[np.int64]]]:
    """Each pool once, without repetition, with the queries that have it: they are ranked in one product."""
    if pools is None:
        return [(None, np.arange(num_queries))]
    if len(pools) != num_queries:
        raise InputError(f"pools are given for {len(pools)} queries of {num_queries}")
    shared: dict[bytes, tuple[NDArray[np.int64], list[int]]] = {}
    for row, members in enumerate(pools):
        pool = np.unique(np.asarray(members, dtype=np.int64))
        if len(pool) and (pool[0] < 0 or pool[-1] >= num_candidates):
            wrong = pool[0] if pool[0] < 0 else pool[-1]
            raise InputError(f"the pool of query {row} names candidate {wrong} of {num_candidates}")
        shared.setdefault(pool.tobytes(), (pool, []))[1].append(row)
    return [(pool, np.array(rows, dtype=np.int64)) for pool, rows in shared.values()]


def _ordered(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Whole numbers in the order of the scores.

    The bits of a float32 are ordered like its value once those of negative numbers are turned round (IEEE 754).
    """
    # Adding zero makes -0.0 and 0.0 the same bits.
    bits = (scores + np.float32(0.0)).view(np.int32)
    return np.where(bits < 0, bits ^ 0x7FFF_FFFF, bits).astype(np.int64)


def _scores(ranks: NDArray[np.int64]) -> NDArray[np.float32]:
    ordered = (ranks >> 32).astype(np.int32)
    scores = np.where(ordered < 0, ordered ^ 0x7FFF_FFFF, ordered).astype(np.int32).view(np.float32)
    return np.where(ranks == _NOT_RANKED, np.float32(-np.inf), scores)


# Multipliers and shifts of MurmurHash3's 32-bit finishing step (A. Appleby, public domain).
_FIRST, _SECOND = 0x85EB_CA6B, 0xC2B2_AE35


def _mixed(numbers: NDArray[np.uint32]) -> NDArray[np.uint32]:
    numbers = _folded(numbers, 16) * np.uint32(_FIRST)
    numbers = _folded(numbers, 13) * np.uint32(_SECOND)
    return _folded(numbers, 16)


def _unmixed(numbers: NDArray[np.uint32]) -> NDArray[np.uint32]:
    numbers = _folded(numbers, 16) * np.uint32(pow(_SECOND, -1, 1 << 32))
    # Undoing a shift of less than half the bits takes a second one.
    numbers = (_folded(numbers, 13) ^ (numbers >> np.uint32(26))) * np.uint32(pow(_FIRST, -1, 1 << 32))
    return _folded(numbers, 16)


def _folded(numbers: NDArray[np.uint32], shift: int) -> NDArray[np.uint32]:
    return numbers ^ (numbers >> np.uint32(shift))


def _hash(name: str) -> int:
    # File names may hold half a surrogate pair.
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")


def _distinct_hashes(names: Sequence[str]) -> NDArray[np.uint32]:
    hashes: dict[str, int] = {}
    taken: set[int] = set()
    for name in sorted(names):
        if name in hashes:
            raise InputError(f"two candidates have the id {name!r}: give every candidate an id of its own")
        number = _hash(name)
        while number in taken:
            number = (number + 1) & _LOW
        taken.add(number)
        hashes[name] = number
    return np.array([hashes[name] for name in names], dtype=np.uint32)


def _check_shapes(queries_QD: _VectorRows, candidates_CD: _VectorRows) -> None:
    shapes = queries_QD.shape, candidates_CD.shape
    if len(shapes[0]) != 2 or len(shapes[1]) != 2 or shapes[0][1] != shapes[1][1]:
        raise InputError(f"queries {shapes[0]} and candidates {shapes[1]} cannot be ranked: give [Q, D] and [C, D]")


def _check_k(k: int) -> None:
    if k < 1:
        raise InputError(f"k is {k}: ask for at least one candidate")
