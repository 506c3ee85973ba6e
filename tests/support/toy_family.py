"""A model family of some forty lines, numpy alone: the mean colour of pictures, and a bag of words."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

from vlm2vec import media
from vlm2vec.errors import InputError
from vlm2vec.items import Item, Kind
from vlm2vec.media.sandbox import Decoder
from vlm2vec.model.backbone import FAMILIES, Ask, Backbone, Capabilities, Output, Vectors
from vlm2vec.model.checkpoint import Folders, Settings, read_json

WORDS = 16
FAMILIES["toy"] = f"{__name__}:load"


class ToyInput(NamedTuple):
    """A row of length one for each word, and one for each medium."""

    rows: Vectors
    cost: int


@dataclass
class Toy(Backbone[ToyInput, Sequence[ToyInput]]):
    """Three numbers for the colour and 16 for words; the vectors of tokens are those of words and media."""

    settings: Settings
    weights: Vectors
    capabilities = Capabilities(3 + WORDS, 3 + WORDS, frozenset(get_args(Kind)), trainable=False, max_tokens=100)

    def prepare(self, item: Item, ask: Ask, *, decoder: Decoder = media) -> ToyInput:
        words = re.findall(r"\w+", item.text.lower())[: self.capabilities.max_tokens]
        if not words and not item.media:
            raise InputError("an item with neither words nor media cannot be embedded; give it one of them")
        rows = np.zeros((len(words) + len(item.media), 3 + WORDS), np.float32)
        rows[np.arange(len(words)), [3 + zlib.crc32(word.encode()) % WORDS for word in words]] = 1
        for row, medium in zip(rows[len(words) :], item.media, strict=True):
            frames = decoder.load_frames(decoder.resolve(medium), num_frames=2).images
            row[:3] = np.mean([np.asarray(frame.convert("RGB")).mean((0, 1)) / 255 + 0.01 for frame in frames], axis=0)
        return ToyInput(rows / np.linalg.norm(rows, axis=1, keepdims=True), len(rows))

    def pack(self, prepared: Sequence[ToyInput]) -> Sequence[ToyInput]:
        return prepared

    def encode(self, packs: Iterable[Sequence[ToyInput]], output: Output) -> Iterator[list[Vectors]]:
        for pack in packs:
            yield [one.rows if output == "tokens" else self.weights * one.rows.sum(0) for one in pack]

    def states(self) -> Sequence[object]:
        return ["toy", self.settings.said(), self.weights.tolist()]


def load(folders: Folders, wanted: Settings, *, device: str | None, dtype: str) -> Toy:
    """The toy of a folder whose config.json holds its weights."""
    settings = wanted.over(Settings(normalize=True, num_frames=2))
    return Toy(settings, np.array(read_json(folders.base / "config.json")["weights"], np.float32))


def make_toy(folder: Path, *, weight: float = 1.0) -> Path:
    """A checkpoint of the toy."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = [1.0] * (2 + WORDS) + [weight]
    (folder / "config.json").write_text(json.dumps({"model_type": "toy", "weights": weights}), "utf-8")
    return folder
