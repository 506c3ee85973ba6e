"""Which candidates are nearest where every token has a vector? Late interaction, exact, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import InputError
from vlm2vec.model.late_interaction import maxsim
from vlm2vec.vectors.ranking import AtOnce, Places, Score, rank_by
from vlm2vec.vectors.store import StoredTokens, Vectors


def rank_late(
    queries: Sequence[Vectors] | StoredTokens,
    candidates: Sequence[Vectors] | StoredTokens,
    k: int,
    *,
    query_ids: Sequence[str],
    candidate_ids: Sequence[str],
    pools: Sequence[NDArray[np.int64]] | None = None,
    empty: NDArray[np.bool_] | None = None,
    at_once: AtOnce = AtOnce(),
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `k` best candidates of each query by late interaction; the rest is as in `rank`.

    The score is that of `maxsim`, summed in float64 and rounded to float32.

    Args:
        queries, candidates: for each item its token vectors, float32 [tokens, D]. Candidates are read in chunks.
        empty: bool [C], candidates without content; their token vectors are not looked at.

    Raises:
        InputError: as `rank`, or a query or a candidate that is not empty has no tokens.
    """
    of_queries, of_candidates = _Tokens(queries, "query"), _Tokens(candidates, "candidate")
    if len(queries) and len(candidates) and of_queries.dim != of_candidates.dim:
        raise InputError(
            f"queries with {of_queries.dim} numbers a token and candidates with {of_candidates.dim} cannot be ranked: "
            "give token vectors of one model"
        )
    of_queries.refuse_none()
    of_candidates.refuse_none(empty)
    return rank_by(
        lambda rows: _late(of_queries, rows, of_candidates, empty, at_once),
        (len(queries), len(candidates)),
        k,
        query_ids=query_ids,
        candidate_ids=candidate_ids,
        pools=pools,
        empty=empty,
        at_once=at_once,
    )


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
    queries: _Tokens, rows: NDArray[np.int64], candidates: _Tokens, empty: NDArray[np.bool_] | None, at_once: AtOnce
) -> Score:
    query_tokens = _wide(queries.take(rows))

    def score(places: Places) -> NDArray[np.float32]:
        chosen = np.arange(len(candidates.lengths))[places]
        scores_QC = np.zeros((len(rows), len(chosen)), dtype=np.float32)
        filled = np.arange(len(chosen)) if empty is None else np.flatnonzero(~empty[chosen])
        for part in _parts(candidates.lengths[chosen[filled]], at_once.tokens):
            of_part = _wide(candidates.take(chosen[filled[part]]))
            scores_QC[:, filled[part]] = maxsim(query_tokens, of_part, cells=at_once.pairs)
        return scores_QC

    return score


def _parts(lengths: NDArray[np.int64], limit: int) -> Iterator[slice]:
    """Pieces of a list of items whose lengths add up to `limit` at most, or that are one item."""
    ends = np.cumsum(lengths)
    start = 0
    while start < len(ends):
        before = ends[start] - lengths[start]
        stop = max(start + 1, int(np.searchsorted(ends, before + limit, side="right")))
        yield slice(start, stop)
        start = stop


def _wide(items: Sequence[Vectors]) -> list[NDArray[np.float64]]:
    """Token vectors in float64, checked."""
    wide = [one.astype(np.float64) for one in items]
    if not all(np.isfinite(one).all() for one in wide):
        # The largest of several products would hide one that is -inf.
        raise InputError("vectors cannot be ranked: a token's is not finite; look for nan or inf among them")
    return wide
