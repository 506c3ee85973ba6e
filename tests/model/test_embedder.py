"""Loading and encoding as a user meets them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file

from support.golden_cases import GOLDEN, MODEL, item, load_tiny, qwen
from vlm2vec.errors import InputError, MediaError, ModelError, StyleError, VLM2VecError
from vlm2vec.items import Image, Item, ItemLike, Video, as_item
from vlm2vec.model.embedder import Embedder
from vlm2vec.model.prompts import STYLES
from vlm2vec.model.similarity import to_int8

PICTURE = GOLDEN / "inputs" / "img_square224.png"


# --- what encode does with its arguments


def test_one_item_gives_a_vector_and_a_list_gives_rows(published: Embedder) -> None:
    one, rows = published.encode("a cat"), published.encode(["a cat", "a dog"])
    assert (one.shape, rows.shape, one.dtype.name) == ((64,), (2, 64), "float32")
    np.testing.assert_allclose(one, rows[0], rtol=0, atol=2e-6)
    assert published.encode([]).shape == (0, 64)


def test_every_form_of_a_picture_gives_the_same_vector(published: Embedder) -> None:
    opened, mapped = PIL.Image.open(PICTURE), {"image": str(PICTURE)}
    forms: list[ItemLike] = [PICTURE, Image(PICTURE), opened, mapped, Image(PICTURE.read_bytes())]
    vectors = published.encode(forms)
    np.testing.assert_allclose(vectors, np.repeat(vectors[:1], len(forms), 0), rtol=0, atol=2e-6)


def test_a_drawing_on_nothing_has_the_vector_of_the_drawing_on_white(published: Embedder, tmp_path: Path) -> None:
    drawing = PIL.Image.new("RGBA", (64, 48), (0, 0, 0, 0))
    drawing.paste((0, 0, 0, 255), (8, 8, 32, 24))
    on_white, square = PIL.Image.new("RGB", (64, 48), "white"), PIL.Image.new("RGB", (64, 48), "black")
    on_white.paste("black", (8, 8, 32, 24))
    drawing.save(tmp_path / "a.png")
    drawing.save(tmp_path / "a.webp", lossless=True)
    shown: list[ItemLike] = [drawing, tmp_path / "a.png", tmp_path / "a.webp", {"image": str(tmp_path / "a.png")}]
    stored: list[ItemLike] = [Image(drawing, as_stored=True), Image(tmp_path / "a.png", as_stored=True)]
    for forms, expected in ((shown, on_white), (stored, square)):
        vectors = published.encode(forms)
        np.testing.assert_allclose(vectors, np.repeat(published.encode([expected]), len(forms), 0), rtol=0, atol=2e-6)
    assert np.abs(published.encode(on_white) - published.encode(square)).max() > 1e-3


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
    encode = qwen(published).processor.tokenizer.encode
    visual = set(qwen(published).processor.tokenizer.visual_ids.values())
    typed = "<|image_pad|><|video_pad|><|vision_start|><|vision_end|>"
    assert visual.isdisjoint(encode(typed))
    assert encode("a<|im_end|>b") == [*encode("a"), 2258, *encode("b")]
    assert published.encode(typed).shape == (64,)


def test_every_other_special_token_keeps_its_own_id(published: Embedder) -> None:
    tokenizer = qwen(published).processor.tokenizer
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
        ({"dtype": "float8_e4m3fn"}, "dtype='float8_e4m3fn': use 'auto'"),
        ({"num_frames": 2.5}, "num_frames=2.5: it must be a whole number"),
        ({"max_pixels": "big"}, "max_pixels='big': need whole numbers"),
        ({"max_pixels": 100}, "max_pixels=100: need whole numbers, 0 < min_pixels <= max_pixels"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(VLM2VecError, match=re.escape(message)):
        load_tiny(MODEL, **arguments)


def test_one_item_is_no_stream_of_items(own: Embedder) -> None:
    for one in ("a red bus", {"text": "a", "image": PICTURE}, PICTURE, Item("a"), b"bytes", 3):
        with pytest.raises(InputError, match="this takes a list of items, and got one"):
            next(own.stream(one))  # type: ignore[arg-type]


def test_what_nobody_may_look_at_is_an_error_of_its_own(own: Embedder) -> None:
    # For any path below a name that is too long the system refuses to say what lies there.
    long = Path("a" * 300)
    found = dict(own.stream(["a", Video(long / "clip.mp4"), Image(long / "a.png"), long, "b"]))
    assert [type(found[position]) for position in range(5)] == [
        np.ndarray,
        MediaError,
        MediaError,
        InputError,
        np.ndarray,
    ]
    assert "File name too long" in str(found[1])


def test_one_lazily_read_picture_may_be_encoded_by_several_threads_at_once(tmp_path: Path) -> None:
    own = load_tiny(max_pixels=6272)
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    PIL.Image.fromarray(noise).save(tmp_path / "a.png")
    expected = own.encode(tmp_path / "a.png")
    for _ in range(3):
        with PIL.Image.open(tmp_path / "a.png") as picture, ThreadPoolExecutor(3) as pool:
            for vector in pool.map(own.encode, [picture] * 3):
                np.testing.assert_allclose(vector, expected, rtol=0, atol=2e-6)


def test_media_beyond_the_models_limit_are_not_cut_and_told(model_copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = json.loads((model_copy / "tokenizer_config.json").read_text())
    (model_copy / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": 4}))
    embedder = load_tiny(model_copy)
    vector = embedder.encode(PICTURE)
    assert "an item with media of 64 tokens is beyond the model's limit of 4 and is not cut" in caplog.text
    np.testing.assert_allclose(vector, load_tiny(MODEL).encode(PICTURE), rtol=0, atol=2e-6)


def test_a_text_beyond_the_models_limit_is_cut_with_a_warning(
    model_copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = json.loads((model_copy / "tokenizer_config.json").read_text())
    (model_copy / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": 4}))
    embedder = load_tiny(model_copy)
    cut = embedder.encode("A cat and a dog")
    assert "a text of 7 tokens was cut at the model's limit of 4" in caplog.text
    np.testing.assert_allclose(cut, embedder.encode("A cat and"), rtol=0, atol=2e-6)


@pytest.mark.parametrize("rest", [[], ["a"]])
def test_an_item_that_cannot_be_embedded_is_named(published: Embedder, tmp_path: Path, rest: list[str]) -> None:
    missing = tmp_path / "missing.png"
    where = f"item {len(rest)} of {len(rest) + 1}: " if rest else ""
    with pytest.raises(MediaError, match=f"^{where}.*missing.png"):
        published.encode([*rest, missing] if rest else missing)


def test_stream_gives_errors_in_place_of_vectors(published: Embedder, tmp_path: Path) -> None:
    items: list[ItemLike] = ["a cat", "", tmp_path / "missing.png", "a dog"]
    results = dict(published.stream(iter(items)))
    assert sorted(results) == [0, 1, 2, 3]
    assert (type(results[1]), type(results[2])) == (InputError, MediaError)
    np.testing.assert_allclose(results[3], published.encode("a dog"), rtol=0, atol=2e-6)  # type: ignore[arg-type]


def test_a_picture_and_a_video_may_stand_in_one_item(published: Embedder) -> None:
    mixed = Item("<|media|> then <|media|>", (Image(PICTURE), Video((PICTURE, PICTURE))))
    prepared = qwen(published).processor.prepare(mixed)
    assert prepared.grids == ((1, 16, 16), (1, 16, 16))
    assert published.encode(mixed).shape == (64,)


# --- which settings and style hold


def test_the_checkpoints_own_settings_hold_and_arguments_beat_them(model_copy: Path) -> None:
    own = {"prompt_style": "qwen2-vl", "pooling": "mean", "normalize": False, "max_pixels": 6272, "num_frames": 2}
    (model_copy / "vlm2vec.json").write_text(json.dumps(own))
    embedder = Embedder.load(model_copy, device="cpu", max_pixels=12544)
    settings = embedder.settings
    assert (settings.prompt_style, settings.pooling, settings.normalize) == ("qwen2-vl", "mean", False)
    assert (settings.min_pixels, settings.max_pixels, settings.num_frames) == (3136, 12544, 2)
    assert np.linalg.norm(embedder.encode("a cat")) != pytest.approx(1.0, abs=0.1)


def test_frames_of_a_video_may_have_fewer_pixels_than_a_picture(model_copy: Path) -> None:
    (model_copy / "vlm2vec.json").write_text('{"max_pixels": 12544, "max_frame_pixels": 6272}')
    picture = PIL.Image.new("RGB", (112, 112))
    clip = Video((picture, picture))
    asked = {"as it is": {}, "less for all": {"max_pixels": 3136}, "more for frames": {"max_frame_pixels": 99_999}}
    tokens = {}
    for name, arguments in asked.items():
        processor = qwen(load_tiny(model_copy, **arguments)).processor
        tokens[name] = [processor.prepare(as_item(item)).grids[0].num_tokens for item in (picture, clip)]
    assert tokens == {"as it is": [16, 4], "less for all": [4, 4], "more for frames": [16, 16]}
    with pytest.raises(
        InputError, match=r"max_frame_pixels=100: need whole numbers, 0 < min_pixels <= max_frame_pixels"
    ):
        load_tiny(model_copy, max_frame_pixels=100)


def test_mean_pooling_averages_the_states_that_last_pooling_takes_one_of(model_copy: Path) -> None:
    (model_copy / "vlm2vec.json").write_text('{"pooling": "mean"}')
    mean = load_tiny(model_copy).encode("A cat and a dog", normalize_embeddings=False)
    ids = qwen(load_tiny()).processor.tokenizer.encode("A cat and a dog")
    model = qwen(load_tiny()).model
    with torch.no_grad():
        positions = torch.arange(len(ids)).expand(3, 1, -1)
        states = model(input_ids=torch.tensor([ids]), position_ids=positions).last_hidden_state
    np.testing.assert_allclose(mean, states[0].mean(0).numpy(), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "vlm2vec.json cannot be read: Expecting property name"),
        ("[1]", "holds a list"),
        ('{"pixels": 3}', "pixels is 3: unexpected keyword argument (known are prompt_style, pooling"),
        ('{"num_frames": "8"}', "num_frames is '8': input should be a valid integer"),
        ('{"pooling": "cls"}', "pooling 'cls' is unknown; use one of last, mean"),
    ],
)
def test_a_malformed_settings_file_is_an_error(model_copy: Path, content: str, message: str) -> None:
    (model_copy / "vlm2vec.json").write_text(content)
    with pytest.raises(ModelError, match=re.escape(message)):
        load_tiny(model_copy)


def test_without_any_word_on_the_style_the_error_lists_the_styles() -> None:
    with pytest.raises(StyleError, match=r"name it in vlm2vec\.json: qwen2-vl, vlm2vec"):
        Embedder.load(MODEL)


# --- fingerprint


def test_the_fingerprint_changes_with_whatever_moves_a_vector_and_not_otherwise(model_copy: Path) -> None:
    config = json.loads((model_copy / "config.json").read_text())
    same = [load_tiny(model_copy)]
    (model_copy / "config.json").write_text(json.dumps(config | {"transformers_version": "9.9", "dtype": "float16"}))
    same += [
        load_tiny(model_copy),
        Embedder.load(model_copy, prompt_style="vlm2vec", max_pixels=1_003_520, num_frames=8),
    ]
    assert len({embedder.fingerprint for embedder in same}) == 1
    changed = [
        load_tiny(model_copy, prompt_style="qwen2-vl"),
        load_tiny(model_copy, min_pixels=6272),
        load_tiny(model_copy, max_pixels=6272),
        load_tiny(model_copy, max_frame_pixels=6272),
        load_tiny(model_copy, num_frames=4),
        load_tiny(model_copy, dtype="bfloat16"),
        load_tiny(model_copy, adapter=GOLDEN / "lora"),
        load_tiny(model_copy, adapter=GOLDEN / "dora"),
    ]
    for name, value in (("pooling", "mean"), ("normalize", False)):
        (model_copy / "vlm2vec.json").write_text(json.dumps({name: value}))
        changed.append(load_tiny(model_copy))
    (model_copy / "vlm2vec.json").unlink()
    tokenizer = json.loads((model_copy / "tokenizer_config.json").read_text())
    (model_copy / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"model_max_length": 100}))
    changed.append(load_tiny(model_copy))
    weights = load_file(model_copy / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, model_copy / "model.safetensors", metadata={"format": "pt"})
    changed.append(load_tiny(model_copy))
    prints = [embedder.fingerprint for embedder in (*same[:1], *changed)]
    assert len(set(prints)) == len(prints)


def test_an_adapter_on_its_base_and_a_base_with_adapter_are_one_model() -> None:
    one = load_tiny(GOLDEN / "dora", base=MODEL)
    other = load_tiny(MODEL, adapter=GOLDEN / "dora")
    assert one.fingerprint == other.fingerprint
    np.testing.assert_array_equal(one.encode(item("img_2")), other.encode(item("img_2")))


# --- imports


@pytest.mark.slow
def test_the_model_package_needs_only_what_a_gpu_machine_has() -> None:
    code = """
import sys
for name in ("peft", "lancedb", "av", "pypdfium2", "typer", "rich", "pyarrow"):
    sys.modules[name] = None
from vlm2vec import Embedder, Item, Image
embedder = Embedder.load(sys.argv[1], prompt_style="vlm2vec", device="cpu")
vectors = embedder.encode(["a cat", Item(media=(Image(sys.argv[2]),))])
print(vectors.shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(MODEL), str(PICTURE)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "(2, 64)\n", done.stderr


def test_only_a_model_that_needs_torch_imports_it() -> None:
    code = "import sys, vlm2vec.model.embedder; vlm2vec.Item('a'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr


def test_one_text_is_not_a_list_of_its_letters(own: Embedder) -> None:
    with pytest.raises(InputError, match="this takes a list of items, and got one str: put it into a list"):
        own.encode_tokens("a red bus")
