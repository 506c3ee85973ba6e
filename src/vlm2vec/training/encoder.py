"""How does a pack become vectors with a graph, for one training step?"""

from __future__ import annotations

import torch
from torch import Tensor

from vlm2vec.model.packing import PackedBatch
from vlm2vec.model.qwen_vl import QwenVLBackbone


class StepEncoder:
    """Encodes packs, with a graph, for one step. The features of a frozen vision tower are kept for the second time."""

    def __init__(self, backbone: QwenVLBackbone, device: torch.device, precision: str) -> None:
        self.backbone = backbone
        self.device = device
        self.bfloat16 = precision == "bfloat16"
        self.frozen_vision = not any(p.requires_grad for p in backbone.model.visual.parameters())
        self.features: dict[int, Tensor] = {}

    def __call__(self, chunk: PackedBatch) -> tuple[Tensor, ...]:
        batch = chunk.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            features = None
            if self.frozen_vision and batch.grids:
                if id(chunk) not in self.features:
                    with torch.no_grad():
                        self.features[id(chunk)] = self.backbone.visual_features(batch.patches, batch.grids)
                features = self.features[id(chunk)]
            encoded = self.backbone(batch, features)
        return tuple(part.float() for part in encoded if part is not None)
