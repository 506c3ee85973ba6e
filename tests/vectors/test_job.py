"""Each different key is embedded once, and what was made is kept."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.evaluation_runs import Together, in_threads
from support.golden_cases import GOLDEN
from vlm2vec.errors import InputError, MediaError, StorageError, VLM2VecError
from vlm2vec.items import Item, ItemLike, as_item
from vlm2vec.media.sandbox import Sandbox
from vlm2vec.model.backbone import Ask
from vlm2vec.model.embedder import Embedder
from vlm2vec.vectors.job import EmbedJob, Flush, JobReport, Work
from vlm2vec.vectors.keys import item_key
from vlm2vec.vectors.store import VectorStore

Vectors = NDArray[np.float32]
TEXTS = ["a", "bb", "ccc", "dddd"]


@dataclass
class Lengths:
    """A model whose vector says how long a text is; it remembers what it was asked."""

    fingerprint: str = "lengths"
    dim: int = 2
    seen: list[ItemLike] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)

    def stream(
        self, items: Iterable[ItemLike], ask: Ask = Ask(), **options: Any
    ) -> Generator[tuple[int, Vectors | VLM2VecError], None, None]:
        self.asks.append(ask)
        # Last first: nothing promises an order.
        for position, item in reversed(list(enumerate(items))):
            self.seen.append(item)
            yield position, _error(str(item)) or np.array([len(str(item)), 1], dtype=np.float32)


class OneByOne(Lengths):
    """The same model; an item is answered before the next one is taken."""

    def stream(
        self, items: Iterable[ItemLike], ask: Ask = Ask(), **options: Any
    ) -> Generator[tuple[int, Vectors | VLM2VecError], None, None]:
        self.asks.append(ask)
        for position, item in enumerate(items):
            self.seen.append(item)
            yield position, _error(str(item)) or np.array([len(str(item)), 1], dtype=np.float32)


class Shelf:
    """A sink in memory that remembers what was put at once, and may be full."""

    def __init__(self, *known: bytes, fail_put: int = 0) -> None:
        self.vectors: dict[bytes, list[float]] = {key: [] for key in known}
        self.puts: list[list[bytes]] = []
        self.fail_put = fail_put

    def __contains__(self, key: bytes) -> bool:
        return key in self.vectors

    def put(self, keys: Sequence[bytes], vectors: Sequence[Vectors]) -> None:
        self.puts.append(list(keys))
        if self.fail_put:
            self.fail_put -= 1
            raise StorageError("the disk is full")
        self.vectors |= {key: one.tolist() for key, one in zip(keys, vectors, strict=True)}


def _error(text: str) -> VLM2VecError | None:
    return InputError(f"it is {text}") if text.startswith("bad") else None


def _work(*texts: str, ask: Ask = Ask()) -> list[Work]:
    return [Work(text.encode(), text, f"row {number}", ask) for number, text in enumerate(texts)]


def _shown(report: JobReport) -> tuple[int, int, dict[str, str]]:
    return report.embedded, report.known, {origin: str(error) for origin, error in report.failed.items()}


def test_each_different_key_is_embedded_once_and_a_known_one_never() -> None:
    model, sink = Lengths(), Shelf(b"cc")
    progress: list[tuple[int, int | None]] = []
    report = EmbedJob(model, sink).run(
        _work("a", "bbb", "a", "cc", "a"), on_progress=lambda done, total: progress.append((done, total))
    )
    assert _shown(report) == (2, 3, {})
    assert model.seen == ["bbb", "a"]
    assert sink.vectors == {b"cc": [], b"a": [1, 1], b"bbb": [3, 1]}
    assert progress == [(0, 5), (1, 5), (2, 5), (5, 5)]


def test_an_equal_key_that_comes_after_its_vector_is_known_whether_it_is_written_or_not() -> None:
    for flush in (Flush(rows=1), Flush()):
        model = OneByOne()
        report = EmbedJob(model, Shelf(), flush=flush).run(_work("a", "a", "bad", "bad"))
        assert _shown(report) == (1, 1, {"row 2": "it is bad", "row 3": "it is bad"})
        assert model.seen == ["a", "bad"]


def test_no_work_asks_the_model_nothing_and_puts_nothing() -> None:
    model, sink = Lengths(), Shelf(b"a")
    assert _shown(EmbedJob(model, sink).run([])) == (0, 0, {})
    assert _shown(EmbedJob(model, sink).run(_work("a"))) == (0, 1, {})
    assert (model.asks, sink.puts) == ([], [])


def test_work_is_taken_as_it_is_needed_and_has_no_total() -> None:
    taken: list[int] = []

    def work() -> Iterator[Work]:
        for number in range(1000):
            taken.append(number)
            yield Work(str(number).encode(), str(number), "")

    def stop(work: Work, error: VLM2VecError) -> None:
        raise error

    class Stopping(OneByOne):
        def stream(
            self, items: Iterable[ItemLike], ask: Ask = Ask(), **options: Any
        ) -> Generator[tuple[int, Vectors | VLM2VecError], None, None]:
            for position, vector in super().stream(items, ask):
                yield position, InputError("stop") if position == 3 else vector

    totals = set[int | None]()
    with pytest.raises(InputError, match="stop"):
        EmbedJob(Stopping(), Shelf()).run(work(), on_failure=stop, on_progress=lambda done, total: totals.add(total))
    assert (taken, totals) == ([0, 1, 2, 3], {None})


def test_an_error_of_the_work_itself_comes_after_the_work_before_it(own: Embedder) -> None:
    def work() -> Iterator[Work]:
        yield from _work("a", "bb")
        raise MediaError("no more can be read")

    sink = Shelf()
    with pytest.raises(MediaError, match="no more can be read"):
        EmbedJob(own, sink).run(work())
    assert set(sink.vectors) == {b"a", b"bb"}


def test_an_item_is_read_only_where_it_is_embedded_and_what_reading_says_is_its_failure() -> None:
    read: list[str] = []

    def reading(text: str) -> Work:
        def item() -> str:
            read.append(text)
            if text == "gone":
                raise MediaError("it has gone")
            return text

        return Work(text.encode(), item, f"the {text}")

    sink = Shelf(b"known")
    report = EmbedJob(Lengths(), sink).run(map(reading, ["known", "gone", "new", "new"]))
    assert _shown(report) == (1, 2, {"the gone": "it has gone"})
    assert read == ["gone", "new"]


def test_work_of_several_asks_is_put_together_without_waiting_for_all_of_it() -> None:
    query, document = Ask("query"), Ask("document")
    model = OneByOne()
    works = [
        Work(f"{ask.role} {number}".encode(), f"{number}", "", ask)
        for number in range(600)
        for ask in (query, document)
    ]
    report = EmbedJob(model, Shelf()).run(works)
    assert report.embedded == 1200
    assert model.asks == [query, document, query]
    assert [str(item) for item in model.seen] == [
        *(str(number) for number in range(512)),
        *(str(number) for number in range(600)),
        *(str(number) for number in range(512, 600)),
    ]


def test_an_item_that_fails_is_reported_and_the_others_are_embedded() -> None:
    sink, failures = Shelf(), list[tuple[str, str]]()
    report = EmbedJob(Lengths(), sink).run(
        _work("bad", "good", "bad"), on_failure=lambda work, error: failures.append((work.origin, str(error)))
    )
    assert _shown(report) == (1, 0, {"row 0": "it is bad", "row 2": "it is bad"})
    assert failures == [("row 0", "it is bad"), ("row 2", "it is bad")]
    assert list(sink.vectors) == [b"good"]


def test_a_run_that_needs_all_its_items_ends_at_the_first_failure_and_keeps_what_is_done() -> None:
    sink = Shelf()
    with pytest.raises(InputError, match="row 0: it is bad"):
        EmbedJob(Lengths(), sink).run(_work("bad", "good"), on_failure=Work.fail)
    assert list(sink.vectors) == [b"good"]


def test_a_vector_that_is_not_finite_is_a_failure() -> None:
    class Broken(Lengths):
        def stream(
            self, items: Iterable[ItemLike], ask: Ask = Ask(), **options: Any
        ) -> Generator[tuple[int, Vectors | VLM2VecError], None, None]:
            for position, _ in enumerate(items):
                yield position, np.array([np.nan, 1], dtype=np.float32)

    report = EmbedJob(Broken(), Shelf()).run(_work("a"))
    assert _shown(report) == (
        0,
        0,
        {"row 0": "the vector that the model makes of it is not finite; look for nan in the model's weights"},
    )


@pytest.mark.parametrize(
    ("flush", "puts"),
    [
        (Flush(), [4]),
        (Flush(rows=3), [3, 1]),
        (Flush(num_bytes=16), [2, 2]),
        (Flush(seconds=0), [1, 1, 1, 1]),
    ],
)
def test_vectors_are_put_when_enough_wait_or_long_enough(flush: Flush, puts: list[int]) -> None:
    sink = Shelf()
    EmbedJob(OneByOne(), sink, flush=flush).run(_work(*TEXTS))
    assert [len(keys) for keys in sink.puts] == puts


def test_a_full_disk_is_tried_once_and_hides_no_failure_before_it() -> None:
    sink = Shelf(fail_put=2)
    with pytest.raises(StorageError, match="the disk is full"):
        EmbedJob(Lengths(), sink).run(_work(*TEXTS))
    assert sink.fail_put == 1
    with pytest.raises(InputError, match="row 0: it is bad"):
        EmbedJob(Lengths(), sink).run(_work("bad", "good"), on_failure=Work.fail)
    assert sink.fail_put == 0


def test_ctrl_c_keeps_what_is_done_and_a_full_disk_does_not_swallow_it() -> None:
    class Interrupted(Lengths):
        def stream(
            self, items: Iterable[ItemLike], ask: Ask = Ask(), **options: Any
        ) -> Generator[tuple[int, Vectors | VLM2VecError], None, None]:
            next(iter(items))
            yield 0, np.array([1, 1], dtype=np.float32)
            raise KeyboardInterrupt

    for fail_put, kept in ((1, []), (0, [b"a"])):
        sink = Shelf(fail_put=fail_put)
        with pytest.raises(KeyboardInterrupt):
            EmbedJob(Interrupted(), sink).run(_work(*TEXTS))
        assert list(sink.vectors) == kept


def test_a_sandbox_is_closed_when_the_run_is_cut_short_and_only_then() -> None:
    class Noting(Sandbox):
        is_open = True

        def close(self) -> None:
            super().close()
            self.is_open = False

    sandbox = Noting()
    job = EmbedJob(Lengths(), Shelf(), decoder=sandbox)
    job.run(_work("good"), on_failure=Work.fail)
    assert sandbox.is_open
    with pytest.raises(InputError, match="it is bad"):
        job.run(_work("bad"), on_failure=Work.fail)
    assert not sandbox.is_open


def test_a_model_gets_the_decoder_and_the_scale(own: Embedder, tmp_path: Path) -> None:
    items: list[ItemLike] = ["a cat", Item("a cat", instruction="Mine:"), GOLDEN / "inputs" / "img_28.png"]
    for normalize in (True, False):
        store = VectorStore.open(tmp_path / str(normalize), own.dim)
        for ask, expected in (
            (Ask("query", "page"), own.encode_query(items, target="page", normalize_embeddings=normalize)),
            (Ask("document"), own.encode_document(items, normalize_embeddings=normalize)),
            (Ask(prompt="Yours:"), own.encode(items, prompt="Yours:", normalize_embeddings=normalize)),
        ):
            keys = [item_key(as_item(item), fingerprint=own.fingerprint, ask=ask) for item in items]
            works = [Work(key, item, "", ask) for key, item in zip(keys, items, strict=True)]
            for expected_new in (3, 0):
                with Sandbox() as sandbox:
                    report = EmbedJob(own, store, decoder=sandbox, normalize=normalize).run(works)
                assert (report.embedded, report.failed) == (expected_new, {})
            np.testing.assert_allclose(store.get(keys)[1], expected, rtol=0, atol=2e-6)
        assert len(store) == 9


# Several processes


def _shared(sinks: Sequence[Shelf], *texts: str, strict: bool = True) -> list[JobReport | Exception]:
    """The report of each of two processes, or its error."""

    def work(processes: Together) -> JobReport:
        job = EmbedJob(OneByOne(), sinks[processes.rank], processes=processes)
        return job.run(iter(_work(*texts)), on_failure=Work.fail if strict else None)

    return in_threads(work)


def test_each_process_takes_its_share_in_turn_of_what_the_first_one_lacks() -> None:
    # The second has not seen yet that "bb" is known.
    sinks = [Shelf(b"bb"), Shelf()]
    reports = _shared(sinks, "a", "bb", "ccc", "a", "dddd")
    assert [_shown(one) for one in reports if isinstance(one, JobReport)] == [(3, 2, {})] * 2
    assert [set(sink.vectors) for sink in sinks] == [{b"bb", b"a", b"dddd"}, {b"ccc"}]


def test_all_processes_report_what_failed_in_one() -> None:
    reports = _shared([Shelf(), Shelf()], "a", "bad", "bad", "bb", strict=False)
    expected = (2, 0, {"row 1": "it is bad", "row 2": "it is bad"})
    assert [_shown(one) for one in reports if isinstance(one, JobReport)] == [expected] * 2


@pytest.mark.parametrize("rank", [0, 1])
def test_a_full_disk_or_a_failure_of_one_process_ends_the_run_of_all_and_the_next_goes_through(rank: int) -> None:
    sinks = [Shelf(fail_put=int(rank == number)) for number in range(2)]
    assert [(type(one), str(one)) for one in _shared(sinks, *TEXTS)] == [(StorageError, "the disk is full")] * 2
    # Its own vectors were given up and not tried again; those of the other are there.
    assert [len(sink.vectors) for sink in sinks] == [2 * (rank != number) for number in range(2)]
    texts = ["bad", "good"] if rank == 0 else ["good", "bad"]
    assert [str(one) for one in _shared(sinks, *texts)] == [f"row {rank}: it is bad"] * 2
    assert all(isinstance(one, JobReport) for one in _shared(sinks, "eeeee"))


def test_processes_count_what_the_others_do_as_done_by_now() -> None:
    progress: list[list[tuple[int, int | None]]] = [[], []]

    def work(processes: Together) -> JobReport:
        job = EmbedJob(OneByOne(), Shelf(b"a"), processes=processes)
        seen = progress[processes.rank]
        return job.run(
            iter(_work("a", "bb", "ccc", "dddd")), on_progress=lambda done, total: seen.append((done, total))
        )

    in_threads(work)
    assert progress == [[(1, 4), (3, 4), (4, 4), (4, 4)], [(1, 4), (3, 4), (4, 4)]]


def test_the_sink_is_used_by_one_thread_at_a_time(own: Embedder) -> None:
    class Narrow(Shelf):
        def __init__(self) -> None:
            super().__init__()
            self._door = threading.Lock()

        def __contains__(self, key: bytes) -> bool:
            assert self._door.acquire(blocking=False)
            with_key = super().__contains__(key)
            self._door.release()
            return with_key

        def put(self, keys: Sequence[bytes], vectors: Sequence[Vectors]) -> None:
            assert self._door.acquire(blocking=False)
            super().put(keys, vectors)
            self._door.release()

    sink = Narrow()
    report = EmbedJob(own, sink, flush=Flush(rows=1)).run(iter(_work(*(f"text {n}" for n in range(50)))))
    assert (report.embedded, len(sink.puts)) == (50, 50)
