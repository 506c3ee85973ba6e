"""Contrastive losses over rows of queries and documents."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def info_nce(
    q_BD: Tensor, d_BD: Tensor, *, temperature: float, mask_BB: Tensor | None = None, symmetric: bool = False
) -> Tensor:
    """Mean cross entropy of picking document i for query i among all documents of the batch.

    Args:
        q_BD, d_BD: rows of length one.
        temperature: divides the similarities.
        mask_BB: True where document j is no fair negative of query i; the diagonal is never masked.
        symmetric: average with the same over queries for each document.

    Returns:
        a scalar, in nats.
    """
    logits_BB = q_BD @ d_BD.T / temperature
    if mask_BB is not None:
        diagonal = torch.eye(len(logits_BB), dtype=torch.bool, device=logits_BB.device)
        logits_BB = logits_BB.masked_fill(mask_BB & ~diagonal, float("-inf"))
    target = torch.arange(len(logits_BB), device=logits_BB.device)
    loss = F.cross_entropy(logits_BB, target)
    return (loss + F.cross_entropy(logits_BB.T, target)) / 2 if symmetric else loss
