"""The default model as it ships: its vectors are those it was measured with, and it knows everyday things."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.default_goldens import CASES, SAMPLES, stored, vectors_of
from vlm2vec import Embedder
from vlm2vec.model.backbone import Vectors
from vlm2vec.model.checkpoint import SHIPPED, is_shipped
from vlm2vec.model.families.towers import TowersBackbone
from vlm2vec.model.families.towers_inputs import read_towers_config

FOLDER = SHIPPED["bundled"]
MOST_BYTES = 45_000_000


@pytest.fixture(scope="module")
def model() -> Embedder:
    return Embedder.load()


def test_its_vectors_are_those_that_it_had_when_its_weights_were_final(model: Embedder) -> None:
    """Another decoder or runtime may move them a little."""
    expected, found = stored(), vectors_of(model)
    assert expected.keys() == found.keys() == CASES.keys()
    assert {name: round(float(found[name] @ expected[name]), 3) for name in CASES} == dict.fromkeys(CASES, 1.0)


def test_vectors_are_the_same_to_the_bit_on_any_number_of_cores(model: Embedder) -> None:
    found = vectors_of(model)
    for num_threads in (1, 3):
        backbone = TowersBackbone(FOLDER, read_towers_config(FOLDER), num_threads=num_threads)
        for name, vector in vectors_of(Embedder(backbone, name="bundled")).items():
            np.testing.assert_array_equal(vector, found[name])


def test_it_is_small_and_complete() -> None:
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert {"image.onnx", "text.onnx", "tokenizer.json", "vlm2vec.json", "README.md"} == files.keys()
    assert is_shipped("bundled")
    assert sum(files.values()) <= MOST_BYTES


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("a slice of pizza", "objects/slice_of_pizza.webp"),
        ("a cup of coffee", "photos/coffee.jpg"),
        ("an umbrella", "objects/umbrella.webp"),
        ("a violin", "drawings/violin.png"),
        ("a bicycle", "objects/bicycle.webp"),
        ("a birthday cake", "drawings/birthday_cake.png"),
    ],
)
def test_it_knows_everyday_things(model: Embedder, pictures: dict[str, Vectors], question: str, name: str) -> None:
    asked = model.encode_query(question, target="image")
    ranked = sorted(pictures, key=lambda one: -float(asked @ pictures[one]))
    assert name in ranked[:2]


@pytest.fixture(scope="module")
def pictures(model: Embedder) -> dict[str, Vectors]:
    """The vectors of the samples that are pictures, by their paths."""
    paths = sorted(path for path in SAMPLES.rglob("*") if path.suffix in (".jpg", ".png", ".webp"))
    names = [Path(path).relative_to(SAMPLES).as_posix() for path in paths]
    return dict(zip(names, model.encode(paths), strict=True))
