"""How does an MLP run without waiting for memory? In pieces of rows, whose inner values stay in the cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import QuickGELUActivation, SiLUActivation

_PIECE_BYTES = 8 << 20
"""Of the inner values of a piece. Beyond 32 MiB the C library asks the system for fresh pages each time, which costs
more than the activation itself."""

_LEAST_ROWS = 128
"""A matrix product of fewer rows is slow."""


def vision_mlp(mlp: Any, x_PD: Tensor, piece_bytes: int = _PIECE_BYTES) -> Tensor:
    """The output of Qwen2-VL's vision MLP."""
    if not _in_pieces(x_PD):
        whole: Tensor = mlp(x_PD)
        return whole
    rows = _rows(x_PD, mlp.fc1.out_features, piece_bytes)
    return torch.cat([mlp.fc2(_activate(mlp.act, mlp.fc1(piece))) for piece in x_PD.split(rows)])


def gated_mlp(mlp: Any, x_TD: Tensor, piece_bytes: int = _PIECE_BYTES) -> Tensor:
    """The output of Qwen2's gated MLP."""
    if not _in_pieces(x_TD):
        whole: Tensor = mlp(x_TD)
        return whole
    rows = _rows(x_TD, mlp.gate_proj.out_features, piece_bytes)
    return torch.cat(
        [
            mlp.down_proj(_activate(mlp.act_fn, mlp.gate_proj(piece)).mul_(mlp.up_proj(piece)))
            for piece in x_TD.split(rows)
        ]
    )


def _in_pieces(x: Tensor) -> bool:
    # A gradient needs the inner values whole; a GPU waits for no page.
    return x.device.type == "cpu" and torch.is_inference_mode_enabled()


def _rows(x: Tensor, width: int, piece_bytes: int) -> int:
    return max(_LEAST_ROWS, piece_bytes // (width * x.element_size()))


def _activate(activation: nn.Module, x: Tensor) -> Tensor:
    """The activation, written over its input where that is known how; equal to the bit."""
    if type(activation) is SiLUActivation:
        return F.silu(x, inplace=True)
    if type(activation) is QuickGELUActivation:
        return x.mul_((1.702 * x).sigmoid_())
    activated: Tensor = activation(x)
    return activated
