"""Which matrix products does a Qwen2-VL need for some inputs, without padding?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from vlm2vec.model.families.qwen_inputs import QwenVLInput


class Linear(NamedTuple):
    """[rows, inner] @ [inner, columns], of the language model or the vision tower."""

    part: str
    inner: int
    columns: int


class Attention(NamedTuple):
    """Scores of a sequence with itself, and with them the sum of its values."""

    part: str
    heads: int
    length: int
    dim: int


def operations(config: Any, prepared: Sequence[QwenVLInput]) -> dict[Linear | Attention, float]:
    """Multiplications and additions of each shape.

    In the last layer only what the pooled token needs; of causal attention half the square. Neither norms nor
    activations nor softmax are counted.
    """
    text, vision = config.text_config, config.vision_config
    tokens, count = sum(one.cost for one in prepared), len(prepared)
    patches = sum(grid.num_patches for one in prepared for grid in one.grids)
    found: dict[Linear | Attention, float] = defaultdict(float)

    def linear(part: str, rows: int, inner: int, columns: int, times: int = 1) -> None:
        found[Linear(part, inner, columns)] += 2.0 * rows * inner * columns * times

    hidden, head = text.hidden_size, text.hidden_size // text.num_attention_heads
    full = text.num_hidden_layers - 1
    # The last layer: keys and values of every token, the rest of one token an input.
    for rows, times in ((tokens, full), (count, 1)):
        linear("text", rows, hidden, hidden, 2 * times)
        linear("text", rows, hidden, text.intermediate_size, 2 * times)
        linear("text", rows, text.intermediate_size, hidden, times)
    linear("text", tokens, hidden, text.num_key_value_heads * head, 2 * (full + 1))
    for one in prepared:
        found[Attention("text", text.num_attention_heads, one.cost, head)] += 2.0 * one.cost**2 * hidden * full
    if patches:
        width, merged = vision.embed_dim, 4 * vision.embed_dim
        inner = int(width * vision.mlp_ratio)
        linear("vision", patches, 3 * 2 * 14 * 14, width)
        linear("vision", patches, width, 3 * width, vision.depth)
        linear("vision", patches, width, width, vision.depth)
        linear("vision", patches, width, inner, vision.depth)
        linear("vision", patches, inner, width, vision.depth)
        linear("vision", patches // 4, merged, merged)
        linear("vision", patches // 4, merged, hidden)
        for grid in (grid for one in prepared for grid in one.grids):
            shape = Attention("vision", vision.num_heads, grid.h * grid.w, width // vision.num_heads)
            found[shape] += 4.0 * (grid.h * grid.w) ** 2 * width * vision.depth * grid.t
    return dict(found)
