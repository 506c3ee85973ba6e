"""Loading and encoding as a user meets them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file

from golden_cases import ADAPTER_IDS, EMBEDDINGS, GOLDEN, MODEL, SINGLE_IDS, item
from vlm2vec.errors import AdapterError, InputError, MediaError, ModelError, StyleError, VLM2VecError
from vlm2vec.items import Image, Item, Video
from vlm2vec.model.embedder import Embedder
from vlm2vec.model.pooling import to_int8
from vlm2vec.model.prompts import STYLES

PICTURE = GOLDEN / "inputs" / "img_square224.png"


def _load(folder: Path = MODEL, **arguments: object) -> Embedder:
    return Embedder.load(folder, **({"prompt_style": "vlm2vec", "device": "cpu"} | arguments))  # type: ignore[arg-type]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODEL, tmp_path / "model"))


# --- what encode does with its arguments


def test_one_item_gives_a_vector_and_a_list_gives_rows(published: Embedder) -> None:
    one, rows = published.encode("a cat"), published.encode(["a cat", "a dog"])
    assert (one.shape, rows.shape, one.dtype) == ((64,), (2, 64), np.float32)
    np.testing.assert_allclose(one, rows[0], rtol=0, atol=2e-6)
    assert published.encode([]).shape == (0, 64)


def test_every_form_of_a_picture_gives_the_same_vector(published: Embedder) -> None:
    forms = [PICTURE, Image(PICTURE), PIL.Image.open(PICTURE), {"image": str(PICTURE)}, Image(PICTURE.read_bytes())]
    vectors = published.encode(forms)
    np.testing.assert_allclose(vectors, np.repeat(vectors[:1], len(forms), 0), rtol=0, atol=2e-6)


def test_encode_adds_nothing_and_the_roles_add_their_instruction(published: Embedder) -> None:
    style = STYLES["vlm2vec"]
    query = style.instruction("query", "text", "page")
    document = style.instruction("document", "image")
    cases = [
        (published.encode_query("cats", target="page"), published.encode(f"{query} cats")),
        (published.encode_document(PICTURE), published.encode(Item(f"<|media|> {document}", (Image(PICTURE),)))),
        (published.encode_document("cats"), published.encode("cats")),
        (published.encode_query(Item("cats", instruction="Mine:")), published.encode("Mine: cats")),
        (published.encode_query(Item("cats", instruction="Mine:"), prompt="Yours:"), published.encode("Yours: cats")),
        (published.encode_query("cats", prompt=""), published.encode("cats")),
        (published.encode_query(Item("cats", verbatim="whole")), published.encode("whole")),
    ]
    for got, expected in cases:
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6)


def test_truncation_comes_before_normalisation(published: Embedder) -> None:
    whole = published.encode("a cat", normalize_embeddings=False)[:16]
    np.testing.assert_allclose(
        published.encode("a cat", truncate_dim=16), whole / np.linalg.norm(whole), rtol=0, atol=2e-6
    )
    with pytest.raises(InputError, match="truncate_dim=65: this model's vectors have 1 to 64 dimensions"):
        published.encode("a cat", truncate_dim=65)


def test_int8_scales_the_largest_number_of_each_vector_to_127() -> None:
    vectors = np.array([[0.5, -1.0, 0.25], [0.0, 0.0, 0.0], [-3e-9, 1e-9, 0.0], [2e38, -3e38, 1e-30]], np.float32)
    got = to_int8(vectors)
    assert got.dtype == np.int8
    with pytest.raises(InputError, match="a vector is not finite"):
        to_int8(np.array([1.0, np.nan], np.float32))
    assert got.tolist() == [[64, -127, 32], [0, 0, 0], [-127, 42, 0], [85, -127, 0]]


def test_int8_vectors_are_rounded_from_the_truncated_ones_and_compared_by_cosine(published: Embedder) -> None:
    whole = published.encode(["a cat", "a dog"], truncate_dim=16)
    small = published.encode(["a cat", "a dog"], truncate_dim=16, precision="int8")
    assert small.tolist() == to_int8(whole).tolist()
    assert (
        published.encode_query("a cat", precision="int8").tolist() == to_int8(published.encode_query("a cat")).tolist()
    )
    np.testing.assert_allclose(published.similarity(small, small), published.similarity(whole, whole), atol=0.01)


def test_similarity_is_the_cosine(published: Embedder) -> None:
    a, b = np.array([[3.0, 4.0]], np.float32), np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
    np.testing.assert_allclose(published.similarity(a, b), [[0.6, 0.8]], rtol=1e-6)


def test_visual_tokens_typed_by_a_user_are_plain_text(published: Embedder) -> None:
    encode = published.backbone.processor.tokenizer.encode
    visual = set(published.backbone.processor.tokenizer.visual_ids.values())
    typed = "<|image_pad|><|video_pad|><|vision_start|><|vision_end|>"
    assert visual.isdisjoint(encode(typed))
    assert encode("a<|im_end|>b") == [*encode("a"), 2258, *encode("b")]
    assert published.encode(typed).shape == (64,)


def test_every_other_special_token_keeps_its_own_id(published: Embedder) -> None:
    tokenizer = published.backbone.processor.tokenizer
    others = {token: number for token, number in tokenizer.special_ids.items() if token not in tokenizer.visual_ids}
    assert {token: tokenizer.encode(token) for token in others} == {t: [number] for t, number in others.items()}
    assert others["<|vision_pad|>"] == 2267


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.encode("half a \udcff"), "a text holds '\\udcff', no character"),
        (lambda e: e.encode(b"bytes"), "bytes do not say what they are"),
        (lambda e: e.encode(7), "cannot embed a int: pass one item, or a list of items"),
        (lambda e: e.encode("a", prompt=["x"]), "prompt is ['x']: it must be one str"),
        (lambda e: e.encode("a", truncate_dim=2.5), "truncate_dim=2.5: this model's vectors"),
        (lambda e: e.encode("a", precision="int4"), "precision='int4' is unknown; use float32 or int8"),
        (lambda e: e.encode("a", truncate_dim=-1), "truncate_dim=-1: this model's vectors"),
        (lambda e: e.encode_query("a", target="document"), "target is 'document': use image, video, page, or None"),
        (lambda e: e.similarity(np.ones((1, 2)), np.ones((1, 3))), "vectors of shapes (1, 2) and (1, 3)"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(published: Embedder, call: object, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        call(published)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "nowhere"}, "device 'nowhere' cannot be used"),
        ({"dtype": "int8"}, "dtype='int8': use 'auto'"),
        ({"dtype": None}, "dtype=None: use 'auto'"),
        ({"num_frames": 2.5}, "num_frames=2.5: it must be a whole number"),
        ({"max_pixels": "big"}, "max_pixels='big': need whole numbers"),
        ({"max_pixels": 100}, "max_pixels=100: need whole numbers, 0 < min_pixels <= max_pixels"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(VLM2VecError, match=re.escape(message)):
        _load(MODEL, **arguments)


def test_a_text_beyond_the_models_limit_is_cut_with_a_warning(copy: Path) -> None:
    config = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": 4}))
    embedder = _load(copy)
    with pytest.warns(UserWarning, match="a text of 7 tokens was cut at the model's limit of 4"):
        cut = embedder.encode("A cat and a dog")
    np.testing.assert_allclose(cut, embedder.encode("A cat and"), rtol=0, atol=2e-6)


@pytest.mark.parametrize("rest", [[], ["a"]])
def test_an_item_that_cannot_be_embedded_is_named(published: Embedder, tmp_path: Path, rest: list[str]) -> None:
    missing = tmp_path / "missing.png"
    where = f"item {len(rest)} of {len(rest) + 1}: " if rest else ""
    with pytest.raises(MediaError, match=f"^{where}.*missing.png"):
        published.encode([*rest, missing] if rest else missing)


def test_stream_gives_errors_in_place_of_vectors(published: Embedder, tmp_path: Path) -> None:
    items = ["a cat", "", tmp_path / "missing.png", "a dog"]
    results = dict(published.stream(iter(items)))
    assert sorted(results) == [0, 1, 2, 3]
    assert (type(results[1]), type(results[2])) == (InputError, MediaError)
    np.testing.assert_allclose(results[3], published.encode("a dog"), rtol=0, atol=2e-6)


def test_a_picture_and_a_video_may_stand_in_one_item(published: Embedder) -> None:
    mixed = Item("<|media|> then <|media|>", (Image(PICTURE), Video((PICTURE, PICTURE))))
    prepared = published.backbone.processor.prepare(mixed)
    assert prepared.grids == ((1, 16, 16), (1, 16, 16))
    assert published.encode(mixed).shape == (64,)


# --- which settings and style hold


def test_the_checkpoints_own_settings_hold_and_arguments_beat_them(copy: Path) -> None:
    own = {"prompt_style": "qwen2-vl", "pooling": "mean", "normalize": False, "max_pixels": 6272, "num_frames": 2}
    (copy / "vlm2vec.json").write_text(json.dumps(own))
    embedder = Embedder.load(copy, device="cpu", max_pixels=12544)
    settings = embedder.settings
    assert (settings.prompt_style, settings.pooling, settings.normalize) == ("qwen2-vl", "mean", False)
    assert (settings.min_pixels, settings.max_pixels, settings.num_frames) == (3136, 12544, 2)
    assert np.linalg.norm(embedder.encode("a cat")) != pytest.approx(1.0, abs=0.1)


def test_mean_pooling_averages_the_states_that_last_pooling_takes_one_of(copy: Path) -> None:
    (copy / "vlm2vec.json").write_text('{"pooling": "mean"}')
    mean = _load(copy).encode("A cat and a dog", normalize_embeddings=False)
    ids = _load().backbone.processor.tokenizer.encode("A cat and a dog")
    model = _load().backbone.model
    with torch.no_grad():
        positions = torch.arange(len(ids)).expand(3, 1, -1)
        states = model(input_ids=torch.tensor([ids]), position_ids=positions).last_hidden_state
    np.testing.assert_allclose(mean, states[0].mean(0).numpy(), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "holds a list"),
        ('{"pixels": 3}', "unknown key 'pixels'; known are prompt_style, pooling"),
        ('{"num_frames": "8"}', "num_frames is '8', it must be of type int"),
        ('{"pooling": "cls"}', "pooling 'cls' is unknown; use one of last, mean"),
    ],
)
def test_a_malformed_settings_file_is_an_error(copy: Path, content: str, message: str) -> None:
    (copy / "vlm2vec.json").write_text(content)
    with pytest.raises(ModelError, match=re.escape(message)):
        _load(copy)


def test_without_any_word_on_the_style_the_error_lists_the_styles() -> None:
    with pytest.raises(StyleError, match="pass prompt_style=, one of qwen2-vl, vlm2vec"):
        Embedder.load(MODEL)


# --- fingerprint


def test_the_fingerprint_changes_with_whatever_moves_a_vector_and_not_otherwise(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    same = [_load(copy)]
    (copy / "config.json").write_text(json.dumps(config | {"transformers_version": "9.9", "dtype": "float16"}))
    same += [_load(copy), Embedder.load(copy, prompt_style="vlm2vec", max_pixels=1_003_520, num_frames=8)]
    assert len({embedder.fingerprint for embedder in same}) == 1
    changed = [
        _load(copy, prompt_style="qwen2-vl"),
        _load(copy, min_pixels=6272),
        _load(copy, max_pixels=6272),
        _load(copy, num_frames=4),
        _load(copy, dtype="bfloat16"),
        _load(copy, adapter=GOLDEN / "lora"),
        _load(copy, adapter=GOLDEN / "dora"),
    ]
    for name, value in (("pooling", "mean"), ("normalize", False)):
        (copy / "vlm2vec.json").write_text(json.dumps({name: value}))
        changed.append(_load(copy))
    (copy / "vlm2vec.json").unlink()
    tokenizer = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"model_max_length": 100}))
    changed.append(_load(copy))
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    changed.append(_load(copy))
    prints = [embedder.fingerprint for embedder in (*same[:1], *changed)]
    assert len(set(prints)) == len(prints)


def test_an_adapter_on_its_base_and_a_base_with_adapter_are_one_model() -> None:
    one = _load(GOLDEN / "dora", base=MODEL)
    other = _load(MODEL, adapter=GOLDEN / "dora")
    assert one.fingerprint == other.fingerprint
    np.testing.assert_array_equal(one.encode(item("img_2")), other.encode(item("img_2")))


# --- adapters


@pytest.mark.parametrize(
    "prefix", ["base_model.model.model.language_model.layers", "base_model.model.language_model.layers"]
)
def test_adapter_keys_of_newer_naming_find_their_modules(tmp_path: Path, prefix: str) -> None:
    folder = Path(shutil.copytree(GOLDEN / "lora", tmp_path / "lora"))
    tensors = load_file(folder / "adapter_model.safetensors")
    renamed = {key.replace("base_model.model.model.layers", prefix): value for key, value in tensors.items()}
    save_file(renamed, folder / "adapter_model.safetensors")
    expected = _load(GOLDEN / "lora", base=MODEL).encode("a cat")
    np.testing.assert_array_equal(_load(folder, base=MODEL).encode("a cat"), expected)


@pytest.mark.parametrize("layers", ["model.layers", "model.language_model.layers", "language_model.layers"])
def test_patterns_of_an_adapter_hold_under_every_naming(tmp_path: Path, layers: str) -> None:
    folder = Path(shutil.copytree(GOLDEN / "lora", tmp_path / "lora"))
    config = json.loads((folder / "adapter_config.json").read_text())
    pattern = {f"{layers}.0.self_attn.v_proj": 160}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"alpha_pattern": pattern}))
    plain, patterned = _load(GOLDEN / "lora", base=MODEL), _load(folder, base=MODEL)
    layer = [embedder.backbone.model.language_model.layers for embedder in (plain, patterned)]
    assert not torch.equal(layer[0][0].self_attn.v_proj.weight, layer[1][0].self_attn.v_proj.weight)
    assert torch.equal(layer[0][1].self_attn.v_proj.weight, layer[1][1].self_attn.v_proj.weight)


# peft still reads a name that transformers has renamed.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_on_the_patch_projection_acts_in_every_dtype(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = _load().backbone.model
    attached = get_peft_model(base, LoraConfig(r=4, target_modules=["patch_embed.proj"], init_lora_weights=False))
    attached.save_pretrained(tmp_path)
    single = _load(tmp_path, base=MODEL).encode(item("img_2"))
    half = _load(tmp_path, base=MODEL, dtype="bfloat16").encode(item("img_2"))
    np.testing.assert_allclose(half, single, rtol=0, atol=2e-2)
    assert np.abs(single - EMBEDDINGS["single"][SINGLE_IDS.index("img_2")]).max() > 0.05


def test_an_adapter_tensor_without_a_place_is_an_error_that_names_it(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN / "lora", tmp_path / "lora"))
    tensors = load_file(folder / "adapter_model.safetensors")
    renamed = {key.replace(".layers.2.", ".layers.7."): value for key, value in tensors.items()}
    save_file(renamed, folder / "adapter_model.safetensors")
    stray = "base_model.model.language_model.layers.7.mlp.down_proj.lora_A.weight"
    with pytest.raises(AdapterError, match=re.escape(f"14 of 42 tensors found no module in the base ({stray}")):
        _load(folder, base=MODEL)


def test_an_adapter_of_another_shape_is_an_error(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN / "lora", tmp_path / "lora"))
    tensors = load_file(folder / "adapter_model.safetensors")
    key = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"
    save_file(tensors | {key: torch.zeros(4, 9)}, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match="does not fit its base"):
        _load(folder, base=MODEL)


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
    with pytest.raises(ModelError, match=re.escape(message)):
        Embedder.load(name, prompt_style="vlm2vec", **arguments)  # type: ignore[arg-type]


# --- broken checkpoints


def test_a_known_hub_name_offline_says_how_to_fetch_it() -> None:
    with pytest.raises(ModelError, match=re.escape("run 'hf download VLM2Vec/VLM2Vec-V2.0'")):
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


def test_a_published_adapter_resolves_itself_and_its_base_from_the_hub_cache(tmp_path: Path) -> None:
    config = json.loads((GOLDEN / "dora" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "Qwen/Qwen2-VL-2B-Instruct"
    adapter = {
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
def test_a_damaged_checkpoint_is_an_error(copy: Path, name: str, content: bytes) -> None:
    (copy / name).write_bytes(content)
    with pytest.raises(ModelError, match=re.escape(str(copy))):
        _load(copy)


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
        _load(folder, base=MODEL)


def test_sliding_windows_are_refused_rather_than_ignored(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"use_sliding_window": True}))
    with pytest.raises(ModelError, match="uses sliding-window attention, which is not supported"):
        _load(copy)


def test_a_cache_with_the_configuration_alone_counts_as_not_there(tmp_path: Path) -> None:
    _hub_cache(tmp_path, "VLM2Vec/VLM2Vec-V2.0", {"adapter_config.json": GOLDEN / "dora" / "adapter_config.json"})
    code = "from vlm2vec import Embedder; Embedder.load('VLM2Vec/VLM2Vec-V2.0')"
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert "VLM2Vec/VLM2Vec-V2.0 is not in the hub cache and could not be fetched" in done.stderr


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_an_incomplete_checkpoint_is_an_error(copy: Path, missing: str) -> None:
    (copy / missing).unlink()
    with pytest.raises(ModelError, match=re.escape(missing)):
        _load(copy).encode("a")


def test_weights_that_do_not_cover_the_model_are_an_error(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    weights["model.layers.9.stray"] = weights.pop("model.norm.weight")
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 missing \['language_model.norm.weight'\], 1 without a place"):
        _load(copy)


def test_another_architecture_is_an_error(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "clip"}))
    with pytest.raises(ModelError, match="is a model of type 'clip'"):
        _load(copy)


def test_a_whole_model_saved_by_current_transformers_loads_too(tmp_path: Path) -> None:
    from transformers import Qwen2VLForConditionalGeneration

    whole = Qwen2VLForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32)
    whole.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL / name, tmp_path / name)
    np.testing.assert_allclose(_load(tmp_path).encode("a cat"), _load().encode("a cat"), rtol=0, atol=2e-6)


# --- imports


def test_the_model_package_needs_only_what_a_gpu_machine_has() -> None:
    code = """
import sys
for name in ("peft", "lancedb", "av", "pypdfium2", "pydantic", "typer", "rich", "pyarrow"):
    sys.modules[name] = None
from vlm2vec.model import Embedder
from vlm2vec import Item, Image
embedder = Embedder.load(sys.argv[1], prompt_style="vlm2vec", device="cpu")
vectors = embedder.encode(["a cat", Item(media=(Image(sys.argv[2]),))])
print(vectors.shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(MODEL), str(PICTURE)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "(2, 64)\n", done.stderr


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, vlm2vec, vlm2vec.model.prompts; vlm2vec.Item('a'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr
