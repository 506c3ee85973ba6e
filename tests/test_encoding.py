"""Each different item is encoded once, and what was made is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from golden_cases import GOLDEN, MODEL
from vlm2vec.errors import InputError, MediaError, VLM2VecError
from vlm2vec.items import Item, ItemLike
from vlm2vec.model.embedder import Embedder, Vectors
from vlm2vec.vectors.encoding import encode_with_store
from vlm2vec.vectors.store import VectorStore

PICTURE = GOLDEN / "inputs" / "img_28.png"


@dataclass
class Lengths:
    """A model whose vector says how long a text is; it remembers what it was asked."""

    fingerprint: str = "lengths"
    dim: int = 2
    seen: list[ItemLike] = field(default_factory=list)

    def stream(
        self,
        items: Iterable[ItemLike],
        *,
        role: str | None = None,
        target: str | None = None,
        prompt: str | None = None,
    ) -> Iterator[tuple[int, Vectors | VLM2VecError]]:
        # Last first: nothing promises an order.
        for position, item in reversed(list(enumerate(items))):
            self.seen.append(item)
            yield position, _error(str(item)) or np.array([len(str(item)), 1], dtype=np.float32)


def _error(text: str) -> VLM2VecError | None:
    return InputError("it is bad") if text == "bad" else None


def test_each_different_item_is_encoded_once_and_then_never_again(tmp_path: Path) -> None:
    model, store = Lengths(), VectorStore.open(tmp_path, 2)
    progress: list[tuple[int, int]] = []

    def encode(items: list[str]) -> list[list[float]]:
        progress.clear()
        return encode_with_store(
            model, items, store=store, on_progress=lambda done, total: progress.append((done, total))
        ).tolist()

    assert encode(["a", "bbb", "a"]) == [[1, 1], [3, 1], [1, 1]]
    assert (model.seen, progress) == (["bbb", "a"], [(0, 3), (1, 3), (3, 3)])
    assert encode(["cc", "a"]) == [[2, 1], [1, 1]]
    assert (model.seen, progress) == (["bbb", "a", "cc"], [(1, 2), (2, 2)])
    store = VectorStore.open(tmp_path, 2)
    assert encode(["a", "bbb", "cc"]) == [[1, 1], [3, 1], [2, 1]]
    assert (len(model.seen), progress) == (3, [(3, 3)])
    assert encode([]) == []


def test_another_model_or_prompt_never_gets_a_stored_vector(tmp_path: Path) -> None:
    store, first = VectorStore.open(tmp_path, 2), Lengths()
    encode_with_store(first, ["a"], store=store)
    for model, arguments in (
        (Lengths(fingerprint="other"), {}),
        (first, {"role": "query"}),
        (first, {"role": "query", "target": "page"}),
        (first, {"prompt": ""}),
    ):
        before = len(model.seen)
        encode_with_store(model, ["a"], store=store, **arguments)  # type: ignore[arg-type]
        assert len(model.seen) == before + 1
    assert len(store) == 5


def test_a_stored_vector_is_the_embedders_own(own: Embedder, tmp_path: Path) -> None:
    store = VectorStore.open(tmp_path, own.dim)
    items: list[ItemLike] = ["a cat", PICTURE, Item("a cat", instruction="Mine:")]
    for _ in range(2):
        query = encode_with_store(own, items, store=store, role="query", target="page")
        document = encode_with_store(own, items, store=store, role="document")
        plain = encode_with_store(own, items, store=store, prompt="Yours:")
        np.testing.assert_allclose(query, own.encode_query(items, target="page"), rtol=0, atol=2e-6)
        np.testing.assert_allclose(document, own.encode_document(items), rtol=0, atol=2e-6)
        np.testing.assert_allclose(plain, own.encode(items, prompt="Yours:"), rtol=0, atol=2e-6)
    assert len(store) == 9


def test_changed_pixel_limits_reuse_no_vector(own: Embedder, tmp_path: Path) -> None:
    small = Embedder.load(MODEL, prompt_style="qwen2-vl", device="cpu", max_pixels=12_544)
    store = VectorStore.open(tmp_path, own.dim)
    for embedder in (own, small):
        stored = encode_with_store(embedder, [GOLDEN / "inputs" / "img_640x480.png"], store=store)
        np.testing.assert_allclose(stored[0], embedder.encode(GOLDEN / "inputs" / "img_640x480.png"), rtol=0, atol=2e-6)
    assert len(store) == 2


def test_an_item_that_fails_is_named_and_what_was_done_is_kept(tmp_path: Path) -> None:
    model, store = Lengths(), VectorStore.open(tmp_path, 2)
    with pytest.raises(InputError, match=r"^rows\.jsonl:1: it is bad$"):
        encode_with_store(model, ["bad", "good"], store=store, origins=["rows.jsonl:1", "rows.jsonl:2"])
    with pytest.raises(MediaError, match=r"^item 1 of 2: .*missing\.png cannot be read as an image"):
        encode_with_store(model, ["new", tmp_path / "missing.png"], store=store)
    encode_with_store(model, ["good"], store=VectorStore.open(tmp_path, 2))
    assert model.seen == ["good", "bad"]


def test_a_vector_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    class Broken(Lengths):
        def stream(self, items: Iterable[ItemLike], **arguments: object) -> Iterator[tuple[int, Vectors]]:
            for position, _ in enumerate(items):
                yield position, np.array([np.nan, 1], dtype=np.float32)

    store = VectorStore.open(tmp_path, 2)
    with pytest.raises(InputError, match="item 0 of 1: the vector that the model makes of it is not finite"):
        encode_with_store(Broken(), ["a"], store=store)
    assert len(store) == 0


def test_a_store_of_another_dimension_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="was opened for 3 dimensions, the model has 2"):
        encode_with_store(Lengths(), ["a"], store=VectorStore.open(tmp_path, 3))
