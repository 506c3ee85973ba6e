"""Contrastive losses over rows of queries and documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vlm2vec.model.pooling import normalize


def info_nce(
    scores_BN: Tensor, *, temperature: float | Tensor, mask_BN: Tensor | None = None, symmetric: bool = False
) -> Tensor:
    """InfoNCE: mean cross entropy of picking document i for query i among all documents.

    Args:
        scores_BN: similarities; document i of the first B is the positive of query i, the others are hard negatives.
        temperature: divides the similarities; a tensor [B] has one for each row.
        mask_BN: True where document j must not count as a negative for query i; the diagonal is never masked.
        symmetric: average with the same over the queries for each positive (as CLIP, arXiv 2103.00020).

    Returns:
        a scalar, in nats.
    """
    per_row = temperature.unsqueeze(1) if isinstance(temperature, Tensor) and temperature.ndim else temperature
    if mask_BN is None:
        mask_BN = torch.zeros_like(scores_BN, dtype=torch.bool)
    diagonal = torch.eye(*scores_BN.shape, dtype=torch.bool, device=scores_BN.device)
    mask_BN = mask_BN & ~diagonal
    target = torch.arange(len(scores_BN), device=scores_BN.device)
    # Masked after dividing, or a learned temperature would have the gradient 0 * infinity.
    loss = F.cross_entropy((scores_BN / per_row).masked_fill(mask_BN, float("-inf")), target)
    if not symmetric:
        return loss
    # Row j of the transposed scores belongs to the pair j, whose temperature it takes.
    back_BB, unfair_BB = (x[:, : len(target)].T for x in (scores_BN, mask_BN))
    return (loss + F.cross_entropy((back_BB / per_row).masked_fill(unfair_BB, float("-inf")), target)) / 2


def matryoshka(loss: Callable[[Tensor, Tensor], Tensor], q_BD: Tensor, d_ND: Tensor, dims: Sequence[int]) -> Tensor:
    """Mean of a loss over the first dimensions of the vectors, each time scaled to length one (arXiv 2205.13147).

    Args:
        loss: takes rows of length one.
        q_BD, d_ND: need not be of length one.
        dims: numbers of leading dimensions, the full one included if it is to count.
    """
    parts = [loss(normalize(q_BD[:, :dim]), normalize(d_ND[:, :dim])) for dim in dims]
    return torch.stack(parts).mean()


def over_dims(loss: Callable[[Tensor], Tensor], x_ND: Tensor, dims: Sequence[int]) -> Tensor:
    """The same for a loss of vectors of one kind."""
    return torch.stack([loss(normalize(x_ND[:, :dim])) for dim in dims]).mean()


def above_positive(scores_BN: Tensor, margin: float) -> Tensor:
    """bool [B, N]: documents that score higher than the query's own positive by more than a margin.

    Such a negative is more likely an unmarked answer (the rule of arXiv 2407.15831, with the model itself as judge).
    """
    scores_BN = scores_BN.detach()
    return scores_BN > scores_BN.diagonal()[: len(scores_BN), None] + margin
