"""An adapter's patterns hold as peft applies them on the generation class, whose names they were written for."""

from __future__ import annotations

import copy
import json
import re
import shutil
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from support.golden_cases import GOLDEN, MODEL, item, load_tiny, qwen
from support.places import DATA
from vlm2vec.errors import AdapterError
from vlm2vec.model.adapters import load_adapter
from vlm2vec.model.families.qwen_vl import _NAMINGS, _OLD_NAMES
from vlm2vec.model.loading import no_progress_bar

if TYPE_CHECKING:
    from transformers import Qwen2VLForConditionalGeneration

ADAPTERS = DATA / "adapters"
DECODER = r"model\.language_model\.layers\.\d+\.self_attn"
BOTH = ["q_proj", "v_proj"]

FORMS: dict[str, dict[str, object]] = {
    "a list of endings": {"target_modules": BOTH},
    "full names": {"target_modules": ["model.language_model.layers.1.self_attn.q_proj", "model.visual.merger.mlp.0"]},
    "an ending with layers": {"target_modules": ["layers.1.self_attn.q_proj", "blocks.0.attn.qkv"]},
    "a regex from the top on": {"target_modules": rf"^({DECODER}\.(q_proj|o_proj))$"},
    "a regex with a look-ahead": {"target_modules": r"^(model\.language_model(?=\.).*\.(q_proj|v_proj|o_proj))$"},
    "a regex over both towers": {"target_modules": r"^model\.(language_model|visual)\..*(q_proj|attn\.qkv|fc1)$"},
    "a regex that also meets the head": {"target_modules": r".*(q_proj|lm_head)"},
    "all linear": {"target_modules": "all-linear"},
    "all linear but a regex": {"target_modules": "all-linear", "exclude_modules": r"model\.visual.*"},
    "all linear but some": {"target_modules": "all-linear", "exclude_modules": ["q_proj", "merger.mlp.0"]},
    "a full name left out": {
        "target_modules": BOTH,
        "exclude_modules": ["model.language_model.layers.2.self_attn.v_proj"],
    },
    "a module that is no target left out": {"target_modules": BOTH, "exclude_modules": ["visual"]},
    "some layers": {"target_modules": BOTH, "layers_to_transform": [0, 2]},
    "one layer of a pattern": {
        "target_modules": ["q_proj", "fc2"],
        "layers_to_transform": 1,
        "layers_pattern": "layers",
    },
    "ranks": {"target_modules": BOTH, "rank_pattern": {"q_proj": 2, "layers.1.self_attn.v_proj": 3}},
    "a rank by regex": {"target_modules": BOTH, "rank_pattern": {rf"^{DECODER}\.q_proj": 2}},
    "alphas by regex": {"target_modules": BOTH, "alpha_pattern": {rf"{DECODER}\.q_proj": 64}},
    "alphas by anchored regex": {"target_modules": BOTH, "alpha_pattern": {rf"^{DECODER}\.q_proj$": 64}},
    "an alpha by full name": {
        "target_modules": BOTH,
        "alpha_pattern": {"model.language_model.layers.2.self_attn.v_proj": 64},
    },
    "an alpha by ending": {"target_modules": BOTH, "alpha_pattern": {r"[12]\.self_attn\.v_proj": 64}},
    "an alpha for what is no target": {"target_modules": BOTH, "alpha_pattern": {"down_proj": 64, "q_proj": 5}},
    "square roots": {"target_modules": BOTH, "use_rslora": True, "alpha_pattern": {f"{DECODER}.v_proj": 3}},
    "DoRA with both patterns": {
        "target_modules": BOTH,
        "use_dora": True,
        "rank_pattern": {f"{DECODER}.v_proj": 2},
        "alpha_pattern": {"model.language_model.layers.0.self_attn.q_proj": 64},
    },
    "a bias of its own": {"target_modules": BOTH, "lora_bias": True},
    "biases of targets": {"target_modules": ["q_proj", "fc1"], "bias": "lora_only"},
    "a task": {"target_modules": BOTH, "task_type": "CAUSAL_LM"},
    "the head": {"target_modules": ["q_proj", "lm_head"], "alpha_pattern": {"lm_head": 3}},
    "the head saved": {"target_modules": BOTH, "modules_to_save": ["lm_head"]},
    "embeddings saved": {"target_modules": BOTH, "modules_to_save": ["embed_tokens"]},
    "embeddings and head saved as one": {
        "target_modules": BOTH,
        "modules_to_save": ["embed_tokens"],
        "ensure_weight_tying": True,
    },
    "norms and the merger saved": {
        "target_modules": ["mlp.down_proj"],
        "modules_to_save": ["model.language_model.norm", "input_layernorm", "merger"],
    },
    "the vision tower saved": {"target_modules": BOTH, "modules_to_save": ["visual"]},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
    "some tokens": {"target_modules": BOTH, "trainable_token_indices": [3, 5]},
    "PiSSA": {"target_modules": BOTH, "init_lora_weights": "pissa", "alpha_pattern": {f"{DECODER}.q_proj": 2}},
    "OLoRA": {"target_modules": BOTH, "init_lora_weights": "olora"},
    "gaussian": {"target_modules": BOTH, "init_lora_weights": "gaussian"},
    "orthogonal": {"target_modules": BOTH, "init_lora_weights": "orthogonal"},
    "EVA": {"target_modules": BOTH, "init_lora_weights": "eva"},
}


@cache
def _loaded() -> Qwen2VLForConditionalGeneration:
    from transformers import Qwen2VLForConditionalGeneration

    with no_progress_bar():
        return Qwen2VLForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32)


def _whole() -> Qwen2VLForConditionalGeneration:
    """A fresh copy of the golden model's generation class."""
    return copy.deepcopy(_loaded())


def _save(folder: Path, arguments: dict[str, object]) -> None:
    """An adapter on the generation class, as if trained: every tensor moved."""
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        config = LoraConfig(**({"r": 4, "lora_alpha": 8} | arguments))
        attached = get_peft_model(_whole(), config)
        for parameter in attached.parameters():
            if parameter.requires_grad:
                parameter.data += 0.05 * torch.randn(parameter.shape)
        attached.save_pretrained(str(folder))


def _merged_by_peft(folder: Path) -> dict[str, Tensor]:
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = _whole()
        # Merged into tied weights, an adapter of the head would change the embeddings, which it never did in training.
        whole.lm_head.weight = torch.nn.Parameter(whole.lm_head.weight.detach().clone())
        merged = PeftModel.from_pretrained(whole, str(folder)).merge_and_unload()
    return dict(merged.model.state_dict())


def _assert_loads_as(folder: Path, expected: dict[str, Tensor]) -> None:
    base = copy.deepcopy(_loaded().model)
    got = load_adapter(base, folder, _NAMINGS, _OLD_NAMES, merged=True).state_dict()
    assert got.keys() == expected.keys()
    for name, tensor in got.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("form", FORMS)
def test_an_adapter_is_merged_as_peft_merges_it_on_the_generation_class(tmp_path: Path, form: str) -> None:
    _save(tmp_path, FORMS[form])
    expected = _merged_by_peft(tmp_path)
    _assert_loads_as(tmp_path, expected)
    plain = _loaded().model.state_dict()
    assert any(not torch.equal(tensor, plain[name]) for name, tensor in expected.items())


# --- names of earlier releases

RENAMED = {
    "the generation class of Transformers 4": {"model.language_model.": "model.", "model.visual.": "visual."},
    "the model alone": {"model.language_model.": "language_model.", "model.visual.": "visual."},
}


def _renamed(text: str, naming: str) -> str:
    """A name or regex with every name of a tower in another naming."""
    for name, other in RENAMED[naming].items():
        text = text.replace(name, other).replace(re.escape(name), re.escape(other))
    return text


@pytest.mark.parametrize("what", ["tensors and patterns", "patterns", "tensors"])
@pytest.mark.parametrize("naming", RENAMED)
def test_names_of_every_release_mean_the_same_modules(tmp_path: Path, naming: str, what: str) -> None:
    _save(
        tmp_path,
        {
            "target_modules": r"^model\.language_model\..*(q_proj|v_proj)$|^model\.visual\.blocks\.\d\.attn\.qkv$",
            "exclude_modules": r"model\.language_model\.layers\.2\..*",
            "alpha_pattern": {rf"^{DECODER}\.q_proj$": 64, "model.visual.blocks.1.attn.qkv": 5},
            "rank_pattern": {r"^model\.visual\.blocks\.0\.attn\.qkv": 2},
            "modules_to_save": ["model.language_model.norm"],
        },
    )
    expected = _merged_by_peft(tmp_path)
    if "patterns" in what:
        config = tmp_path / "adapter_config.json"
        values = json.loads(config.read_text())
        for field in ("target_modules", "exclude_modules"):
            values[field] = _renamed(values[field], naming)
        values["modules_to_save"] = [_renamed(name, naming) for name in values["modules_to_save"]]
        for field in ("alpha_pattern", "rank_pattern"):
            values[field] = {_renamed(pattern, naming): value for pattern, value in values[field].items()}
        config.write_text(json.dumps(values))
    if "tensors" in what:
        weights = tmp_path / "adapter_model.safetensors"
        save_file({_renamed(key, naming): tensor for key, tensor in load_file(weights).items()}, weights)
    _assert_loads_as(tmp_path, expected)


@pytest.mark.parametrize("name", ["alpha_regex", "target_regex"])
def test_vectors_of_an_adapter_are_the_states_that_peft_computes(name: str) -> None:
    from peft import PeftModel

    embedder = load_tiny(ADAPTERS / name, base=MODEL)
    ids = torch.tensor([qwen(embedder).processor.tokenizer.encode("A cat and a dog")])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        whole = PeftModel.from_pretrained(_whole(), str(ADAPTERS / name)).eval().base_model.model
        states = whole.model(input_ids=ids, position_ids=torch.arange(ids.shape[1]).expand(3, 1, -1))
    expected = states.last_hidden_state[0, -1].numpy()
    got = embedder.encode("A cat and a dog", normalize_embeddings=False)
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5)
    assert np.abs(got - load_tiny().encode("A cat and a dog", normalize_embeddings=False)).max() > 0.1


@pytest.mark.parametrize("naming", [None, *RENAMED])
def test_modules_that_an_adapter_replaces_act_in_half_precision_too(tmp_path: Path, naming: str | None) -> None:
    _save(tmp_path, {"target_modules": ["q_proj", "fc1"], "modules_to_save": ["visual", "norm"]})
    if naming is not None:
        weights = tmp_path / "adapter_model.safetensors"
        save_file({_renamed(key, naming): tensor for key, tensor in load_file(weights).items()}, weights)
    exact, half = (
        load_tiny(tmp_path, base=MODEL, dtype=dtype).encode(item("img_2")) for dtype in ("float32", "bfloat16")
    )
    np.testing.assert_allclose(half, exact, rtol=0, atol=2e-2)
    assert np.abs(exact - load_tiny().encode(item("img_2"))).max() > 0.1


# --- refused


def _changed(folder: Path, **values: object) -> Path:
    """The golden adapter with other values in its configuration."""
    shutil.copytree(GOLDEN / "lora", folder)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | values))
    return folder


@pytest.mark.parametrize(
    ("field", "value", "pattern"),
    [
        ("alpha_pattern", {"q_proj": 8, r"model\.decoder\..*": 64}, r"'model\\.decoder\\..*'"),
        ("alpha_pattern", {"roj": 8}, "'roj'"),
        ("rank_pattern", {"layers.9.self_attn.q_proj": 4}, "'layers.9.self_attn.q_proj'"),
        ("target_modules", "q_proj", "'q_proj'"),
        ("target_modules", ["q", "qproj"], "'q, qproj'"),
        ("exclude_modules", r".*vision_tower.*", "'.*vision_tower.*'"),
        ("exclude_modules", ["vision_tower", "lm"], "'lm, vision_tower'"),
        ("modules_to_save", ["norm", "classifier"], "'classifier'"),
    ],
)
def test_a_pattern_that_matches_no_module_is_an_error(tmp_path: Path, field: str, value: object, pattern: str) -> None:
    folder = _changed(tmp_path / "lora", **{field: value})
    message = (
        f"{folder}: {field} in adapter_config.json has {pattern}, which matches no module of the base by peft's rules; "
        "names are such as visual.blocks.0.attn.qkv, lm_head."
    )
    with pytest.raises(AdapterError, match=re.escape(message)):
        load_tiny(folder, base=MODEL)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("alpha_pattern", {"(": 64}, "has a malformed pattern in adapter_config.json"),
        ("target_modules", "*", "has a malformed pattern in adapter_config.json"),
        ("alpha_pattern", ["q_proj"], "does not fit its base"),
        ("target_modules", 7, "has a malformed pattern in adapter_config.json"),
        ("target_modules", None, "does not fit its base"),
        ("r", "four", "does not fit its base"),
        ("r", 0, "does not fit its base"),
        ("megatron_config", {"x": 1}, "does not fit its base"),
        ("lora_alpha", None, "does not fit its base"),
        ("layers_to_transform", [7], "does not fit its base"),
        ("modules_to_save", ["norm"], "7 modules got no tensor"),
        *(
            ("init_lora_weights", start, f"init_lora_weights={start!r}")
            for start in ("pissa_niter_4", "PiSSA_niter_16")
        ),
        *(("init_lora_weights", start, f"init_lora_weights={start!r}") for start in ("corda", "loftq", "lora_ga", 3)),
        ("alora_invocation_tokens", [1, 2], "uses alora_invocation_tokens=[1, 2]"),
        ("layer_replication", [[0, 2], [1, 3]], "uses layer_replication=[[0, 2], [1, 3]]"),
    ],
)
def test_a_configuration_that_cannot_be_followed_is_an_error(
    tmp_path: Path, field: str, value: object, message: str
) -> None:
    with pytest.raises(AdapterError, match=re.escape(message)):
        load_tiny(_changed(tmp_path / "lora", **{field: value}), base=MODEL)


def test_an_adapter_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    folder = _changed(tmp_path / "lora")
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors["base_model.model.model.layers.0.mlp.down_proj.lora_B.weight"][0] = torch.nan
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match="the adapter cannot be merged: NaNs detected"):
        load_tiny(folder, base=MODEL)


def test_loading_draws_nothing_from_the_callers_random_numbers() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, second = (load_tiny(GOLDEN / "lora", base=MODEL).encode("a cat") for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), before)
