"""Towers of torch: the same as those that their weights come from, as their own export, and when they are trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from support.media_files import picture
from support.tiny_towers import DIM, MAX_TOKENS, SIZE, Towers, draw_towers, letters_tokenizer, make_towers
from vlm2vec.errors import InputError, ModelError
from vlm2vec.items import Image, Item, ItemLike, Video, as_item
from vlm2vec.model.backbone import Vectors
from vlm2vec.model.checkpoint import Folders, Settings
from vlm2vec.model.embedder import Embedder
from vlm2vec.model.families.towers_export import export_image, export_text, rows_in_int8
from vlm2vec.model.families.towers_features import FrozenFeatures
from vlm2vec.model.families.towers_inputs import ImageSide, TextSide, TowersConfig, VideoSide
from vlm2vec.model.families.towers_torch import (
    ImageShape,
    ImageTower,
    TextShape,
    load_image_tower,
    load_text_tower,
    same_padding,
)
from vlm2vec.model.families.towers_trainable import TowersShape, TrainableTowers, load_trainable

PIXELS = torch.randint(0, 256, (3, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
IDS = torch.tensor([[2, 5, 60, 7, 3], [2, 30, 3, 0, 0]])
MASK = (IDS > 0).long()


def _run(file: bytes, **inputs: torch.Tensor) -> Vectors:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    vectors: Vectors = session.run(["vectors"], {name: value.numpy() for name, value in inputs.items()})[0]
    return vectors


def _by_torch(towers: Towers) -> tuple[Vectors, Vectors]:
    (tower, head), (reader, text_head) = towers
    with torch.no_grad():
        return head(*tower(PIXELS)).numpy(), text_head(reader(IDS, MASK)).numpy()


# --- against what they were written after


def test_the_text_tower_is_bert_with_mean_pooling(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=20,
        hidden_act="gelu",
        initializer_range=0.5,
    )
    bert = BertModel(config).eval()
    save_file(bert.state_dict(), tmp_path / "model.safetensors")
    tower = load_text_tower(tmp_path / "model.safetensors", TextShape(50, 20, 24, 2, 3, 40))
    ids = IDS.clamp(max=49)
    with torch.no_grad():
        states = bert(input_ids=ids, attention_mask=MASK).last_hidden_state
        expected = (states * MASK[..., None]).sum(1) / MASK.sum(1, keepdim=True)
        torch.testing.assert_close(tower(ids, MASK), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        (224, 3, 2, (0, 1)),
        (14, 5, 2, (1, 2)),
        (7, 5, 1, (2, 2)),
        (7, 3, 2, (1, 1)),
        (7, 1, 1, (0, 0)),
        (5, 1, 2, (0, 0)),
    ],
)
def test_padding_puts_the_larger_half_behind(size: int, kernel: int, stride: int, padding: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == padding


def test_weights_of_an_image_tower_are_found_under_their_published_names(tmp_path: Path) -> None:
    shape = ImageShape(4, ((1, 3, 1, 1, 4), (1, 3, 2, 2, 6)), 8, 5)
    tower = ImageTower(shape)
    stored = {}
    for name, value in tower.state_dict().items():
        published = name
        for ours, theirs in (
            *(("stem.conv", "_conv_stem"), ("stem.norm", "_bn0"), ("last.conv", "_conv_head"), ("last.norm", "_bn1")),
            *(("classes", "_fc"), ("blocks", "_blocks"), ("expand.conv", "_expand_conv"), ("expand.norm", "_bn0")),
            *(("depthwise.conv", "_depthwise_conv"), ("depthwise.norm", "_bn1")),
            *(("project.conv", "_project_conv"), ("project.norm", "_bn2")),
        ):
            published = published.replace(ours, theirs)
        stored[published] = value
    assert "_blocks.1._bn1.running_var" in stored
    torch.save(stored, tmp_path / "weights.pth")
    loaded = load_image_tower(tmp_path / "weights.pth", shape)
    assert all(torch.equal(value, tower.state_dict()[name]) for name, value in loaded.state_dict().items())
    with pytest.raises(ModelError, match="do not fit the tower"):
        load_image_tower(tmp_path / "weights.pth")


def test_files_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "no.pth").write_bytes(b"no weights")
    with pytest.raises(ModelError, match=r"no\.pth cannot be read as weights of torch"):
        load_image_tower(tmp_path / "no.pth")
    with pytest.raises(ModelError, match=r"no\.pth cannot be read as weights"):
        load_text_tower(tmp_path / "no.pth")
    with pytest.raises(ModelError, match="cannot be read"):
        load_text_tower(tmp_path / "missing.safetensors")


# --- the export


@pytest.mark.parametrize("seed", [0, 1])
def test_an_export_in_float32_gives_the_vectors_of_torch(seed: int) -> None:
    towers = draw_towers(seed)
    images, texts = _by_torch(towers)
    np.testing.assert_allclose(_run(export_image(*towers.image, SIZE, small=False), pixels=PIXELS), images, atol=1e-5)
    np.testing.assert_allclose(_run(export_text(*towers.text, small=False), ids=IDS, mask=MASK), texts, atol=1e-5)


def test_an_export_in_int8_is_near_to_it_and_a_fraction_of_the_size() -> None:
    towers = draw_towers()
    for expected, small, large, inputs in zip(
        _by_torch(towers),
        (export_image(*towers.image, SIZE), export_text(*towers.text)),
        (export_image(*towers.image, SIZE, small=False), export_text(*towers.text, small=False)),
        ({"pixels": PIXELS}, {"ids": IDS, "mask": MASK}),
        strict=True,
    ):
        found = _run(small, **inputs)
        cosines = F.cosine_similarity(torch.from_numpy(found), torch.from_numpy(expected))
        assert cosines.min() > 0.999
        assert len(small) < 0.7 * len(large)


def test_without_a_head_the_export_gives_features() -> None:
    (tower, _), (reader, _) = draw_towers()
    with torch.no_grad():
        features, words = tower(PIXELS)[0].numpy(), reader(IDS, MASK).numpy()
    np.testing.assert_allclose(_run(export_image(tower, None, SIZE, small=False), pixels=PIXELS), features, atol=1e-5)
    np.testing.assert_allclose(_run(export_text(reader, None, small=False), ids=IDS, mask=MASK), words, atol=1e-5)


def test_a_row_in_int8_reaches_to_127_and_a_row_of_zeros_stays_one() -> None:
    rounded, scale = rows_in_int8(np.array([[0.5, -1.0, 0.004], [0, 0, 0]], np.float32))
    assert rounded.tolist() == [[64, -127, 1], [0, 0, 0]]
    assert scale[0] == np.float32(1 / 127)


# --- as one module that is trained

CONFIG = TowersConfig(
    family="towers",
    dim=DIM,
    matryoshka_dims=(DIM, 16),
    image=ImageSide(size=SIZE),
    text=TextSide(max_tokens=MAX_TOKENS),
    video=VideoSide(num_frames=2),
)
SHAPE = TowersShape(
    ImageShape(8, ((1, 3, 1, 1, 8), (2, 3, 2, 2, 12)), 24, 10), TextShape(86, 64, 24, 2, 3, 48), 20, 12, 16
)
ITEMS: list[ItemLike] = [
    "a cat",
    picture(),
    "abc " * 30,
    Item("a dog that runs over a field", (Image(picture(shift=1)), Image(picture(shift=4)))),
    Video((picture(shift=2), picture(shift=3))),
]


@pytest.fixture
def trainable(tmp_path: Path) -> TrainableTowers:
    torch.manual_seed(0)
    letters_tokenizer().save(str(tmp_path / "tokenizer.json"))
    model = TrainableTowers(CONFIG, SHAPE, tmp_path).eval().requires_grad_(False)
    model.save(tmp_path)
    return model


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_the_module_gives_the_vectors_that_its_export_gives(trainable: TrainableTowers, pool: str) -> None:
    folder = trainable.folder
    config = json.loads((folder / "vlm2vec.json").read_text()) | {"video": {"pool": pool, "num_frames": 2}}
    (folder / "vlm2vec.json").write_text(json.dumps(config))
    by_torch = Embedder(load_trainable(Folders(folder, None, ()), Settings()).eval(), name="torch")
    by_onnx = Embedder.load(folder)
    cosines = (by_torch.encode(ITEMS) * by_onnx.encode(ITEMS)).sum(1)
    assert cosines.min() > 0.999
    assert by_torch.capabilities.trainable
    assert by_torch.capabilities.dim == by_onnx.capabilities.dim
    raw = by_torch.encode(ITEMS, normalize_embeddings=False)
    assert (
        np.abs(
            np.linalg.norm(raw, axis=1) - np.linalg.norm(by_onnx.encode(ITEMS, normalize_embeddings=False), axis=1)
        ).max()
        < 0.01
    )
    for one, vector in zip(ITEMS, raw, strict=True):
        np.testing.assert_allclose(by_torch.encode(one, normalize_embeddings=False), vector, atol=2e-6)


def test_features_of_frozen_towers_give_the_same_vectors_and_gradients(trainable: TrainableTowers) -> None:
    pack = trainable.pack([trainable.prepare(as_item(item)) for item in ITEMS])
    assert pack.num_tokens == sum(pack.lengths)
    for part in ("image_head", "text_head"):
        trainable.parameter_parts()[part].requires_grad_(True)
    features = trainable.frozen_features(pack)
    assert features is not None
    assert not features.requires_grad
    torch.testing.assert_close(trainable(pack, features).pooled, trainable(pack).pooled, atol=1e-5, rtol=0)
    trainable(pack, features).pooled.square().sum().backward()
    trained = {name.split(".")[0] for name, one in trainable.named_parameters() if one.grad is not None}
    assert trained == {"image_head", "text_head"}
    trainable.text_tower.requires_grad_(True)
    assert trainable.frozen_features(pack) is None


def test_features_are_made_once_and_anew_when_a_tower_has_changed(trainable: TrainableTowers) -> None:
    pack = trainable.pack([trainable.prepare(as_item(item)) for item in (*ITEMS, "a cat", picture())])
    different = {one.numpy().tobytes() for one in (*pack.pixels, *pack.ids)}
    frozen = trainable._frozen
    before = trainable.frozen_features(pack)
    assert frozen.made == len(different) < len(pack.pixels) + len(pack.ids)
    again = trainable.frozen_features(trainable.pack([trainable.prepare(as_item("a cat"))]))
    assert frozen.made == len(different)
    assert before is not None
    assert again is not None
    first_text = len(pack.pixels) * 24
    assert torch.equal(again, before[first_text : first_text + 24])
    with torch.no_grad():
        trainable.text_tower.norm.weight.mul_(2)
    after = trainable.frozen_features(pack)
    assert after is not None
    assert not torch.equal(after, before)
    torch.testing.assert_close(trainable(pack, after).pooled, trainable(pack).pooled, atol=1e-5, rtol=0)


def test_features_beyond_a_limit_are_forgotten_but_right() -> None:
    (image, _), (text, _) = draw_towers()
    small, large = (FrozenFeatures(image, text, SIZE, most=most) for most in (4, 100))
    for _ in range(3):
        for found, expected in zip(*(one.of(PIXELS.numpy(), []) for one in (small, large)), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert (small.made, large.made) == (9, 3)


def test_a_pack_may_hold_texts_alone_or_pictures_alone(trainable: TrainableTowers) -> None:
    whole = trainable(trainable.pack([trainable.prepare(as_item(item)) for item in ITEMS[:2]])).pooled
    for place in range(2):
        pack = trainable.pack([trainable.prepare(as_item(ITEMS[place]))])
        features = trainable.frozen_features(pack)
        torch.testing.assert_close(trainable(pack, features).pooled[0], whole[place], atol=1e-5, rtol=0)


def test_training_leaves_statistics_of_batch_norms_alone_and_heads_are_noisy(trainable: TrainableTowers) -> None:
    trainable.image_head.noise, trainable.image_head.dropout.p = 0.3, 0.4
    pack = trainable.pack([trainable.prepare(as_item(item)) for item in (picture(), picture(shift=1))])
    before = {name: value.clone() for name, value in trainable.state_dict().items()}
    trainable.train()
    assert (trainable(pack).pooled - trainable(pack).pooled).abs().max() > 1e-3
    assert all(torch.equal(value, before[name]) for name, value in trainable.state_dict().items())
    trainable.eval()
    assert torch.equal(trainable(pack).pooled, trainable(pack).pooled)


def test_a_saved_model_is_loaded_to_the_bit_and_says_what_is_missing(trainable: TrainableTowers) -> None:
    folder = trainable.folder
    folders = Folders(folder, None, ())
    loaded = load_trainable(folders, Settings(num_frames=3))
    assert loaded.settings.num_frames == 3
    assert all(torch.equal(value, trainable.state_dict()[name]) for name, value in loaded.state_dict().items())
    with pytest.raises(InputError, match="max_pixels=5"):
        load_trainable(folders, Settings(max_pixels=5))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"the weights of .*model\.safetensors cannot be loaded"):
        load_trainable(folders, Settings())
    (folder / "config.json").write_text('{"model_type": "towers", "image": 3}')
    with pytest.raises(ModelError, match=r"config\.json: .*image"):
        load_trainable(folders, Settings())
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        load_trainable(folders, Settings())


def test_a_model_for_search_alone_needs_no_weights_to_train_on(tmp_path: Path) -> None:
    folder = make_towers(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [
        "image.onnx",
        "text.onnx",
        "tokenizer.json",
        "vlm2vec.json",
    ]
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        load_trainable(Folders(folder, None, ()), Settings())
