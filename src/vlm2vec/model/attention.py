"""Sequences laid end to end instead of padded: their borders, attention inside of each, and the pooling of each."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class Segments(NamedTuple):
    """The sequences of a pack: N lengths in order, T tokens in all."""

    lengths: tuple[int, ...]

    @property
    def ends(self) -> tuple[int, ...]:
        """Position behind the last token of each sequence."""
        return tuple(np.cumsum(self.lengths).tolist())

    def last(self, x_TD: Tensor) -> Tensor:
        """State of the last token of each sequence, [N, D]."""
        return x_TD[torch.tensor(self.ends, device=x_TD.device) - 1]

    def mean(self, x_TD: Tensor) -> Tensor:
        """Mean state of each sequence, [N, D], summed in float32."""
        return torch.stack([part.float().mean(0) for part in x_TD.split(self.lengths)])

    def attend(self, q_THD: Tensor, k_TGD: Tensor, v_TGD: Tensor, *, causal: bool) -> Tensor:
        """Attention of each sequence to itself. H query heads, G key/value heads (H a multiple of G).

        On CUDA in half precision by a variable-length kernel, everywhere else by SDPA over neighbours of equal length;
        on CPU short texts of nearly equal length are taken together too.

        Returns:
            [T, H, D].
        """
        varlen = _varlen_kernel() if _kernel_takes(q_THD) else None
        if varlen is not None:
            return varlen(q_THD, k_TGD, v_TGD, self, causal)
        if causal and q_THD.device.type == "cpu":
            groups = _near_groups(self)
            parts = _split((q_THD, k_TGD, v_TGD), [len(group.real) for group in groups])
            return torch.cat([_attend_near(q, k, v, group) for (q, k, v), group in zip(parts, groups, strict=True)])
        heads, runs = q_THD.shape[1], self._runs()
        parts = _split((q_THD, k_TGD, v_TGD), [count * length for count, length in runs])
        return torch.cat(
            [
                _attend(*(_batch(x, run, heads) for x in part), causal=causal).transpose(1, 2).flatten(0, 1)
                for part, run in zip(parts, runs, strict=True)
            ]
        )

    def attend_last(self, q_NHD: Tensor, k_TGD: Tensor, v_TGD: Tensor) -> Tensor:
        """Attention of one query a sequence, its last token, to the whole of that sequence. Returns [N, H, D]."""
        heads, runs = q_NHD.shape[1], self._runs()
        queries = q_NHD.unsqueeze(2).split([count for count, _ in runs])
        parts = _split((k_TGD, v_TGD), [count * length for count, length in runs])
        return torch.cat(
            [
                F.scaled_dot_product_attention(q_NHLD, _batch(k, run, heads), _batch(v, run, heads)).squeeze(2)
                for q_NHLD, (k, v), run in zip(queries, parts, runs, strict=True)
            ]
        )

    def _runs(self) -> list[tuple[int, int]]:
        """(count, length) of neighbours of equal length, which attention can take as one batch."""
        return [(len(list(group)), length) for length, group in groupby(self.lengths)]


def _split(tensors: Sequence[Tensor], sizes: Sequence[int]) -> list[tuple[Tensor, ...]]:
    """The parts of several tensors, side by side.

    Split at once: the gradient of a slice is as large as the whole tensor, with zeros outside of the slice.
    """
    return list(zip(*(x.split(sizes) for x in tensors), strict=True))


class _Group(NamedTuple):
    """Neighbouring sequences that are filled up behind to one length, which causal attention does not see.

    Args:
        slots: int64 [N, L], the group's token in each place; behind a sequence its last token again.
        real: int64 [T], the places of [N * L] that hold the group's tokens.
    """

    slots: Tensor
    real: Tensor


_NEAR = 256
"""Sequences of up to this many tokens are filled up: each call of attention costs about as much as so short a one."""

_MOST_FILLING = 1 / 8
"""Of a group's places."""


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # otherwise the kept tensors could not be used with a graph later
def _near_groups(segments: Segments) -> list[_Group]:
    """Groups of neighbours of equal or, where they are short, nearly equal length. Asked for again by every layer."""
    groups: list[list[int]] = []
    for length in segments.lengths:
        group = groups[-1] if groups else []
        longest = max([*group, length])
        filling = longest * (len(group) + 1) - sum(group) - length
        if group and (filling == 0 or (longest <= _NEAR and filling <= _MOST_FILLING * longest * (len(group) + 1))):
            group.append(length)
        else:
            groups.append([length])
    found = []
    for group in groups:
        lengths = torch.tensor(group)[:, None]
        starts = lengths.cumsum(0) - lengths
        places = torch.arange(max(group))
        slots = starts + places.clamp(max=lengths - 1)
        found.append(_Group(slots, (places < lengths).flatten().nonzero().squeeze(1)))
    return found


def _attend_near(q_THD: Tensor, k_TGD: Tensor, v_TGD: Tensor, group: _Group) -> Tensor:
    """Causal attention of one group of T tokens."""
    count, length = group.slots.shape
    whole = count * length == len(group.real)
    slots = slice(None) if whole else group.slots.flatten()
    filled = (_batch(x[slots], (count, length), q_THD.shape[1]) for x in (q_THD, k_TGD, v_TGD))
    attended = _attend(*filled, causal=True).transpose(1, 2).flatten(0, 1)
    return attended if whole else attended[group.real]


def _attend(q_NHLD: Tensor, k_NHLD: Tensor, v_NHLD: Tensor, *, causal: bool) -> Tensor:
    if q_NHLD.device.type == "cpu" and q_NHLD.dtype == torch.bfloat16:
        # SDPA computes in float32 there; plain products take less time (benchmarks/attention.py), but for short causal
        # ones without a graph.
        if q_NHLD.requires_grad and q_NHLD.shape[2] <= _SHORT:
            return _attend_plainly(q_NHLD, k_NHLD, v_NHLD, causal=causal)
        if not q_NHLD.requires_grad and not causal:
            return _attend_in_blocks(q_NHLD, k_NHLD, v_NHLD)
    return F.scaled_dot_product_attention(q_NHLD, k_NHLD, v_NHLD, is_causal=causal)


_SHORT = 512
"""With a graph up to this many tokens; beyond, the matrix of scores costs more than it saves."""

_BLOCK_ROWS = 512
"""Without a graph, queries of this many tokens at once, so that their scores stay in the processor's cache."""


def _attend_in_blocks(q_NHLD: Tensor, k_NHLD: Tensor, v_NHLD: Tensor) -> Tensor:
    """Plain attention a block of queries at a time: of several short sequences, or a part of a long one."""
    attended = torch.empty_like(q_NHLD)
    length = q_NHLD.shape[2]
    together = max(1, _BLOCK_ROWS // length)
    for one in range(0, len(q_NHLD), together):
        some = slice(one, one + together)
        for first in range(0, length, _BLOCK_ROWS):
            rows = slice(first, first + _BLOCK_ROWS)
            attended[some, :, rows] = _attend_plainly(q_NHLD[some, :, rows], k_NHLD[some], v_NHLD[some], causal=False)
    return attended


def _attend_plainly(q_NHQD: Tensor, k_NHKD: Tensor, v_NHKD: Tensor, *, causal: bool) -> Tensor:
    """Attention by matrix products."""
    scores_NHQK = (q_NHQD * q_NHQD.shape[-1] ** -0.5) @ k_NHKD.transpose(-1, -2)
    if causal:
        later = torch.ones(scores_NHQK.shape[-2:], dtype=torch.bool).triu(1)
        scores_NHQK = scores_NHQK.masked_fill(later, float("-inf"))
    attended: Tensor = scores_NHQK.softmax(-1) @ v_NHKD
    return attended


def _batch(x_TGD: Tensor, run: tuple[int, int], heads: int) -> Tensor:
    """One run of equal sequences as [count, heads, length, D]; key/value heads are repeated to `heads`."""
    x_NHLD: Tensor = x_TGD.unflatten(0, run).transpose(1, 2)
    repeats = heads // x_NHLD.shape[1]
    return x_NHLD if repeats == 1 else x_NHLD.repeat_interleave(repeats, dim=1)


def _kernel_takes(q_THD: Tensor) -> bool:
    """Whether variable-length kernels take this input: half precision, Ampere or newer, heads of up to 256."""
    head_dim = q_THD.shape[-1]
    return (
        q_THD.is_cuda
        and q_THD.dtype in (torch.float16, torch.bfloat16)
        and head_dim % 8 == 0
        and head_dim <= 256
        and torch.cuda.get_device_capability(q_THD.device) >= (8, 0)
    )


_Varlen = Callable[[Tensor, Tensor, Tensor, Segments, bool], Tensor]


@cache
def _varlen_kernel() -> _Varlen | None:
    """flash-attention where it is installed, otherwise torch's variable-length attention; None if there is neither."""
    mask: dict[str, object]
    if of_flash := importlib.util.find_spec("flash_attn") is not None:
        from flash_attn import flash_attn_varlen_func as kernel

        mask = {"causal": True}
    elif importlib.util.find_spec("torch.nn.attention.varlen") is not None:
        from torch.nn.attention.varlen import varlen_attn as kernel

        # `is_causal` of torch 2.10 became `window_size` in 2.11.
        is_newer = "window_size" in inspect.signature(kernel).parameters
        mask = {"window_size": (-1, 0)} if is_newer else {"is_causal": True}
    else:
        return None

    def attend(q: Tensor, k: Tensor, v: Tensor, segments: Segments, causal: bool) -> Tensor:
        borders = torch.tensor((0, *segments.ends), dtype=torch.int32, device=q.device)
        longest = max(segments.lengths)
        # Heads are repeated by hand for torch: 2.10 has no `enable_gqa` here.
        repeats = 1 if of_flash else q.shape[1] // k.shape[1]
        k, v = (x.repeat_interleave(repeats, dim=1) if repeats > 1 else x for x in (k, v))
        attended = kernel(q, k, v, borders, borders, longest, longest, **(mask if causal else {}))
        whole: Tensor = attended if isinstance(attended, Tensor) else attended[0]
        return whole

    return attend
