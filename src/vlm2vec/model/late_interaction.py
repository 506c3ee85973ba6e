"""How alike are two items with a vector for every token? MaxSim, for models with a token head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_CELLS = 2**26
"""Similarities of token pairs that are held at once."""


def maxsim(q_TD: Tensor, q_lengths: Sequence[int], d_TD: Tensor, d_lengths: Sequence[int]) -> Tensor:
    """Late-interaction scores [B, N]: mean over a query's tokens of the best similarity among a document's tokens.

    ColBERT (arXiv 2004.12832) sums over the query's tokens; the mean has the same order for a query and keeps the
    temperature's meaning for queries of any length.

    Args:
        q_TD, d_TD: token vectors of length one, sequences laid end to end.
        q_lengths, d_lengths: tokens of each of the B queries and N documents, none 0.
    """
    owner_T = torch.repeat_interleave(torch.arange(len(d_lengths), device=d_TD.device), _tensor(d_lengths, d_TD.device))
    parts = _in_parts(q_lengths, _CELLS // max(1, len(d_TD)))
    tokens = q_TD.split([sum(lengths) for lengths in parts])
    return torch.cat(
        [
            # The similarities of all token pairs are made again on the way back instead of being kept.
            checkpoint(_maxsim_part, part, lengths, d_TD, owner_T, len(d_lengths), use_reentrant=False)
            for part, lengths in zip(tokens, parts, strict=True)
        ]
    )


def _maxsim_part(q_TD: Tensor, lengths: list[int], d_TD: Tensor, owner_T: Tensor, num_documents: int) -> Tensor:
    similarity = q_TD @ d_TD.T
    best = similarity.new_full((len(q_TD), num_documents), float("-inf"))
    best = best.scatter_reduce(1, owner_T.expand(len(q_TD), -1), similarity, "amax")
    sizes = _tensor(lengths, q_TD.device)
    query = torch.repeat_interleave(torch.arange(len(lengths), device=q_TD.device), sizes)
    return best.new_zeros(len(lengths), num_documents).index_add(0, query, best) / sizes[:, None]


def _in_parts(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """The lengths, divided where their sum would pass `limit`; each part has at least one."""
    parts: list[list[int]] = [[]]
    for length in lengths:
        if parts[-1] and sum(parts[-1]) + length > limit:
            parts.append([])
        parts[-1].append(length)
    return parts


def _tensor(values: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device=device)
