"""How are vectors scaled, cut, rounded and compared? In arrays, and in tensors where a graph is needed.

Of two items with a vector for every token the score is MaxSim: the sum over the query's tokens of the largest inner
product with a token of the document (ColBERT, arXiv 2004.12832).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import InputError
from vlm2vec.model.backbone import Vectors

if TYPE_CHECKING:
    from torch import Tensor

Number = TypeVar("Number", np.float32, np.float64)
Precision: TypeAlias = Literal["float32", "int8"]

_CELLS = 2**26


def as_unit(vectors: NDArray[np.generic]) -> Vectors:
    """Vectors [..., D] scaled to length one in float32; a length counts as at least 1e-12, as published."""
    wide = np.asarray(vectors, dtype=np.float32)
    length = np.sqrt(np.square(wide, dtype=np.float64).sum(axis=-1, keepdims=True)).astype(np.float32)
    unit: Vectors = wide / np.maximum(length, np.float32(1e-12))
    return unit


def normalize(x_ND: Tensor) -> Tensor:
    """As `as_unit`, of tensors and with a graph."""
    from torch.nn import functional

    return functional.normalize(x_ND.float(), dim=-1, eps=1e-12)


def check_form(dim: int | None, full: int, precision: str = "float32", *, name: str = "truncate_dim") -> None:
    """Refuse a number of dimensions to keep, called `name`, that is not between 1 and `full`, or an unknown precision.

    Raises:
        InputError: it is so; None keeps all dimensions.
    """
    if dim is not None and (type(dim) is not int or not 1 <= dim <= full):
        raise InputError(f"{name}={dim!r}: this model's vectors have 1 to {full} dimensions")
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


def maxsim(
    queries: Sequence[NDArray[Number]], documents: Sequence[NDArray[Number]], *, cells: int = _CELLS
) -> NDArray[np.float32]:
    """The scores [B, N] of documents for queries, each given as its token vectors [tokens, D].

    They are summed in the numbers that are given, and rounded to float32.

    Args:
        cells: similarities that are held at once.

    Raises:
        InputError: one has no tokens.
    """
    if not all(map(len, (*queries, *documents))):
        raise InputError("items without tokens have no late similarity: give at least one token vector for each")
    scores_BN = np.zeros((len(queries), len(documents)), dtype=np.float32)
    if not scores_BN.size:
        return scores_BN
    d_TD, starts = np.concatenate(documents), _starts(documents)
    for part in in_parts([len(one) for one in queries], cells // len(d_TD)):
        best_TN = np.maximum.reduceat(np.concatenate(queries[part]) @ d_TD.T, starts, axis=1)
        scores_BN[part] = np.add.reduceat(best_TN, _starts(queries[part]), axis=0)
    return scores_BN


def maxsim_with_graph(
    q_TD: Tensor, q_lengths: Sequence[int], d_TD: Tensor, d_lengths: Sequence[int], *, cells: int = _CELLS
) -> Tensor:
    """The same scores [B, N] of tensors, with a graph.

    Args:
        q_TD, d_TD: token vectors, sequences laid end to end.
        q_lengths, d_lengths: tokens of each of the B queries and N documents, none 0.
        cells: similarities that are held at once.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    def owners(lengths: Sequence[int]) -> Tensor:
        """The number of its sequence for each token."""
        numbers = torch.arange(len(lengths), device=d_TD.device)
        return torch.repeat_interleave(numbers, torch.tensor(lengths, dtype=torch.int64, device=d_TD.device))

    def part(some_TD: Tensor, lengths: Sequence[int]) -> Tensor:
        similarity = some_TD @ d_TD.T
        best = similarity.new_full((len(some_TD), len(d_lengths)), float("-inf"))
        best = best.scatter_reduce(1, owner_T.expand(len(some_TD), -1), similarity, "amax")
        return best.new_zeros(len(lengths), len(d_lengths)).index_add(0, owners(lengths), best)

    owner_T = owners(d_lengths)
    parts = [q_lengths[part] for part in in_parts(q_lengths, cells // max(1, len(d_TD)))]
    tokens = q_TD.split([sum(lengths) for lengths in parts])
    # The similarities of all token pairs are made again on the way back instead of being kept.
    scores = [checkpoint(part, some, of, use_reentrant=False) for some, of in zip(tokens, parts, strict=True)]
    return torch.cat(scores)


def _starts(items: Sequence[NDArray[Number]]) -> NDArray[np.int64]:
    """Where the tokens of each item begin when they are laid end to end."""
    lengths = np.array([0, *map(len, items[:-1])], dtype=np.int64)
    return np.cumsum(lengths)


def in_parts(lengths: Sequence[int] | NDArray[np.int64], limit: int) -> Iterator[slice]:
    """Pieces of a list of items whose lengths add up to `limit` at most, or that are one item."""
    ends = np.cumsum(lengths)
    start = 0
    while start < len(ends):
        before = ends[start] - lengths[start]
        stop = max(start + 1, int(np.searchsorted(ends, before + limit, side="right")))
        yield slice(start, stop)
        start = stop
