"""Sequences laid end to end instead of padded: the packs that a model of torch computes at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vlm2vec.model.attention import Segments
from vlm2vec.model.vision import Grid

if TYPE_CHECKING:
    from vlm2vec.model.families.qwen_inputs import QwenVLInput


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Several inputs laid end to end. T tokens, N sequences, P patches, V visual tokens.

    Args:
        input_ids: int64 [T].
        positions: int64 [3, T].
        segments: lengths of the N sequences.
        visual_at: int64 [V], the rows of [T] that the visual features replace.
        patches: uint8 [P, 1176], normalised only on the device.
        grids: one for each medium.
    """

    input_ids: Tensor
    positions: Tensor
    segments: Segments
    visual_at: Tensor
    patches: Tensor
    grids: tuple[Grid, ...]

    @property
    def num_tokens(self) -> int:
        return len(self.input_ids)

    def to(self, device: torch.device) -> PackedBatch:
        """The same on a device. A copy to a GPU runs beside the caller, in order with its launches."""

        def moved(x: Tensor) -> Tensor:
            # From other than pinned memory the copy would wait for the GPU.
            return (x.pin_memory() if device.type == "cuda" and not x.is_cuda else x).to(device, non_blocking=True)

        return replace(
            self,
            input_ids=moved(self.input_ids),
            positions=moved(self.positions),
            visual_at=moved(self.visual_at),
            patches=moved(self.patches),
        )


def pack(prepared: Sequence[QwenVLInput]) -> PackedBatch:
    """Lay inputs end to end, in the order given."""
    starts = np.cumsum([0] + [one.cost for one in prepared[:-1]])
    return PackedBatch(
        input_ids=torch.from_numpy(np.concatenate([one.input_ids for one in prepared])),
        positions=torch.from_numpy(np.concatenate([one.positions for one in prepared], axis=1)),
        segments=Segments(tuple(one.cost for one in prepared)),
        visual_at=torch.from_numpy(
            np.concatenate([one.visual_at + start for one, start in zip(prepared, starts, strict=True)])
        ),
        patches=torch.from_numpy(np.concatenate([one.patches for one in prepared])),
        grids=tuple(grid for one in prepared for grid in one.grids),
    )
