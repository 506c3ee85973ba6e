"""How do the pretrained parts see a picture and read a text? EfficientNet-Lite0's features, and MiniLM-L6's vectors."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from fetch import UNPACKED
from numpy.typing import NDArray
from PIL import Image as PILImage
from torch.nn import functional as F

SIDE_PX = 224

Vectors = NDArray[np.float32]

_models: dict[str, object] = {}


def look_at(pictures: Sequence[PILImage.Image]) -> Vectors:
    """EfficientNet-Lite0's pooled features [N, 1280]."""
    if "pictures" not in _models:
        sys.path.insert(0, str(UNPACKED / "efficientnet-code"))
        from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]

        network = EfficientNet.from_name("efficientnet-lite0")
        [weights] = (UNPACKED / "efficientnet").rglob("*.pth")
        network.load_state_dict(torch.load(weights, weights_only=True))
        _models["pictures"] = network.eval().bfloat16().to(memory_format=torch.channels_last)
    squares = [one.convert("RGB").resize((SIDE_PX, SIDE_PX), PILImage.Resampling.BICUBIC) for one in pictures]
    # The range that its weights were trained with.
    pixels = ((torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() - 127) / 128).bfloat16()
    with torch.inference_mode():
        features = _models["pictures"].extract_features(pixels.contiguous(memory_format=torch.channels_last))  # type: ignore[attr-defined]
        return features.float().mean((2, 3)).numpy()  # type: ignore[no-any-return]


def read(texts: Sequence[str]) -> Vectors:
    """MiniLM's mean over the tokens [N, 384], of length one."""
    if "words" not in _models:
        from transformers import AutoModel, AutoTokenizer

        folder = UNPACKED / "minilm" / "model"
        _models["words"] = (AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval().bfloat16())
    tokenizer, model = _models["words"]  # type: ignore[misc]
    batch = tokenizer(list(texts), padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.inference_mode():
        states = model(**batch).last_hidden_state.float()
    mask = batch["attention_mask"].unsqueeze(-1)
    return F.normalize((states * mask).sum(1) / mask.sum(1), dim=1).numpy()  # type: ignore[no-any-return]
