"""Every item of a task gets its vector once, and vectors give the scores that were worked out by hand."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.evaluation_runs import Together, in_threads
from vlm2vec.errors import DataError, InputError, MediaError, StorageError, VLM2VecError
from vlm2vec.evaluation.scoring import Ranking, TaskEmbedder
from vlm2vec.items import Image, Item, ItemLike, as_item
from vlm2vec.model.backbone import Ask, Vectors
from vlm2vec.tasks.data import TaskData
from vlm2vec.vectors.metrics import mean_metrics
from vlm2vec.vectors.ranking import rank, rank_late
from vlm2vec.vectors.store import TokenStore, VectorStore

# From vectors to scores


def _data(
    relevant: dict[str, dict[str, int]],
    candidates: tuple[str, ...],
    pools: tuple[tuple[str, ...], ...] | None = None,
    empty: frozenset[str] = frozenset(),
) -> TaskData:
    return TaskData(
        query_ids=tuple(relevant),
        queries=tuple(Item(name) for name in relevant),
        candidate_names=candidates,
        candidates=tuple(Item(name) for name in candidates),
        empty=empty,
        relevant=relevant,
        pools=pools,
        warnings=(),
    )


QUERIES = np.array([[1, 0], [0, 1]], dtype=np.float32)
# Scores of the first query: a 0.9, b 0.8, c 0.1; of the second: a 0.1, b 0.6, c 0.9.
CANDIDATES = np.array([[0.9, 0.1], [0.8, 0.6], [0.1, 0.9]], dtype=np.float32)


def test_a_global_task_ranks_all_candidates_for_every_query() -> None:
    data = _data({"p": {"b": 1}, "q": {"c": 1}}, ("a", "b", "c"))
    ranking = Ranking.of(data, partial(rank, QUERIES, CANDIDATES))
    assert ranking.indices.tolist() == [[0, 1, 2], [2, 1, 0]]
    np.testing.assert_array_equal(ranking.scores, np.array([[0.9, 0.8, 0.1], [0.9, 0.6, 0.1]], dtype=np.float32))
    metrics = mean_metrics(ranking.per_query)
    assert metrics["hit@1"] == 0.5
    assert metrics["mrr@5"] == (1 / 2 + 1) / 2
    assert metrics["ndcg_linear@5"] == pytest.approx((1 / np.log2(3) + 1) / 2)


def test_a_local_task_ranks_each_querys_own_candidates() -> None:
    data = _data({"p": {"b": 1}, "q": {"a": 1}}, ("a", "b", "c"), pools=(("b", "c", "b"), ("a", "b")))
    ranking = Ranking.of(data, partial(rank, QUERIES, CANDIDATES))
    assert ranking.indices.tolist() == [[1, 2, -1], [1, 0, -1]]
    assert mean_metrics(ranking.per_query)["hit@1"] == 0.5


def test_labels_have_grades_and_may_be_several_or_absent() -> None:
    data = _data({"p": {"a": 1, "c": 2}, "q": {"gone": 1}}, ("a", "b", "c"))
    per_query = Ranking.of(data, partial(rank, QUERIES, CANDIDATES)).per_query
    assert per_query["hit@1"].tolist() == [1, 0]
    assert per_query["recall@1"].tolist() == [0.5, 0]
    # Gains 1, 0, 2 at ranks 1, 2, 3 against 2, 1 at best.
    best = 2 + 1 / np.log2(3)
    assert per_query["ndcg_linear@5"].tolist() == pytest.approx([(1 + 2 / np.log2(4)) / best, 0])


def test_an_empty_candidate_ranks_last_whatever_its_vector() -> None:
    data = _data({"p": {"b": 1}, "q": {"c": 1}}, ("a", "b", "c"), empty=frozenset({"a"}))
    ranking = Ranking.of(data, partial(rank, QUERIES, CANDIDATES))
    assert ranking.indices.tolist() == [[1, 2, 0], [2, 1, 0]]
    assert ranking.scores[:, 2].tolist() == [-np.inf, -np.inf]


def test_vectors_of_tokens_are_ranked_by_late_interaction(tmp_path: Path) -> None:
    store = TokenStore.open(tmp_path, 2)
    keys = {name: name.encode() * 16 for name in "pqbc"}
    tokens = {"p": [[1, 0], [0, 1]], "q": [[0, 1]], "b": [[1, 0], [0, 1]], "c": [[0, 3]]}
    store.put(list(keys.values()), [np.array(tokens[name], dtype=np.float32) for name in keys])
    data = _data({"p": {"c": 1}, "q": {"c": 1}}, ("a", "b", "c"), empty=frozenset({"a"}))
    queries, candidates = store.rows([keys["p"], keys["q"]]), store.rows([b"", keys["b"], keys["c"]])
    ranking = Ranking.of(data, partial(rank_late, queries, candidates))
    # Of b 1 + 1 and 1, of c 0 + 3 and 3; a is empty.
    assert ranking.indices.tolist() == [[2, 1, 0], [2, 1, 0]]
    assert ranking.scores[:, :2].tolist() == [[3, 2], [3, 1]]


# From items to vectors

TEXTS = ["a", "bb", "ccc", "dddd"]


@dataclass
class Lengths:
    """A model whose vector says how long a text is; it remembers what it was asked."""

    fingerprint: str = "lengths"
    dim: int = 2
    seen: list[str] = field(default_factory=list)

    def stream(
        self, items: Iterable[ItemLike], ask: Ask = Ask(), **options: Any
    ) -> Generator[tuple[int, Vectors | VLM2VecError], None, None]:
        for position, item in enumerate(items):
            text = as_item(item).text
            self.seen.append(text)
            if text.startswith("bad"):
                yield position, MediaError(f"it is {text}")
            else:
                yield position, np.array([len(text), 1], dtype=np.float32)


def _embed(embedder: TaskEmbedder, texts: Sequence[str]) -> list[list[float]]:
    keys = embedder.embed([Item(text) for text in texts].__getitem__, [f"text {n}" for n in range(len(texts))])
    vectors: list[list[float]] = embedder.store.get(keys)[1].tolist()  # type: ignore[union-attr]
    return vectors


def test_each_different_item_is_embedded_once_and_then_never_again(tmp_path: Path) -> None:
    model = Lengths()
    for texts, seen in ((["a", "bbb", "a"], ["a", "bbb"]), (["cc", "a"], ["cc"]), (["bbb", "cc"], []), ([], [])):
        model.seen.clear()
        found = _embed(TaskEmbedder(model, VectorStore.open(tmp_path, 2)), texts)
        assert (found, model.seen) == ([[len(text), 1] for text in texts], seen)


def test_items_are_read_for_their_keys_and_again_only_where_they_are_embedded(tmp_path: Path) -> None:
    read: list[int] = []

    def item(place: int) -> Item:
        read.append(place)
        return Item(TEXTS[place])

    embedder = TaskEmbedder(Lengths(), VectorStore.open(tmp_path, 2))
    _embed(embedder, TEXTS[:2])
    embedder.embed(item, TEXTS)
    assert read == [0, 1, 2, 3, 2, 3]


def test_an_item_that_fails_is_named_and_what_was_done_is_kept(tmp_path: Path) -> None:
    embedder = TaskEmbedder(Lengths(), VectorStore.open(tmp_path, 2))
    with pytest.raises(MediaError, match=r"^text 1: it is bad$"):
        _embed(embedder, ["good", "bad"])
    assert len(VectorStore.open(tmp_path, 2)) == 1
    gone = Item(media=(Image(tmp_path / "missing.png"),))
    with pytest.raises(MediaError, match=r"^picture: .*missing\.png cannot be read as an image"):
        embedder.embed([gone].__getitem__, ["picture"])


def test_an_item_that_can_be_mended_gets_the_vector_of_what_it_becomes(tmp_path: Path) -> None:
    gone = Item("xyz <|media|>", (Image(tmp_path / "missing.png"),))
    items = [Item("a"), Item("bad"), gone]
    becomes = {items[1]: Item("mended"), gone: Item("a")}
    for _ in range(2):
        model, done = Lengths(), list[int]()
        embedder = TaskEmbedder(model, store := VectorStore.open(tmp_path / "vectors", 2))
        keys = embedder.embed(items.__getitem__, ["1", "2", "3"], mend=becomes.get, on_progress=done.append)
        assert store.get(keys)[1].tolist() == [[1, 1], [6, 1], [1, 1]]
        assert (len(store), done[-1]) == (2, 3)
    # That it is bad is not stored.
    assert model.seen == ["bad"]


def test_an_item_that_can_be_read_after_all_is_an_error(tmp_path: Path) -> None:
    answers = iter([Item("mended"), None])
    embedder = TaskEmbedder(Lengths(), VectorStore.open(tmp_path, 2))
    with pytest.raises(MediaError, match=r"^text: could not be read at first, and then could; start the run again$"):
        embedder.embed([Item("bad")].__getitem__, ["text"], mend=lambda item: next(answers))


def test_an_error_that_is_not_of_a_medium_is_not_mended(tmp_path: Path) -> None:
    class Refusing(Lengths):
        def stream(
            self, items: Iterable[ItemLike], ask: Ask = Ask(), **options: Any
        ) -> Generator[tuple[int, Vectors | VLM2VecError], None, None]:
            for position, _ in enumerate(items):
                yield position, InputError("it makes no sense")

    embedder = TaskEmbedder(Refusing(), VectorStore.open(tmp_path, 2))
    with pytest.raises(InputError, match="text: it makes no sense"):
        embedder.embed([Item("a")].__getitem__, ["text"], mend=lambda item: Item("b"))


# Several processes


class Faulty(VectorStore):
    """A store that fails in ways that are set after it was opened."""

    fail_put = 0
    fail_refresh = 0

    def put(self, keys: Sequence[bytes], vectors: Vectors | Sequence[Vectors]) -> None:
        if self.fail_put:
            self.fail_put -= 1
            raise StorageError("the disk is full")
        super().put(keys, vectors)

    def refresh(self) -> None:
        if self.fail_refresh:
            self.fail_refresh -= 1
            raise DataError("the folder has gone")
        super().refresh()


def _both(stores: Sequence[VectorStore], texts: Sequence[str] = TEXTS) -> list[list[list[float]] | Exception]:
    """The vectors that each of two processes finds, or its error."""

    def work(processes: Together) -> list[list[float]]:
        return _embed(TaskEmbedder(Lengths(), stores[processes.rank], processes, patience_s=0), texts)

    return in_threads(work)


@pytest.mark.parametrize("fault", ["fail_put", "fail_refresh"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_store_that_fails_in_one_process_fails_in_all_and_the_next_items_go_through(
    tmp_path: Path, fault: str, rank: int
) -> None:
    stores = [Faulty.open(tmp_path, 2) for _ in range(2)]
    setattr(stores[rank], fault, 1)
    errors = _both(stores)
    expected = {"fail_put": (StorageError, "the disk is full"), "fail_refresh": (DataError, "the folder has gone")}
    assert [(type(error), str(error)) for error in errors] == [expected[fault]] * 2
    assert _both(stores, ["eeeee"]) == [[[5, 1]]] * 2
    # Its own rows were given up and not tried again; those of the other are there.
    kept = {"fail_put": 3, "fail_refresh": 5}[fault]
    assert len(VectorStore.open(tmp_path, 2)) == kept
    assert _both(stores) == [[[1, 1], [2, 1], [3, 1], [4, 1]]] * 2


def test_a_folder_that_is_not_shared_is_an_error_of_all(tmp_path: Path) -> None:
    stores = [VectorStore.open(tmp_path / name, 2) for name in ("one", "two")]
    assert {str(error) for error in _both(stores)} == {
        f"2 vectors that another process has made are not in {tmp_path / 'one'}: give a folder that all processes share"
    }


def test_processes_mend_alike_whichever_of_them_meets_the_damage(tmp_path: Path) -> None:
    def work(processes: Together) -> list[list[float]]:
        embedder = TaskEmbedder(Lengths(), store := VectorStore.open(tmp_path, 2), processes)
        items = [Item(text) for text in ("a", "bad", "bb", "worse", "bad")]
        becomes = {Item("bad"): Item("mended")}
        keys = embedder.embed(items.__getitem__, list("12345"), mend=becomes.get)
        vectors: list[list[float]] = store.get(keys)[1].tolist()
        return vectors

    assert in_threads(work) == [[[1, 1], [6, 1], [2, 1], [5, 1], [6, 1]]] * 2
