"""Two towers run by ONNX Runtime: parts of items, long texts, films, and independence of all that surrounds an item."""

from __future__ import annotations

import io
import itertools
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from support.media_files import encoded, pdf, picture, write_video
from support.places import ROOT
from support.tiny_towers import DIM, LETTERS, MAX_TOKENS, SIZE, make_towers
from vlm2vec import media
from vlm2vec.errors import InputError, MediaError, ModelError, StyleError, VectorError, VLM2VecError
from vlm2vec.items import Image, Item, ItemLike, Video
from vlm2vec.model.backbone import Ask, Vectors
from vlm2vec.model.checkpoint import Settings
from vlm2vec.model.embedder import Embedder
from vlm2vec.model.families.towers import TowersBackbone, with_wanted
from vlm2vec.model.families.towers_inputs import (
    ChunkedText,
    ImageSide,
    Looks,
    TextSide,
    WordPieces,
    read_pixels,
    read_towers_config,
)

ITEMS: list[ItemLike] = [
    "a cat",
    picture(),
    "abc " * 30,
    Item("a dog", (Image(picture(shift=1)),)),
    Video((picture(shift=2), picture(shift=3))),
    "a cat",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_towers(tmp_path_factory.mktemp("towers"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Embedder:
    return Embedder.load(folder)


def _raw(model: Embedder, item: ItemLike) -> Vectors:
    vector: Vectors = model.encode(item, normalize_embeddings=False)
    return vector


def _unit(vector: Vectors) -> Vectors:
    return vector / np.linalg.norm(vector)


# --- what surrounds an item


def test_vectors_are_the_same_to_the_bit_in_any_company_and_on_any_number_of_cores(folder: Path) -> None:
    config = read_towers_config(folder)
    found = []
    for num_threads in (1, 2, 5):
        model = Embedder(TowersBackbone(folder, config, num_threads=num_threads), name="towers")
        found += [model.encode(ITEMS), np.stack([model.encode(one) for one in ITEMS]), model.encode(ITEMS[::-1])[::-1]]
    for vectors in found[1:]:
        np.testing.assert_array_equal(vectors, found[0])
    np.testing.assert_array_equal(found[0][0], found[0][5])


def test_the_file_of_a_tower_gives_the_same_in_batches_of_any_size(folder: Path) -> None:
    import onnxruntime

    alone = Embedder.load(folder)
    frames = np.stack([read_pixels(picture(shift=one), ImageSide(size=SIZE)) for one in range(5)])
    session = onnxruntime.InferenceSession(str(folder / "image.onnx"), providers=["CPUExecutionProvider"])
    expected = [_raw(alone, picture(shift=one)) for one in range(5)]
    # This session computes with int8 as it likes.
    np.testing.assert_allclose(session.run(None, {"pixels": frames})[0], expected, atol=0.02)
    text = onnxruntime.InferenceSession(str(folder / "text.onnx"), providers=["CPUExecutionProvider"])
    ids = np.array([[2, 5, 6, 3], [2, 7, 3, 0]])
    both = text.run(None, {"ids": ids, "mask": (ids > 0).astype(np.int64)})[0]
    short = text.run(None, {"ids": ids[1:, :3], "mask": np.ones((1, 3), np.int64)})[0]
    np.testing.assert_allclose(both[1:], short, atol=1e-6)


def test_the_model_that_a_query_needs_is_all_that_is_loaded(tmp_path: Path) -> None:
    folder = make_towers(tmp_path)
    (folder / "image.onnx").write_bytes(b"damaged")
    model = Embedder.load(folder)
    assert model.encode_query("a cat").shape == (DIM,)
    with pytest.raises(ModelError, match=r"image\.onnx cannot be loaded"):
        model.encode(picture())


# --- texts


def test_a_long_text_is_the_mean_of_its_chunks_by_their_lengths(model: Embedder) -> None:
    # Word by word as many letters as a chunk has room for, then one more.
    whole = "ab cd ef gh ij kl mn"
    assert len(whole.replace(" ", "")) == MAX_TOKENS - 2
    assert _chunks(model, whole) == [16]
    longer = whole + " o"
    assert _chunks(model, longer) == [9, 10]
    parts = [_unit(_raw(model, half)) for half in ("ab cd ef g", "h ij kl mn o")]
    # The second chunk begins inside a word, where its first letter is another piece.
    assert _raw(model, longer) == pytest.approx(_pooled_by_hand(model, longer), abs=1e-6)
    assert _unit(_raw(model, longer)) @ _unit(parts[0] + parts[1]) > 0.9


def _chunks(model: Embedder, text: str) -> list[int]:
    [part] = _backbone(model).prepare(Item(text)).parts
    assert isinstance(part, ChunkedText)
    return [len(chunk) for chunk in part.chunks]


def _pooled_by_hand(model: Embedder, text: str) -> Vectors:
    import onnxruntime

    [part] = _backbone(model).prepare(Item(text)).parts
    assert isinstance(part, ChunkedText)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(
        str(Path(model.name) / "text.onnx"), options, providers=["CPUExecutionProvider"]
    )
    total, count = np.zeros(DIM), 0
    for chunk in part.chunks:
        [[vector]] = session.run(None, {"ids": np.array([chunk]), "mask": np.ones((1, len(chunk)), np.int64)})
        total += len(chunk) * _unit(vector)
        count += len(chunk)
    return np.asarray(total / count, np.float32)


def _backbone(model: Embedder) -> TowersBackbone:
    assert isinstance(model.backbone, TowersBackbone)
    return model.backbone


@pytest.mark.parametrize("overlap", [0, 3, 8])
def test_chunks_hold_every_word_piece_in_order_and_overlap_as_asked(folder: Path, overlap: int) -> None:
    words = WordPieces(folder / "tokenizer.json", TextSide(max_tokens=MAX_TOKENS, overlap=overlap))
    for length in range(1, 80):
        text = (LETTERS[:26] * 4)[:length]
        chunks = [chunk[1:-1] for chunk in words.chunks(text)]
        joined = chunks[0] + [piece for chunk in chunks[1:] for piece in chunk[overlap:]]
        # "a" alone is piece 4, inside a word pieces come behind all first ones.
        assert joined == [4] + [4 + len(LETTERS) + place % 26 for place in range(1, length)]
        assert all(a[len(a) - overlap :] == b[:overlap] for a, b in itertools.pairwise(chunks))
        assert max(map(len, chunks)) <= MAX_TOKENS - 2
        assert max(map(len, chunks)) - min(map(len, chunks)) <= 1


def test_a_text_of_megabytes_is_cut_with_a_warning_and_costs_what_its_beginning_costs(
    model: Embedder, caplog: pytest.LogCaptureFixture
) -> None:
    most = model.capabilities.max_tokens
    assert most == 64 * (MAX_TOKENS - 2)
    text = "ab " * 2_000_000
    with caplog.at_level(logging.WARNING, "vlm2vec"):
        vector = model.encode(text)
    assert f"cut at the model's limit of {most} word pieces" in caplog.text
    np.testing.assert_array_equal(vector, model.encode(text[: most // 2 * 3]))
    # Nearly nothing but white space: the few words behind it count.
    np.testing.assert_array_equal(model.encode(" " * 100_000 + "ab"), model.encode("ab"))


def test_a_text_may_hold_letters_that_are_unknown_but_not_these_alone(model: Embedder) -> None:
    assert np.isfinite(model.encode("a 🍕 cat")).all()
    with pytest.raises(InputError, match="holds no word or letter that this model knows"):
        model.encode("ประเทศไทย")


def test_an_instruction_is_not_read_and_a_prompt_stands_in_front(model: Embedder) -> None:
    bare = model.encode("a cat")
    np.testing.assert_array_equal(model.encode(Item("a cat", instruction="Find a dog.")), bare)
    np.testing.assert_array_equal(model.encode_query("a cat", target="page"), bare)
    np.testing.assert_array_equal(model.encode_document("a cat"), bare)
    np.testing.assert_array_equal(model.encode("cat", prompt="a"), bare)
    np.testing.assert_array_equal(model.encode(picture(), prompt="a"), model.encode(picture()))


# --- pictures, films, pages


def test_an_item_of_several_parts_is_the_mean_of_their_scaled_vectors(model: Embedder) -> None:
    first, second = picture(shift=1), picture(shift=2)
    words, one, two = (_unit(_raw(model, part)) for part in ("a red cat", first, second))
    both = Item("a <|media|>red <|media|>cat", (Image(first), Image(second)))
    assert _raw(model, both) == pytest.approx((words + one + two) / 3, abs=1e-6)
    assert _raw(model, Item(media=(Image(first), Image(second)))) == pytest.approx((one + two) / 2, abs=1e-6)


@pytest.mark.parametrize(("pool", "by_hand"), [("mean", np.mean), ("max", np.max)])
def test_a_film_is_pooled_from_its_frames(tmp_path: Path, pool: str, by_hand: Callable[..., Vectors]) -> None:
    model = Embedder.load(make_towers(tmp_path / "model", {"video": {"pool": pool, "num_frames": 3}}))
    film = write_video(tmp_path / "film.mp4", num_frames=9)
    frames = media.load_frames(Video(film), num_frames=3).images
    vectors = np.stack([_unit(_raw(model, frame)) for frame in frames])
    assert _raw(model, Video(film)) == pytest.approx(by_hand(vectors, axis=0), abs=1e-6)
    assert _raw(model, Video(frames[:1])) == pytest.approx(_raw(model, frames[0]), abs=1e-6)


@pytest.mark.parametrize(("end_s", "count"), [(3, 2), (44.9, 2), (45, 4), (60, 4), (3600, 4)])
def test_a_long_span_of_a_film_is_seen_in_more_frames(tmp_path: Path, folder: Path, end_s: float, count: int) -> None:
    film = write_video(tmp_path / "film.mp4", num_frames=20)
    [part] = TowersBackbone(folder, read_towers_config(folder)).prepare(Item(media=(Video(film, (0, end_s)),))).parts
    assert isinstance(part, Looks)
    assert part.frames.shape == (count, 3, *SIZE)


def test_a_page_is_its_picture_and_an_animation_a_film(model: Embedder, tmp_path: Path) -> None:
    (tmp_path / "page.pdf").write_bytes(pdf(["red", "blue"]))
    page = Image(tmp_path / "page.pdf", page=2)
    np.testing.assert_array_equal(model.encode(page), model.encode(media.render_page(page.source, 2)))
    picture(shift=1).save(tmp_path / "a.gif", save_all=True, append_images=[picture(shift=2)])
    frames = media.load_frames(Video(tmp_path / "a.gif"), num_frames=2).images
    np.testing.assert_array_equal(model.encode(Image(tmp_path / "a.gif")), model.encode(Video(frames)))


def test_memory_is_that_of_the_frames_of_a_long_span_and_of_a_large_jpeg_decoded_small(
    tmp_path: Path, folder: Path
) -> None:
    backbone = TowersBackbone(folder, read_towers_config(folder))
    film = write_video(tmp_path / "film.mp4", num_frames=20)
    # One more frame is being decoded.
    for end_s, count in ((3, 3), (60, 5)):
        assert backbone.weigh(Item(media=(Video(film, (0, end_s)),))) == count * 4 * 64 * 48
    # At least twice the tower's 40 x 32.
    large = Image(encoded(picture(800, 600), "JPEG"))
    assert backbone.weigh(Item("words", (large, large))) == 2 * 4 * 100 * 75


@pytest.mark.parametrize(("fit", "share", "size"), [("squash", 1, (100, 75)), ("crop", 0.5, (200, 150))])
def test_a_large_jpeg_is_decoded_small_and_gets_nearly_the_same_vector(
    tmp_path: Path, fit: str, share: float, size: tuple[int, int]
) -> None:
    side = {"size": SIZE, "fit": fit, "share": share}
    model = Embedder.load(make_towers(tmp_path / "model", {"image": side}))
    large = encoded(picture(800, 600), "JPEG", quality=95)
    assert model.backbone.weigh(Item(media=(Image(large),)), decoder=media) == 4 * size[0] * size[1]
    small, whole = model.encode([Image(large), PIL.Image.open(io.BytesIO(large))])
    assert float(small @ whole) == pytest.approx(1, abs=1e-3)
    assert not np.array_equal(small, whole)


def test_pictures_are_squashed_cropped_or_padded_to_one_size() -> None:
    # Left half red, right half blue, twice as wide as high.
    wide = PIL.Image.new("RGB", (80, 40), "red")
    wide.paste("blue", (40, 0, 80, 40))

    def seen(**how: object) -> list[list[tuple[int, ...]]]:
        pixels = read_pixels(wide, ImageSide(size=(8, 8), resample="bilinear", **how))  # type: ignore[arg-type]
        return [[tuple(int(one) for one in pixels[:, row, column]) for column in (0, 7)] for row in (0, 3, 7)]

    red, blue, grey = (255, 0, 0), (0, 0, 255), (127, 127, 127)
    assert seen(fit="squash") == [[red, blue]] * 3
    assert seen(fit="crop") == [[red, blue]] * 3
    assert seen(fit="pad") == [[grey, grey], [red, blue], [grey, grey]]
    edge = PIL.Image.new("RGB", (80, 40), "white")
    edge.paste("black", (22, 2, 58, 38))
    # The middle 36 x 36 pixels of it, and no more, are black; a filter reaches a little beyond them.
    assert read_pixels(edge, ImageSide(size=(16, 16), fit="crop", share=0.9)).max() < 50
    assert read_pixels(edge, ImageSide(size=(16, 16), fit="crop")).max() > 150


def test_a_picture_of_any_mode_and_shape_is_read(model: Embedder) -> None:
    for mode in ("1", "L", "P", "RGBA", "CMYK", "I;16"):
        assert np.isfinite(model.encode(PIL.Image.new(mode, (7, 5)))).all()
    for size in ((1, 1), (1, 5000), (5000, 1)):
        assert np.isfinite(model.encode(PIL.Image.new("RGB", size))).all()


# --- errors, settings, fingerprint


@pytest.mark.parametrize(
    ("item", "kind", "message"),
    [
        ("", InputError, "an item with neither text nor media"),
        (" \n\t", InputError, "an item with neither text nor media"),
        ("\u200b\u200d", InputError, "holds no word"),
        ("a \ud800 cat", InputError, "no character"),
        (Item("<|media|> and <|media|>", (Image(picture()),)), InputError, r"2 <\|media\|> marker\(s\) but 1 media"),
        (Image(b"no picture"), MediaError, "image"),
    ],
    ids=["empty", "space", "no word", "surrogate", "markers", "no picture"],
)
def test_an_item_that_makes_no_sense_is_refused(
    model: Embedder, item: ItemLike, kind: type[VLM2VecError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        model.encode(item)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"device": "cuda"}, ModelError, "device 'cuda' cannot be used: .* on the CPU alone"),
        ({"dtype": "bfloat16"}, ModelError, "dtype='bfloat16' cannot be used"),
        ({"prompt_style": "vlm2vec"}, StyleError, "prompt_style='vlm2vec': a model of two towers has none"),
        ({"max_pixels": 1000}, InputError, "max_pixels=1000: this model looks at every picture at 40 x 32 pixels"),
        ({"min_pixels": 10}, InputError, "min_pixels=10"),
        ({"max_frame_pixels": 10}, InputError, "max_frame_pixels=10"),
        ({"num_frames": 0}, InputError, "num_frames=0: it must be a whole number"),
    ],
)
def test_options_that_do_not_apply_are_refused(
    folder: Path, arguments: dict[str, object], kind: type[VLM2VecError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        Embedder.load(folder, **arguments)  # type: ignore[arg-type]


def test_an_adapter_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="a model of two towers takes no adapter"):
        Embedder.load(folder, adapter=tmp_path)


@pytest.mark.parametrize("name", ["image.onnx", "text.onnx", "tokenizer.json"])
def test_a_model_without_one_of_its_files_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    with pytest.raises(ModelError, match=f"holds no {name}"):
        Embedder.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 0}, "dim is 0"),
        ({"colour": 1}, "colour"),
        ({"image": {"fit": "stretch"}}, "image.fit is 'stretch'"),
        ({"text": {"max_tokens": 16, "overlap": 9}}, "overlap is 9: it must be at most half of max_tokens"),
    ],
)
def test_a_damaged_configuration_is_refused_with_its_fault(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ModelError, match=f"vlm2vec.json: .*{message}"):
        Embedder.load(make_towers(tmp_path, settings))


def test_a_tokenizer_of_another_kind_and_a_graph_of_other_dimensions_are_refused(tmp_path: Path) -> None:
    folder = make_towers(tmp_path / "a", {"dim": DIM + 1})
    with pytest.raises(ModelError, match=rf"'vectors' of {DIM + 1} dimensions are needed"):
        Embedder.load(folder).encode("a cat")
    tokenizer = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(tokenizer.replace("[SEP]", "[END]"))
    with pytest.raises(ModelError, match=r"has no token \[SEP\]"):
        Embedder.load(folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="is no tokenizer that can be read"):
        Embedder.load(folder)


def test_weights_that_are_no_numbers_are_an_error_of_the_model(tmp_path: Path) -> None:
    from support.tiny_towers import draw_towers
    from vlm2vec.model.families.towers_export import export_text

    folder = make_towers(tmp_path)
    tower, head = draw_towers().text
    head.linear.bias.data[:] = float("nan")
    (folder / "text.onnx").write_bytes(export_text(tower, head))
    with pytest.raises(VectorError, match="not finite"):
        Embedder.load(folder).encode("a cat")


def test_the_number_of_frames_is_a_choice_and_moves_the_fingerprint(folder: Path) -> None:
    model = Embedder.load(folder, num_frames=5)
    assert model.settings == Settings(normalize=True, num_frames=5)
    assert model.fingerprint != Embedder.load(folder).fingerprint
    assert model.fingerprint == Embedder.load(folder, num_frames=5).fingerprint
    assert with_wanted(read_towers_config(folder), Settings()) == read_towers_config(folder)


@pytest.mark.parametrize("name", ["image.onnx", "text.onnx", "tokenizer.json", "vlm2vec.json"])
def test_the_fingerprint_is_that_of_the_contents_of_all_files(folder: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    before = Embedder.load(copy).fingerprint
    assert before == Embedder.load(folder).fingerprint
    content = (copy / name).read_text("utf-8", "surrogateescape")
    changed = content.replace('"lowercase": true', '"lowercase": false').replace('"num_frames": 2', '"num_frames": 3')
    (copy / name).write_text(changed if name.endswith(".json") else content + " ", "utf-8", "surrogateescape")
    assert Embedder.load(copy).fingerprint != before


def test_capabilities_are_those_of_the_configuration(model: Embedder) -> None:
    found = model.capabilities
    assert (found.dim, found.matryoshka_dims, found.token_dim, found.trainable) == (DIM, (DIM, 16), None, False)
    assert found.kinds == {"text", "image", "video", "page"}
    with pytest.raises(ModelError, match="no token head"):
        model.encode_tokens(["a cat"])


def test_a_server_gets_the_same_vectors(model: Embedder) -> None:
    with model.pipeline() as pipeline:
        futures = [pipeline.submit(item, Ask("document")) for item in ITEMS]
        for future, expected in zip(futures, model.encode(ITEMS), strict=True):
            np.testing.assert_array_equal(future.result(60), expected)


# --- without torch

_BLOCKED = ("torch", "transformers", "safetensors", "peft", "lancedb", "pyarrow", "pandas", "scipy", "huggingface_hub")


def test_a_folder_is_indexed_and_searched_without_torch_and_all_that_is_large(folder: Path, tmp_path: Path) -> None:
    for number in range(3):
        picture(shift=number).save(tmp_path / f"{number}.png")
    (tmp_path / "page.pdf").write_bytes(pdf(["red", "blue"]))
    write_video(tmp_path / "film.mp4", num_frames=5)
    code = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {_BLOCKED}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
from vlm2vec import Embedder, Library
library = Library.open(sys.argv[1], model=Embedder.load(sys.argv[2]))
print(library.sync().embedded, len(library.search("a cat", 10)), len(library.similar(sys.argv[1] + "/1.png", 4)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "6 6 4\n", done.stderr
