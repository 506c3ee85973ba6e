"""Attention inside packs, and MLPs in pieces of rows: what the plain modules give, to rounding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2MLP, VisionMlp

from support.golden_cases import qwen
from vlm2vec.items import Item
from vlm2vec.model.attention import Segments, _near_groups
from vlm2vec.model.embedder import Embedder
from vlm2vec.model.families.qwen_vl import _feed_forward


def test_runs_join_neighbours_of_equal_length() -> None:
    assert Segments((4, 4, 2, 4))._runs() == [(2, 4), (1, 2), (1, 4)]


def _reference(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: tuple[int, ...]) -> torch.Tensor:
    """Causal attention over the whole pack under a block-diagonal mask, heads repeated."""
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    allowed = (owner[:, None] == owner[None, :]) & torch.ones(len(owner), len(owner), dtype=torch.bool).tril()
    q, k, v = (x.transpose(0, 1) for x in (q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(0, 1)


@pytest.mark.parametrize("lengths", [(3, 3, 1, 5, 3), (30, 29, 29, 27, 3, 2), (300, 299, 12, 11)])
@pytest.mark.parametrize("with_graph", [False, True])
def test_packed_attention_is_attention_under_a_block_mask(lengths: tuple[int, ...], with_graph: bool) -> None:
    total = sum(lengths)
    torch.manual_seed(0)
    q, k, v = (torch.randn(total, heads, 8, requires_grad=with_graph) for heads in (4, 2, 2))
    expected = _reference(q, k, v, lengths)
    torch.testing.assert_close(Segments(lengths).attend(q, k, v, causal=True), expected)
    last = torch.tensor(Segments(lengths).ends) - 1
    torch.testing.assert_close(Segments(lengths).attend_last(q[last], k, v), expected[last])


def test_groups_made_without_a_graph_serve_one_with_a_graph_too() -> None:
    segments = Segments((7, 6, 5))
    q, k, v = (torch.randn(18, heads, 8, requires_grad=True) for heads in (4, 2, 2))
    with torch.inference_mode():
        segments.attend(q, k, v, causal=True)
    segments.attend(q, k, v, causal=True).sum().backward()
    assert q.grad is not None


def test_neighbours_of_nearly_equal_length_are_attended_to_together() -> None:
    groups = _near_groups(Segments((30, 29, 28, 8, 300, 299)))
    assert [tuple(group.slots.shape) for group in groups] == [(3, 30), (1, 8), (1, 300), (1, 299)]
    assert groups[0].slots[1, -2:].tolist() == [58, 58]
    assert [len(group.real) for group in groups] == [87, 8, 300, 299]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", [(600, 600), (40, 40, 40), (1100,)])
def test_attention_to_everything_in_blocks_is_plain_attention(lengths: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(sum(lengths), 2, 16, dtype=dtype) for _ in range(3))
    expected = [
        F.scaled_dot_product_attention(*(x.transpose(0, 1).float() for x in part)).transpose(0, 1)
        for part in zip(*(x.split(lengths) for x in (q, k, v)), strict=True)
    ]
    found = Segments(lengths).attend(q, k, v, causal=False)
    torch.testing.assert_close(
        found.float(), torch.cat(expected), rtol=0, atol=1e-5 if dtype == torch.float32 else 2e-2
    )


def test_under_autocast_attention_gets_what_projections_give(own: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()

    def watched(name: str) -> Callable[..., torch.Tensor]:
        attention = getattr(Segments, name)

        def attend(
            segments: Segments, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: bool
        ) -> torch.Tensor:
            seen.add((name, q.dtype, k.dtype, v.dtype))
            attended: torch.Tensor = attention(segments, q, k, v, **options)
            return attended

        return attend

    for name in ("attend", "attend_last"):
        monkeypatch.setattr(Segments, name, watched(name))
    backbone = qwen(own)
    batch = backbone.pack([backbone.processor.prepare(Item("two words"))])
    # In float32 no kernel for sequences of many lengths takes them on a GPU, and on a CPU attention is slower.
    with torch.autocast("cpu", torch.bfloat16):
        backbone(batch)
    assert seen == {(name, *(torch.bfloat16,) * 3) for name in ("attend", "attend_last")}


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu", "silu"])
@pytest.mark.parametrize("rows", [1, 300])
def test_pieces_give_what_the_whole_mlp_gives(activation: str, rows: int) -> None:
    torch.manual_seed(0)
    config = Qwen2VLTextConfig(hidden_size=24, intermediate_size=40, hidden_act=activation)
    for mlp in (VisionMlp(24, 40, activation), Qwen2MLP(config)):
        x = torch.randn(rows, 24)
        expected = mlp(x)
        untouched = x.clone()
        with torch.inference_mode():
            found = _feed_forward(mlp, x, piece_bytes=1)
        torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-6)
        assert torch.equal(x, untouched)


def test_with_a_graph_the_mlp_stays_whole() -> None:
    torch.manual_seed(0)
    mlp = VisionMlp(8, 16, "quick_gelu")
    x = torch.randn(5, 8, requires_grad=True)
    _feed_forward(mlp, x).sum().backward()
    mine = x.grad
    x.grad = None
    mlp(x).sum().backward()
    assert mine is not None
    torch.testing.assert_close(mine, x.grad, rtol=0, atol=0)
