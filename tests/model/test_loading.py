"""Which checkpoints and adapters are loaded, from where, and which are refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from support.golden_cases import ADAPTER_IDS, EMBEDDINGS, GOLDEN, MODEL, SINGLE_IDS, item, load_tiny, qwen
from vlm2vec.errors import AdapterError, HubError, ModelError
from vlm2vec.model.embedder import Embedder

# --- adapters


@pytest.mark.parametrize(
    "prefix", ["base_model.model.model.language_model.layers", "base_model.model.language_model.layers"]
)
def test_adapter_keys_of_newer_naming_find_their_modules(tmp_path: Path, prefix: str) -> None:
    folder = Path(shutil.copytree(GOLDEN / "lora", tmp_path / "lora"))
    tensors = load_file(folder / "adapter_model.safetensors")
    renamed = {key.replace("base_model.model.model.layers", prefix): value for key, value in tensors.items()}
    save_file(renamed, folder / "adapter_model.safetensors")
    expected = load_tiny(GOLDEN / "lora", base=MODEL).encode("a cat")
    np.testing.assert_array_equal(load_tiny(folder, base=MODEL).encode("a cat"), expected)


@pytest.mark.parametrize("layers", ["model.layers", "model.language_model.layers", "language_model.layers"])
def test_patterns_of_an_adapter_hold_under_every_naming(tmp_path: Path, layers: str) -> None:
    folder = Path(shutil.copytree(GOLDEN / "lora", tmp_path / "lora"))
    config = json.loads((folder / "adapter_config.json").read_text())
    pattern = {f"{layers}.0.self_attn.v_proj": 160}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"alpha_pattern": pattern}))
    plain, patterned = load_tiny(GOLDEN / "lora", base=MODEL), load_tiny(folder, base=MODEL)
    layer = [qwen(embedder).model.language_model.layers for embedder in (plain, patterned)]
    assert not torch.equal(layer[0][0].self_attn.v_proj.weight, layer[1][0].self_attn.v_proj.weight)
    assert torch.equal(layer[0][1].self_attn.v_proj.weight, layer[1][1].self_attn.v_proj.weight)


@pytest.mark.parametrize("adapter", [None, GOLDEN / "lora"])
def test_rotary_frequencies_are_not_rounded_with_the_weights(adapter: Path | None) -> None:
    exact, rounded = (
        qwen(Embedder.load(MODEL, adapter=adapter, prompt_style="vlm2vec", dtype=dtype, device="cpu")).model
        for dtype in ("float32", "bfloat16")
    )
    for one, other in (
        (exact.language_model.rotary_emb, rounded.language_model.rotary_emb),
        (exact.visual.rotary_pos_emb, rounded.visual.rotary_pos_emb),
    ):
        assert other.inv_freq.dtype == torch.float32
        assert torch.equal(one.inv_freq, other.inv_freq)
    assert {parameter.dtype for parameter in rounded.parameters()} == {torch.bfloat16}


# peft still reads a name that transformers has renamed.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_on_the_patch_projection_acts_in_every_dtype(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = qwen(load_tiny()).model
    attached = get_peft_model(base, LoraConfig(r=4, target_modules=["patch_embed.proj"], init_lora_weights=False))
    attached.save_pretrained(tmp_path)
    single = load_tiny(tmp_path, base=MODEL).encode(item("img_2"))
    half = load_tiny(tmp_path, base=MODEL, dtype="bfloat16").encode(item("img_2"))
    np.testing.assert_allclose(half, single, rtol=0, atol=2e-2)
    assert np.abs(single - EMBEDDINGS["single"][SINGLE_IDS.index("img_2")]).max() > 0.05


def test_an_adapter_tensor_without_a_place_is_an_error_that_names_it(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN / "lora", tmp_path / "lora"))
    tensors = load_file(folder / "adapter_model.safetensors")
    renamed = {key.replace(".layers.2.", ".layers.7."): value for key, value in tensors.items()}
    save_file(renamed, folder / "adapter_model.safetensors")
    stray = "base_model.model.language_model.layers.7.mlp.down_proj.lora_A.weight"
    with pytest.raises(AdapterError, match=re.escape(f"14 of 42 tensors found no module in the base ({stray}")):
        load_tiny(folder, base=MODEL)


def test_an_adapter_of_another_shape_is_an_error(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN / "lora", tmp_path / "lora"))
    tensors = load_file(folder / "adapter_model.safetensors")
    key = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"
    save_file(tensors | {key: torch.zeros(4, 9)}, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match="does not fit its base"):
        load_tiny(folder, base=MODEL)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (GOLDEN / "lora", {}, f"base model of {GOLDEN / 'lora'}: no checkpoint folder tiny-qwen2vl"),
        (GOLDEN / "lora", {"adapter": GOLDEN / "dora"}, "is itself an adapter"),
        (MODEL, {"base": MODEL}, "is a whole model, so base="),
        (MODEL, {"adapter": MODEL}, "holds no adapter_config.json"),
        (Path("nowhere"), {}, "no checkpoint folder nowhere"),
        ("nobody/nothing", {}, "nobody/nothing is not in the hub cache and could not be fetched"),
    ],
)
def test_a_model_that_cannot_be_found_says_why(name: Path | str, arguments: dict[str, Path], message: str) -> None:
    with pytest.raises(HubError if isinstance(name, str) else ModelError, match=re.escape(message)):
        Embedder.load(name, prompt_style="vlm2vec", **arguments)  # type: ignore[arg-type]


# --- broken checkpoints


def test_a_known_hub_name_offline_says_how_to_fetch_it() -> None:
    with pytest.raises(HubError, match=re.escape("run 'hf download VLM2Vec/VLM2Vec-V2.0'")):
        Embedder.load("VLM2Vec/VLM2Vec-V2.0")


def _hub_cache(home: Path, name: str, files: dict[str, Path | str]) -> None:
    """Lay files out as the hub's own cache does."""
    folder = home / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    for file, content in files.items():
        if isinstance(content, Path):
            shutil.copy(content, snapshot / file)
        else:
            (snapshot / file).write_text(content)


@pytest.mark.slow
def test_a_published_adapter_resolves_itself_and_its_base_from_the_hub_cache(tmp_path: Path) -> None:
    config = json.loads((GOLDEN / "dora" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "Qwen/Qwen2-VL-2B-Instruct"
    adapter: dict[str, Path | str] = {
        "adapter_config.json": json.dumps(config),
        "adapter_model.safetensors": GOLDEN / "dora" / "adapter_model.safetensors",
    }
    _hub_cache(tmp_path, "VLM2Vec/VLM2Vec-V2.0", adapter)
    code = """
import sys, numpy as np
from vlm2vec import Embedder, VLM2VecError
try:
    embedder = Embedder.load("VLM2Vec/VLM2Vec-V2.0", device="cpu")
    print(embedder.settings.prompt_style, embedder.encode("A cat and a dog").round(5).tolist())
except VLM2VecError as error:
    print(error)
"""

    def load() -> str:
        environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    assert load().startswith(
        "base model of VLM2Vec/VLM2Vec-V2.0: Qwen/Qwen2-VL-2B-Instruct is not in the hub cache and could not be fetched"
    )
    names = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
    _hub_cache(tmp_path, "Qwen/Qwen2-VL-2B-Instruct", {name: MODEL / name for name in names})
    style, vector = load().split(" ", 1)
    assert style == "vlm2vec"
    np.testing.assert_allclose(json.loads(vector), EMBEDDINGS["dora"][ADAPTER_IDS.index("text_0")], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (name, content)
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
        for content in (b"", b"{", b"{}", b"\x08\0\0\0\0\0\0\0{}      ")
        # An empty object is a whole tokenizer_config.json: it says nothing.
        if (name, content) != ("tokenizer_config.json", b"{}")
    ],
)
def test_a_damaged_checkpoint_is_an_error(model_copy: Path, name: str, content: bytes) -> None:
    (model_copy / name).write_bytes(content)
    with pytest.raises(ModelError, match=re.escape(str(model_copy))):
        load_tiny(model_copy)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("adapter_config.json", b"{", "adapter_config.json cannot be read"),
        ("adapter_config.json", b'{"peft_type": "FOO"}', "is an adapter of type 'FOO'"),
        ("adapter_model.safetensors", b"{", "cannot be read as an adapter"),
    ],
)
def test_a_damaged_adapter_is_an_error(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    folder = Path(shutil.copytree(GOLDEN / "lora", tmp_path / "lora"))
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=re.escape(message)):
        load_tiny(folder, base=MODEL)


def test_sliding_windows_are_refused_rather_than_ignored(model_copy: Path) -> None:
    config = json.loads((model_copy / "config.json").read_text())
    (model_copy / "config.json").write_text(json.dumps(config | {"use_sliding_window": True}))
    with pytest.raises(ModelError, match="uses sliding-window attention, which is not supported"):
        load_tiny(model_copy)


@pytest.mark.slow
def test_a_cache_with_the_configuration_alone_counts_as_not_there(tmp_path: Path) -> None:
    _hub_cache(tmp_path, "VLM2Vec/VLM2Vec-V2.0", {"adapter_config.json": GOLDEN / "dora" / "adapter_config.json"})
    code = "from vlm2vec import Embedder; Embedder.load('VLM2Vec/VLM2Vec-V2.0')"
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert "VLM2Vec/VLM2Vec-V2.0 is not in the hub cache and could not be fetched" in done.stderr


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_an_incomplete_checkpoint_is_an_error(model_copy: Path, missing: str) -> None:
    (model_copy / missing).unlink()
    with pytest.raises(ModelError, match=re.escape(missing)):
        load_tiny(model_copy).encode("a")


def test_weights_that_do_not_cover_the_model_are_an_error(model_copy: Path) -> None:
    weights = load_file(model_copy / "model.safetensors")
    weights["model.layers.9.stray"] = weights.pop("model.norm.weight")
    save_file(weights, model_copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 missing \['language_model.norm.weight'\], 1 without a place"):
        load_tiny(model_copy)


def test_another_architecture_is_an_error(model_copy: Path) -> None:
    config = json.loads((model_copy / "config.json").read_text())
    (model_copy / "config.json").write_text(json.dumps(config | {"model_type": "clip"}))
    with pytest.raises(ModelError, match="is a model of type 'clip'"):
        load_tiny(model_copy)


def test_a_whole_model_saved_by_current_transformers_loads_too(tmp_path: Path) -> None:
    from transformers import Qwen2VLForConditionalGeneration

    whole = Qwen2VLForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32)
    whole.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL / name, tmp_path / name)
    np.testing.assert_allclose(load_tiny(tmp_path).encode("a cat"), load_tiny().encode("a cat"), rtol=0, atol=2e-6)
