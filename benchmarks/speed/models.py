"""Which models are timed? Qwen2-VL of two shapes with random weights, made from a seed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from size import sized
from transformers import Qwen2VLConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel

_TINY = Path(__file__).parents[2] / "src" / "vlm2vec" / "tiny"


class Shape(NamedTuple):
    """Widths and depths of a Qwen2-VL."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int
    vision_width: int
    vision_depth: int
    vision_heads: int
    vocabulary: int


_TOY = Shape(64, 2, 2, 1, 64, 64, 1, 2, 8192)

SHAPES = {
    # That of the bundled model.
    "small": sized(Shape(256, 4, 4, 2, 768, 192, 6, 3, 8192), _TOY),
    # A third of Qwen2-VL-2B's width and depth, with its vocabulary.
    "large": sized(Shape(512, 10, 8, 2, 2816, 448, 10, 7, 151_936), _TOY),
}


def build_model(size: str, folder: Path) -> Path:
    """Write a model with random weights (seed 0) and the bundled tokenizer; last-token pooling, 1-D positions."""
    shape = SHAPES[size]
    head = shape.hidden // shape.heads
    sections = [head // 8, 3 * head // 16, 3 * head // 16]
    bundled = json.loads((_TINY / "config.json").read_text())
    config = Qwen2VLConfig(
        text_config={
            **bundled["text_config"],
            "hidden_size": shape.hidden,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "intermediate_size": shape.mlp,
            "vocab_size": shape.vocabulary,
            "layer_types": ["full_attention"] * shape.layers,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections},
        },
        vision_config={
            **bundled["vision_config"],
            "embed_dim": shape.vision_width,
            "depth": shape.vision_depth,
            "num_heads": shape.vision_heads,
            "hidden_size": shape.hidden,
        },
        **{key: value for key, value in bundled.items() if key.endswith("_token_id")},
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = Qwen2VLModel(config)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(_TINY / name, folder)
    settings: dict[str, Any] = {"prompt_style": "vlm2vec", "pooling": "last"}
    (folder / "vlm2vec.json").write_text(json.dumps(settings))
    return folder
