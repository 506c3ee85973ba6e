"""From token states to one vector an item: last token or mean, and length one."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from vlm2vec.errors import ModelError
from vlm2vec.model.attention import Segments

Pooling: TypeAlias = Literal["last", "mean"]
POOLINGS: tuple[Pooling, ...] = ("last", "mean")


def known_pooling(name: str | None) -> Pooling:
    """The pooling of that name. Raises ModelError if there is none."""
    if name not in POOLINGS:
        raise ModelError(f"pooling {name!r} is unknown; use one of {', '.join(POOLINGS)}")
    return name


def last_tokens(x_TD: Tensor, segments: Segments) -> Tensor:
    """State of the last token of each sequence, [N, D]."""
    return x_TD[torch.tensor(segments.ends, device=x_TD.device) - 1]


def mean_tokens(x_TD: Tensor, segments: Segments) -> Tensor:
    """Mean state of each sequence, [N, D], summed in float32."""
    return torch.stack([part.float().mean(0) for part in x_TD.split(segments.lengths)])


def normalize(x_ND: Tensor) -> Tensor:
    """Rows scaled to length one in float32 (at least 1e-12, as published)."""
    return F.normalize(x_ND.float(), dim=-1, eps=1e-12)
