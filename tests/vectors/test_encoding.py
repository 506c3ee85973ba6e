"""Each different item is encoded once, and what was made is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from support.evaluation_runs import Together, in_threads
from support.golden_cases import GOLDEN, MODEL
from vlm2vec.errors import ConfigError, InputError, MediaError, VLM2VecError
from vlm2vec.items import Item, ItemLike
from vlm2vec.model.backbone import Ask
from vlm2vec.model.embedder import Embedder, Vectors
from vlm2vec.vectors import encoding
from vlm2vec.vectors.encoding import TokenVectors, encode_with_store, store_vectors
from vlm2vec.vectors.store import VectorStore
from vlm2vec.vectors.token_store import TokenStore

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
        ask: Ask = Ask(),
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
        (first, {"ask": Ask("query")}),
        (first, {"ask": Ask("query", "page")}),
        (first, {"ask": Ask(prompt="")}),
    ):
        before = len(model.seen)
        encode_with_store(model, ["a"], store=store, **arguments)  # type: ignore[arg-type]
        assert len(model.seen) == before + 1
    assert len(store) == 5


def test_a_stored_vector_is_the_embedders_own(own: Embedder, tmp_path: Path) -> None:
    store = VectorStore.open(tmp_path, own.dim)
    items: list[ItemLike] = ["a cat", PICTURE, Item("a cat", instruction="Mine:")]
    for _ in range(2):
        query = encode_with_store(own, items, store=store, ask=Ask("query", "page"))
        document = encode_with_store(own, items, store=store, ask=Ask("document"))
        plain = encode_with_store(own, items, store=store, ask=Ask(prompt="Yours:"))
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
        def stream(
            self, items: Iterable[ItemLike], ask: Ask = Ask(), **arguments: object
        ) -> Iterator[tuple[int, Vectors]]:
            for position, _ in enumerate(items):
                yield position, np.array([np.nan, 1], dtype=np.float32)

    store = VectorStore.open(tmp_path, 2)
    with pytest.raises(InputError, match="item 0 of 1: the vector that the model makes of it is not finite"):
        encode_with_store(Broken(), ["a"], store=store)
    assert len(store) == 0


def test_a_store_of_another_dimension_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="was opened for 3 dimensions, the model has 2"):
        encode_with_store(Lengths(), ["a"], store=VectorStore.open(tmp_path, 3))


# Several processes


class Faulty(VectorStore):
    """A store that fails in ways that are set after it was opened."""

    fail_put = 0
    fail_refresh = 0
    hide = 0

    def put(self, keys: Sequence[bytes], vectors: Vectors | Sequence[Vectors]) -> None:
        if self.fail_put:
            self.fail_put -= 1
            raise ConfigError("the disk is full")
        super().put(keys, vectors)

    def refresh(self) -> None:
        if self.fail_refresh:
            self.fail_refresh -= 1
            raise ConfigError("the folder has gone")
        if self.hide:
            self.hide -= 1
        else:
            super().refresh()


TEXTS = ["a", "bb", "ccc", "dddd"]


def _both(stores: Sequence[VectorStore], items: Sequence[str] = TEXTS) -> list[list[list[float]] | Exception]:
    """The vectors that each of two processes finds, or its error."""

    def work(processes: Together) -> list[list[float]]:
        store = stores[processes.rank]
        keys = store_vectors(Lengths(), items, store=store, processes=processes)
        found: list[list[float]] = store.get(keys)[1].tolist()
        return found

    return in_threads(work)


@pytest.mark.parametrize("fault", ["fail_put", "fail_refresh"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_store_that_fails_in_one_process_fails_in_all_and_the_next_items_go_on(
    tmp_path: Path, fault: str, rank: int
) -> None:
    stores = [Faulty.open(tmp_path, 2) for _ in range(2)]
    setattr(stores[rank], fault, 1)
    errors = _both(stores)
    message = {"fail_put": "the disk is full", "fail_refresh": "the folder has gone"}[fault]
    assert [(type(error), str(error)) for error in errors] == [(ConfigError, message)] * 2
    assert _both(stores, ["eeeee"]) == [[[5, 1]]] * 2
    # Its own rows were given up and not tried again; those of the other are there.
    kept = {"fail_put": 3, "fail_refresh": 5}[fault]
    assert len(VectorStore.open(tmp_path, 2)) == kept
    assert _both(stores) == [[[1, 1], [2, 1], [3, 1], [4, 1]]] * 2


def test_a_full_disk_is_tried_once_and_says_so_even_after_an_item_that_failed(tmp_path: Path) -> None:
    store = Faulty.open(tmp_path, 2)
    store.fail_put = 2
    with pytest.raises(ConfigError, match="the disk is full"):
        store_vectors(Lengths(), TEXTS, store=store)
    assert store.fail_put == 1
    with pytest.raises(InputError, match="item 0 of 2: it is bad"):
        store_vectors(Lengths(), ["bad", "good"], store=store)
    assert store.fail_put == 0


def test_a_file_that_another_machine_lists_late_is_waited_for(tmp_path: Path) -> None:
    stores = [Faulty.open(tmp_path, 2) for _ in range(2)]
    stores[1].hide = 3
    assert _both(stores) == [[[1, 1], [2, 1], [3, 1], [4, 1]]] * 2
    assert stores[1].hide == 0


def test_a_folder_that_is_not_shared_is_an_error_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_LISTED_WITHIN_S", 0.0)
    (tmp_path / "one").mkdir()
    stores = [VectorStore.open(tmp_path / name, 2) for name in ("one", "two")]
    errors = _both(stores)
    assert errors[0] is not None
    assert {str(error) for error in errors} == {
        f"2 vectors that another process has made are not in {tmp_path / 'one'}: give a folder that all processes share"
    }


def test_ctrl_c_keeps_what_is_done_and_a_full_disk_does_not_swallow_it(tmp_path: Path) -> None:
    class Interrupted(Lengths):
        def stream(
            self, items: Iterable[ItemLike], ask: Ask = Ask(), **arguments: object
        ) -> Iterator[tuple[int, Vectors]]:
            yield 0, np.array([1, 1], dtype=np.float32)
            raise KeyboardInterrupt

    store = Faulty.open(tmp_path, 2)
    for fail_put, kept in ((1, 0), (0, 1)):
        store.fail_put = fail_put
        with pytest.raises(KeyboardInterrupt):
            store_vectors(Interrupted(), TEXTS, store=store)
        assert len(VectorStore.open(tmp_path, 2)) == kept


# Token vectors


def test_token_vectors_are_made_once_and_meet_no_single_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Tokens(Lengths):
        token_dim = 2

        def stream(
            self, items: Iterable[ItemLike], ask: Ask = Ask(), *, output: str = "pooled"
        ) -> Iterator[tuple[int, Vectors | VLM2VecError]]:
            if output == "pooled":
                yield from super().stream(items, ask)
                return
            for position, item in enumerate(items):
                self.seen.append(item)
                yield position, np.full((len(str(item)), 2), position, dtype=np.float32)

    model = Tokens()
    # Each pair of texts is more than a shard may have.
    monkeypatch.setattr(encoding, "_BYTES_PER_SHARD", 20)
    tokens, single = TokenStore.open(tmp_path, 2), VectorStore.open(tmp_path, 2)
    keys = store_vectors(TokenVectors(model), TEXTS, store=tokens)
    assert [one.tolist() for one in tokens.get(keys)[1][:2]] == [[[0, 0]], [[1, 1], [1, 1]]]
    assert len(list(tmp_path.glob("tokens-2-*.npy"))) == 3
    assert set(keys).isdisjoint(store_vectors(model, TEXTS, store=single))
    assert len(model.seen) == 8
    assert store_vectors(TokenVectors(model), TEXTS, store=TokenStore.open(tmp_path, 2)) == keys
    assert len(model.seen) == 8
