"""What every model family promises, whatever it computes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from support.golden_cases import GOLDEN, MODEL, load_tiny
from support.places import ROOT
from support.tiny_towers import make_towers
from support.toy_family import make_toy
from vlm2vec.errors import InputError, MediaError, MissingError, ModelError, VLM2VecError
from vlm2vec.items import Image, Item, ItemLike, Video
from vlm2vec.model.backbone import FAMILIES, Ask
from vlm2vec.model.embedder import Embedder

PICTURE = GOLDEN / "inputs" / "img_square224.png"
SMALL = GOLDEN / "inputs" / "img_28.png"
ITEMS: list[ItemLike] = [
    "a cat",
    PICTURE,
    "a dog that runs over a field",
    Item("<|media|> as seen from above", (Image(SMALL),)),
    Video((SMALL, PICTURE)),
    SMALL,
    "a cat",
]


LOAD: dict[str, Callable[[Path], Embedder]] = {
    "qwen2_vl": lambda folder: load_tiny(),
    "toy": lambda folder: Embedder.load(make_toy(folder / "toy")),
    "towers": lambda folder: Embedder.load(make_towers(folder / "towers")),
}


@pytest.fixture(params=LOAD)
def family(request: pytest.FixtureRequest, tmp_path: Path) -> Embedder:
    """A small model of each family."""
    return LOAD[request.param](tmp_path)


def _near(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)


def test_every_family_is_tried_here() -> None:
    assert set(LOAD) == set(FAMILIES)


def test_a_vector_depends_neither_on_its_neighbours_nor_on_their_order(family: Embedder) -> None:
    vectors = family.encode(ITEMS)
    assert vectors.shape == (len(ITEMS), family.capabilities.dim)
    assert vectors.dtype == np.float32
    _near(np.stack([family.encode(item) for item in ITEMS]), vectors)
    order = [3, 0, 6, 5, 1, 4, 2]
    _near(family.encode([ITEMS[one] for one in order], workers=1), vectors[order])
    _near(family.encode(ITEMS, token_budget=1, workers=0), vectors)
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-3


def test_a_stream_gives_every_vector_or_error_once_under_its_position(family: Embedder, tmp_path: Path) -> None:
    items = [*ITEMS, "", tmp_path / "missing.png"]
    found = list(family.stream(iter(items)))
    assert sorted(position for position, _ in found) == list(range(len(items)))
    results = dict(found)
    assert [type(results[position]) for position in (7, 8)] == [InputError, MediaError]
    vectors = [vector for position, vector in sorted(found) if isinstance(vector, np.ndarray)]
    _near(np.stack(vectors), family.encode(ITEMS))


def test_submitted_items_get_the_vectors_that_encode_gives(family: Embedder) -> None:
    expected = family.encode_document(ITEMS)
    with family.pipeline() as pipeline, ThreadPoolExecutor(4) as callers:
        futures = list(callers.map(lambda item: pipeline.submit(item, Ask("document")), ITEMS * 3))
        for place, future in enumerate(futures):
            _near(future.result(60), expected[place % len(ITEMS)])
        # The same threads serve a stream meanwhile.
        streamed = [one for _, one in pipeline.stream(ITEMS[:1], Ask("document")) if isinstance(one, np.ndarray)]
        _near(np.stack(streamed), expected[:1])


def test_length_one_is_the_checkpoints_choice_and_truncation_comes_first(family: Embedder) -> None:
    assert family.settings.normalize
    raw = family.encode("a cat", normalize_embeddings=False)
    _near(family.encode("a cat"), raw / np.linalg.norm(raw))
    _near(family.encode("a cat", truncate_dim=12), raw[:12] / np.linalg.norm(raw[:12]))


def test_tokens_have_a_vector_each_where_the_family_has_such(family: Embedder) -> None:
    if family.capabilities.token_dim is None:
        with pytest.raises(ModelError, match="has no token head"):
            family.encode_tokens(["a cat"])
        return
    tokens = family.encode_tokens(["a cat", PICTURE])
    assert [one.shape for one in tokens] == [(2, family.token_dim), (1, family.token_dim)]
    assert family.late_similarity(tokens, tokens)[0, 0] == pytest.approx(2)
    assert family.encode_tokens(["a cat"], truncate_dim=18, precision="int8")[0].shape == (2, 18)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.encode(["a", ""]), "item 1 of 2: an item with neither"),
        (lambda e: e.encode(["a", Path("missing.png")]), "item 1 of 2: "),
        (lambda e: e.encode(b"bytes"), "bytes do not say what they are"),
        (lambda e: e.encode("a", prompt=3), "prompt is 3"),
        (lambda e: e.encode_query("a", target="word"), "target is 'word'"),
        (lambda e: e.encode("a", truncate_dim=0), "truncate_dim=0: this model's vectors have 1 to "),
        (lambda e: e.encode("a", precision="int4"), "precision='int4' is unknown"),
        (lambda e: e.pipeline(truncate_dim=10_000), "truncate_dim=10000: this model's vectors have 1 to "),
    ],
)
def test_what_makes_no_sense_is_refused(family: Embedder, call: Callable[[Embedder], object], message: str) -> None:
    with pytest.raises(VLM2VecError, match=f"^{re.escape(message)}"):
        call(family)


def test_the_fingerprint_moves_with_the_weights_alone(tmp_path: Path, model_copy: Path) -> None:
    toys = [Embedder.load(make_toy(tmp_path / "toy", weight=weight)).fingerprint for weight in (1, 1, 2)]
    assert toys[0] == toys[1] != toys[2]
    before = load_tiny(model_copy)
    weights = bytearray((model_copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model_copy / "model.safetensors").write_bytes(weights)
    assert before.fingerprint == load_tiny(MODEL).fingerprint != load_tiny(model_copy).fingerprint


def test_a_checkpoint_of_an_unknown_family_is_refused(tmp_path: Path) -> None:
    make_toy(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match=r"is a model of type 'bert'; known are 'qwen2_vl', 'towers'"):
        Embedder.load(tmp_path)


def test_a_family_of_arrays_needs_no_torch(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None
import support.toy_family
from vlm2vec import Embedder
embedder = Embedder.load(sys.argv[1])
vectors = embedder.encode_document(["a cat", "a dog"])
print(vectors.shape, embedder.similarity(vectors, vectors).shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(make_toy(tmp_path))],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "(2, 19) (2, 2)\n", done.stderr


def test_a_family_of_torch_says_which_extra_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "vlm2vec.model.families.qwen_vl")
    monkeypatch.setitem(sys.modules, "torch", None)
    told = r"^torch is not installed, which .* needs; install it: pip install 'vlm2vec\[models\]'$"
    with pytest.raises(MissingError, match=told):
        load_tiny()
