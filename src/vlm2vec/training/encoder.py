"""How does a pack become vectors with a graph, for one training step?"""

from __future__ import annotations

import torch
from torch import Tensor

from vlm2vec.model.backbone import Trainable
from vlm2vec.model.families.qwen_inputs import PackedBatch, QwenVLInput


class StepEncoder:
    """Encodes packs, with a graph, for one step.

    Args:
        keep_features: those that frozen parts make of a pack are kept for the second time.
    """

    def __init__(
        self,
        backbone: Trainable[QwenVLInput, PackedBatch],
        device: torch.device,
        precision: str,
        *,
        keep_features: bool = True,
    ) -> None:
        self.backbone = backbone
        self.device = device
        self.bfloat16 = precision == "bfloat16"
        self.keep_features = keep_features
        self.features: dict[int, Tensor | None] = {}

    def __call__(self, chunk: PackedBatch) -> tuple[Tensor, ...]:
        batch = chunk.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            if self.keep_features and id(chunk) not in self.features:
                self.features[id(chunk)] = self.backbone.frozen_features(batch)
            encoded = self.backbone(batch, self.features.get(id(chunk)))
        return tuple(part.float() for part in encoded if part is not None)
