"""Contrastive losses over rows of queries and documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vlm2vec.model.similarity import normalize


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


def matryoshka(loss: Callable[..., Tensor], dims: Sequence[int], *vectors: Tensor) -> Tensor:
    """Mean of a loss over the first dimensions of vectors, each time scaled to length one (arXiv 2205.13147).

    Args:
        loss: of as many tensors as there are `vectors`, with rows of length one.
        dims: numbers of leading dimensions; name the full number too if it is to count.
        vectors: [N, D] each; need not be of length one.
    """
    return torch.stack([loss(*(normalize(x_ND[:, :dim]) for x_ND in vectors)) for dim in dims]).mean()


def above_positive(scores_BN: Tensor, margin: float) -> Tensor:
    """bool [B, N]: documents that score higher than the query's own positive by more than a margin.

    Such a negative is more likely an unmarked answer (the rule of arXiv 2407.15831, with the model itself as judge).
    """
    scores_BN = scores_BN.detach()
    return scores_BN > scores_BN.diagonal()[: len(scores_BN), None] + margin
