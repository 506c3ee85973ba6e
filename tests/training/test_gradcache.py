"""The gradient cache gives the plain gradient, for everything that can be trained and however the batch is cut."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from support.golden_cases import MODEL, SINGLE_IDS, item
from vlm2vec.model.backbone import plan_packs
from vlm2vec.model.checkpoint import Folders, Settings
from vlm2vec.model.families.qwen_inputs import Grid, PackedBatch
from vlm2vec.model.families.qwen_vl import QwenVLBackbone, load
from vlm2vec.model.similarity import normalize
from vlm2vec.training.config import Adapter
from vlm2vec.training.gradcache import GradientCache
from vlm2vec.training.objective import info_nce
from vlm2vec.training.trainee import attach_adapter

CPU = torch.device("cpu")
IDS = [name for name in SINGLE_IDS if len(name) < 60][:12]


ADAPTERS = {
    "full": None,
    "lora": Adapter(rank=4, dropout=0.0, dora=False),
    "lora with dropout": Adapter(rank=4, dropout=0.3, dora=False),
    "dora with dropout": Adapter(rank=4, dropout=0.3, dora=True),
}


def _backbone(adapter: Adapter | None, freeze: bool) -> QwenVLBackbone:
    torch.manual_seed(0)
    settings = Settings(prompt_style="vlm2vec", max_pixels=28 * 28 * 16)
    backbone = load(Folders.find(MODEL), settings, device="cpu", dtype="float32")
    backbone.requires_grad_(True)
    if adapter is not None:
        attach_adapter(backbone.model, adapter)
        for name, parameter in backbone.named_parameters():
            if "lora_B" in name:
                # B starts at zero, where the gradient of A vanishes.
                nn.init.normal_(parameter, std=0.1)
    if freeze:
        backbone.model.visual.requires_grad_(False)
    return backbone.train()


def _sides(backbone: QwenVLBackbone, token_budget: int) -> tuple[list[PackedBatch], list[PackedBatch]]:
    prepared = [backbone.processor.prepare(item(name)) for name in IDS]
    sides = []
    for members in (prepared[:6], prepared[6:]):
        plan = plan_packs([one.cost for one in members], token_budget)
        sides.append([PackedBatch.of([members[i] for i in one]) for one in plan])
    return sides[0], sides[1]


def _step(name: str, token_budget: int | None, *, freeze: bool = False) -> tuple[float, dict[str, Tensor], int]:
    """Loss, gradients and number of packs of a step of that model."""
    backbone = _backbone(ADAPTERS[name], freeze)
    queries, documents = _sides(backbone, 100)
    torch.manual_seed(7)
    loss = GradientCache(backbone, CPU, "float32", token_budget=token_budget).step(
        queries, documents, lambda q, d: info_nce(normalize(q[0]) @ normalize(d[0]).T, temperature=0.1)
    )
    gradients = {name: p.grad for name, p in backbone.named_parameters() if p.requires_grad and p.grad is not None}
    return loss.item(), gradients, len(queries) + len(documents)


_gradients = cache(_step)


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("budget", [1, 250])
def test_chunks_give_the_plain_gradient(name: str, budget: int) -> None:
    loss, plain, _ = _gradients(name, None)
    cached_loss, cached, chunks = _gradients(name, budget)
    assert chunks >= 4
    assert cached_loss == loss
    assert set(cached) == set(plain)
    largest = max(float(gradient.abs().max()) for gradient in plain.values())
    assert largest > 0
    assert max(float((cached[key] - plain[key]).abs().max()) for key in plain) < 1e-5 * largest


def test_dropout_moves_the_gradient_so_that_replaying_it_matters() -> None:
    _, without, _ = _gradients("lora", 1)
    _, dropped, _ = _gradients("lora with dropout", 1)
    key = next(iter(without))
    assert not torch.allclose(without[key], dropped[key], rtol=1e-2)


def test_a_frozen_vision_tower_runs_once_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _, plain, packs = _gradients("full", None)
    calls: list[int] = []
    original = QwenVLBackbone.visual_features

    def counted(self: QwenVLBackbone, patches: Tensor, grids: Sequence[Grid]) -> Tensor:
        calls.append(1)
        return original(self, patches, grids)

    monkeypatch.setattr(QwenVLBackbone, "visual_features", counted)
    _, frozen, _ = _step("full", 1, freeze=True)
    assert 0 < len(calls) <= packs
    largest = max(float(gradient.abs().max()) for gradient in plain.values())
    assert not any(name.startswith("model.visual") for name in frozen)
    assert max(float((frozen[key] - plain[key]).abs().max()) for key in frozen) < 1e-5 * largest


def test_the_random_numbers_of_the_caller_do_not_depend_on_the_chunks() -> None:
    states = []
    for budget in (None, 1):
        _step("lora with dropout", budget)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
