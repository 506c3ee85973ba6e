"""Exactly the parameters that a configuration names are trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Qwen2VLConfig, Qwen2VLModel

from support.golden_cases import qwen
from support.train_files import write_config
from vlm2vec.errors import ConfigError
from vlm2vec.model.checkpoint import Folders, Settings
from vlm2vec.model.embedder import Embedder
from vlm2vec.model.families.qwen_vl import load
from vlm2vec.training.config import Adapter, read_config
from vlm2vec.training.loop import train
from vlm2vec.training.trainee import Trainee, attach_adapter

PUBLISHED_TARGETS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj", "k_proj", "q_proj", "out_proj", "v_proj")


@pytest.fixture(scope="module")
def qwen2_vl_2b() -> Qwen2VLConfig:
    """The shape of Qwen/Qwen2-VL-2B-Instruct, from its config.json."""
    return Qwen2VLConfig(
        text_config={
            "hidden_size": 1536,
            "intermediate_size": 8960,
            "num_hidden_layers": 28,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
            "vocab_size": 151936,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        vision_config={"depth": 32, "embed_dim": 1280, "num_heads": 16, "hidden_size": 1536},
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (PUBLISHED_TARGETS, 9_203_712),
        ((*PUBLISHED_TARGETS, "gate_proj", "up_proj"), 19_109_888),
        (Adapter().targets, 9_203_712),
    ],
)
def test_the_published_adapter_has_the_published_number_of_parameters(
    qwen2_vl_2b: Qwen2VLConfig, targets: tuple[str, ...], expected: int
) -> None:
    with torch.device("meta"):
        model = Qwen2VLModel(qwen2_vl_2b)
        attached = attach_adapter(model, Adapter(targets=targets))
    trained = {name: p.numel() for name, p in attached.named_parameters() if p.requires_grad}
    assert sum(trained.values()) == expected
    assert not any("visual" in name for name in trained)


def _moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def _start(folder: Path) -> dict[str, torch.Tensor]:
    """Parameters as a run of the default configuration begins with them, in half precision as they are stored."""
    config = read_config(write_config(folder))
    torch.manual_seed(config.seed)
    return {name: parameter.half() for name, parameter in Trainee.build(config).backbone.named_parameters()}


@pytest.mark.slow
def test_full_training_moves_every_parameter_that_the_inputs_reach(folder: Path) -> None:
    before = _start(folder)
    train(read_config(write_config(folder, steps=6, weight_decay=0.0)))
    after = qwen(Embedder.load(folder / "out", device="cpu", dtype="float16")).state_dict()
    assert _moved(before, after) == set(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("freeze", "fixed"),
    [
        (["visual"], "model.visual."),
        (["language_model"], "model.language_model."),
        (["embed_tokens"], "model.language_model.embed_tokens."),
    ],
)
def test_a_frozen_part_does_not_move_and_the_rest_does(folder: Path, freeze: list[str], fixed: str) -> None:
    before = _start(folder)
    train(read_config(write_config(folder, steps=6, freeze=freeze)))
    after = qwen(Embedder.load(folder / "out", device="cpu", dtype="float16")).state_dict()
    assert _moved(before, after) == {name for name in before if not name.startswith(fixed)}


@pytest.mark.slow
@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_moves_and_its_base_does_not(folder: Path, dora: bool) -> None:
    train(read_config(write_config(folder, out="base", steps=1)))
    adapter = {"rank": 2, "dora": dora, "targets": ["q_proj", "down_proj"]}
    changes = {"init": "base", "scratch": None, "adapter": adapter}
    config = read_config(write_config(folder, steps=4, **changes))
    trainee = Trainee.build(config)
    assert trainee.attached is not None
    kinds = {name.rpartition("lora_")[2].partition(".")[0] for name in trainee.trained_counts()}
    assert kinds == ({"A", "B", "magnitude_vector"} if dora else {"A", "B"})
    train(config)
    folders = Folders.find(folder / "out")
    assert folders.base == folder / "base"
    settings = Settings()
    # In half precision the adapter stays beside its base.
    backbone = load(folders, settings, device="cpu", dtype="float16")
    base = load(Folders.find(folder / "base"), settings, device="cpu", dtype="float16")
    weights = {name.replace(".base_layer", ""): tensor for name, tensor in backbone.state_dict().items()}
    assert _moved(base.state_dict(), weights) == set()
    trained = {name: tensor for name, tensor in weights.items() if "lora_B" in name}
    assert len(trained) == 4
    assert all(tensor.abs().max() > 0 for tensor in trained.values())


@pytest.mark.slow
def test_targets_that_hit_nothing_are_named(folder: Path) -> None:
    train(read_config(write_config(folder, out="base", steps=1)))
    config = read_config(write_config(folder, init="base", scratch=None, adapter={"targets": ["qkv_projection"]}))
    with pytest.raises(ConfigError, match=r"adapter.targets \['qkv_projection'\]"):
        train(config)


@pytest.mark.slow
def test_an_adapter_on_an_adapter_is_refused(folder: Path) -> None:
    train(read_config(write_config(folder, out="base", steps=1)))
    changes: dict[str, object] = {"scratch": None, "adapter": {"rank": 2}, "steps": 1}
    train(read_config(write_config(folder, out="first", init="base", **changes)))
    with pytest.raises(ConfigError, match="first is an adapter; put a new one on its base, or leave out 'adapter'"):
        train(read_config(write_config(folder, out="second", init="first", **changes)))
