"""A model of two towers as small as it can be, drawn at random and exported as a real one is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from vlm2vec.model.families.towers_export import export
from vlm2vec.model.families.towers_inputs import TowersConfig, read_towers_config
from vlm2vec.model.families.towers_torch import ImageHead, ImageShape, ImageTower, TextHead, TextShape, TextTower
from vlm2vec.model.families.towers_trainable import TowersShape, TrainableTowers

DIM = 32
MAX_TOKENS = 16
SIZE = (32, 40)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:?!"
IMAGE = ImageShape(8, ((1, 3, 1, 1, 8), (2, 3, 2, 2, 12), (2, 5, 2, 3, 16)), 24, 10)
TEXT = TextShape(2 * len(LETTERS) + 4, 64, 24, 2, 3, 48)


class Towers(NamedTuple):
    """The modules of a model."""

    image: tuple[ImageTower, ImageHead]
    text: tuple[TextTower, TextHead]


def draw_towers(seed: int = 0) -> Towers:
    """Towers of a few thousand parameters, with every kind of block."""
    torch.manual_seed(seed)
    image, text = ImageTower(IMAGE), TextTower(TEXT)
    for module in image.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # As after training, so that folding has something to do.
            module.state_dict()["running_mean"].uniform_(-0.2, 0.2)
            module.state_dict()["running_var"].uniform_(0.5, 2)
            module.state_dict()["weight"].uniform_(0.5, 1.5)
    heads = ImageHead(24, 10, hidden=20, dim=DIM, names_dim=16), TextHead(24, DIM, hidden=12)
    towers = Towers((image, heads[0]), (text, heads[1]))
    for module in (*towers.image, *towers.text):
        module.eval().requires_grad_(False)
    return towers


def make_towers(
    folder: Path, settings: Mapping[str, object] | None = None, *, seed: int = 0, small: bool = True
) -> Path:
    """A folder of such a model.

    Args:
        settings: of its `vlm2vec.json`, beside those that it must have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    towers = draw_towers(seed)
    letters_tokenizer().save(str(folder / "tokenizer.json"))
    said = {
        "family": "towers",
        "dim": DIM,
        "matryoshka_dims": [DIM, 16],
        "image": {"size": SIZE},
        "text": {"max_tokens": MAX_TOKENS},
        "video": {"num_frames": 2},
    }
    (folder / "vlm2vec.json").write_text(json.dumps({**said, **(settings or {})}), "utf-8")
    export(folder, towers.image, towers.text, TowersConfig.model_validate(said), small=small)
    return folder


def make_trainable(folder: Path, *, seed: int = 0) -> Path:
    """A folder from which training can start."""
    make_towers(folder, seed=seed)
    config = read_towers_config(folder)
    model = TrainableTowers(config, TowersShape(IMAGE, TEXT, 20, 12, 16), folder)
    image, text = draw_towers(seed)
    for part, module in zip(model.parameter_parts().values(), (image[0], text[0], image[1], text[1]), strict=True):
        part.load_state_dict(module.state_dict())
    model.save(folder)
    return folder


def letters_tokenizer() -> Tokenizer:
    """WordPiece whose pieces are single letters: a word of five letters is five tokens."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    tokenizer = Tokenizer(models.WordPiece({piece: place for place, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # As a checkpoint may say; a model must not follow it.
    tokenizer.enable_truncation(8)
    return tokenizer
