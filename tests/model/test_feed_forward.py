"""MLPs in pieces of rows: the plain MLP, to the bit of rounding."""

from __future__ import annotations

import pytest
import torch
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2MLP, VisionMlp

from vlm2vec.model.feed_forward import gated_mlp, vision_mlp


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu", "silu"])
@pytest.mark.parametrize("rows", [1, 300])
def test_pieces_give_what_the_whole_mlp_gives(activation: str, rows: int) -> None:
    torch.manual_seed(0)
    config = Qwen2VLTextConfig(hidden_size=24, intermediate_size=40, hidden_act=activation)
    for mlp, in_pieces in ((VisionMlp(24, 40, activation), vision_mlp), (Qwen2MLP(config), gated_mlp)):
        x = torch.randn(rows, 24)
        expected = mlp(x)
        untouched = x.clone()
        with torch.inference_mode():
            found = in_pieces(mlp, x, piece_bytes=1)
        torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-6)
        assert torch.equal(x, untouched)


def test_with_a_graph_the_mlp_stays_whole() -> None:
    torch.manual_seed(0)
    mlp = VisionMlp(8, 16, "quick_gelu")
    x = torch.randn(5, 8, requires_grad=True)
    vision_mlp(mlp, x).sum().backward()
    mine = x.grad
    x.grad = None
    mlp(x).sum().backward()
    assert mine is not None
    assert torch.equal(mine, x.grad)
