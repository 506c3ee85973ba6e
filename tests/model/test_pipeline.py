"""Items are made ready in threads that run ahead, within bounds; a stream has them in order, a future each its own."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.golden_cases import GOLDEN
from support.media_files import animation, encoded, picture, png_header
from support.toy_family import Toy, ToyInput
from vlm2vec import media
from vlm2vec.errors import BusyError, InputError, MediaError, VLM2VecError
from vlm2vec.items import Image, Item, ItemLike, Video
from vlm2vec.media import decoded_bytes
from vlm2vec.media.frames import IN_FLIGHT, Budget
from vlm2vec.media.sandbox import Decoder
from vlm2vec.model.backbone import Ask, Output, Vectors
from vlm2vec.model.checkpoint import Settings
from vlm2vec.model.embedder import Embedder
from vlm2vec.model.pipeline import Pipeline, _prepared_windows


@dataclass(frozen=True)
class _Costly:
    cost: int


def _of_cost(cost: int) -> _Costly:
    if cost < 0:
        raise InputError(f"{cost} is bad")
    return _Costly(cost)


def _windows(
    prepare: Callable[[int], _Costly],
    items: Iterable[int],
    *,
    window_cost: int,
    workers: int,
    weigh: Callable[[int], int] = lambda item: 0,
    memory: Budget = IN_FLIGHT,
) -> Generator[list[tuple[int, _Costly | VLM2VecError]], None, None]:
    """`_prepared_windows` with a pool of its own, as a stream has."""
    with ThreadPoolExecutor(max(1, workers), "prepare") as pool:
        yield from _prepared_windows(
            prepare,
            items,
            window_cost=window_cost,
            pool=pool if workers else None,
            ahead=4 * workers,
            weigh=weigh,
            memory=memory,
        )


def _told(window: list[tuple[int, _Costly | VLM2VecError]]) -> list[tuple[int, int | str]]:
    return [(position, one.cost if isinstance(one, _Costly) else str(one)) for position, one in window]


def _preparing() -> set[threading.Thread]:
    """The threads that prepare, here or for a stream that another test has not read to its end."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("prepare")}


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_windows_hold_every_item_in_order_and_end_when_they_are_full(workers: int) -> None:
    windows = _windows(_of_cost, [3, 4, -1, 9, 1, 1], window_cost=7, workers=workers)
    assert [_told(window) for window in windows] == [
        [(0, 3), (1, 4)],
        [(2, "-1 is bad"), (3, 9)],
        [(4, 1), (5, 1)],
    ]
    assert list(_windows(_of_cost, [], window_cost=7, workers=workers)) == []


def test_no_more_items_are_taken_than_may_be_ahead() -> None:
    taken: list[int] = []
    enough = threading.Event()

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            if len(taken) == 3 + 4:
                # The window in use, the one that waits, the one behind it, and four ahead of them.
                enough.set()
            yield 5

    others = _preparing()
    windows = _windows(_of_cost, items(), window_cost=5, workers=1)
    assert _told(next(windows)) == [(0, 5)]
    assert len(_preparing() - others) == 2
    assert enough.wait(10)
    windows.close()
    assert len(taken) == 3 + 4
    assert _preparing() <= others


def test_errors_fill_a_window_too() -> None:
    windows = _windows(_of_cost, iter(lambda: -1, 0), window_cost=32_768, workers=2)
    assert len(next(windows)) == 1024
    windows.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-1, 12), max_size=20), st.integers(1, 10), st.sampled_from([0, 1, 2, 5]))
def test_what_is_prepared_at_once_stays_within_the_budget_or_goes_alone(
    weights: list[int], total: int, workers: int
) -> None:
    lock, in_flight = threading.Lock(), list[int]()

    def prepare(weight: int) -> _Costly:
        with lock:
            in_flight.append(weight)
            heavy = [one for one in in_flight if one > 0]
            assert sum(heavy) <= total or len(heavy) == 1
        time.sleep(0.0005)
        with lock:
            in_flight.remove(weight)
        return _of_cost(weight)

    def told(budget: Budget, weigh: Callable[[int], int]) -> list[list[tuple[int, int | str]]]:
        windows = _windows(prepare, weights, window_cost=20, workers=workers, weigh=weigh, memory=budget)
        return [_told(window) for window in windows]

    expected = [_told(window) for window in _windows(_of_cost, weights, window_cost=20, workers=0)]
    assert told(Budget(total), lambda weight: weight) == expected


def test_a_stream_that_is_left_while_threads_wait_for_memory_ends_them() -> None:
    held, release, others = threading.Event(), threading.Event(), _preparing()
    prepared: list[int] = []

    def prepare(number: int) -> _Costly:
        prepared.append(number)
        if number == 1:
            held.set()
            assert release.wait(10)
        return _of_cost(9)

    windows = _windows(prepare, range(100), window_cost=5, workers=4, weigh=lambda number: 3, memory=Budget(4))
    assert _told(next(windows)) == [(0, 9)]
    assert held.wait(10)
    threading.Timer(0.2, release.set).start()
    windows.close()
    # Those that waited for it were not begun.
    assert prepared == [0, 1]
    assert _preparing() <= others


def test_memory_is_told_from_headers() -> None:
    def weight(image: PIL.Image.Image, format: str, **options: object) -> int:
        return decoded_bytes(Image(encoded(image, format, **options)), num_frames=8)

    pixels, turned = 40 * 30, PIL.Image.Exif()
    turned[0x0112] = 6
    assert weight(picture(), "JPEG") == 4 * pixels
    assert weight(picture(), "JPEG", exif=turned) == 8 * pixels
    assert weight(picture().convert("L"), "PNG") == 5 * pixels
    assert weight(picture().convert("RGBA"), "PNG") == 8 * pixels
    assert decoded_bytes(Image(png_header(10_000, 10_000)), num_frames=8) == 400_000_000
    moving = animation("GIF", ["red", "lime", "blue"], [100, 100, 100])
    for medium in (Image(moving), Video(moving)):
        assert decoded_bytes(medium, num_frames=2) == 3 * 4 * 32 * 24
    for unreadable in (b"", b"nothing", png_header(100_000, 100_000)):
        assert decoded_bytes(Image(unreadable), num_frames=8) == decoded_bytes(Video(unreadable), num_frames=8) == 0


@contextmanager
def _interrupted(after_s: float) -> Iterator[None]:
    """As by Ctrl-C."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, after_s)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


def test_ctrl_c_does_not_wait_for_the_window_to_be_full() -> None:
    prepared: list[int] = []

    def prepare(length: int) -> _Costly:
        prepared.append(length)
        time.sleep(0.02)
        return _of_cost(length)

    others = _preparing()
    windows = _windows(prepare, [1] * 1000, window_cost=1000, workers=1)
    with pytest.raises(KeyboardInterrupt), _interrupted(0.3):
        next(windows)
    windows.close()
    assert len(prepared) < 500
    assert _preparing() <= others


def test_ctrl_c_ends_what_waits_for_an_item_that_does_not_come() -> None:
    comes = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        comes.wait()
        yield 1

    others = _preparing()
    windows = _windows(_of_cost, items(), window_cost=10, workers=1)
    with pytest.raises(KeyboardInterrupt), _interrupted(0.3):
        next(windows)
    windows.close()
    comes.set()
    for thread in _preparing() - others:
        thread.join(10)
    assert _preparing() <= others


def test_an_error_that_is_kept_holds_no_thread(own: Embedder) -> None:
    others, kept = _preparing(), []
    for _ in range(3):
        with pytest.raises(MediaError) as caught:
            own.encode([Path("missing.png"), "a text"])
        kept.append(caught)
    assert _preparing() <= others


@pytest.mark.parametrize("workers", [0, 2])
def test_whatever_breaks_off_the_items_reaches_the_caller(workers: int) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(_windows(_of_cost, items(), window_cost=1, workers=workers))


def test_vectors_do_not_depend_on_the_number_of_workers(own: Embedder) -> None:
    with PIL.Image.open(GOLDEN / "inputs" / "img_28.png") as picture:
        # One lazily read picture in many items at once.
        items: list[ItemLike] = [
            picture,
            {"image": picture, "text": "a"},
            "a text",
            GOLDEN / "inputs" / "img_640x480.png",
            picture,
        ] * 3
        alone = dict(own.stream(items, workers=0))
        together = dict(own.stream(items, workers=4))
    assert sorted(together) == sorted(alone) == list(range(15))
    for position, vector in alone.items():
        np.testing.assert_allclose(together[position], vector, rtol=0, atol=2e-6)  # type: ignore[arg-type]


# --- submitted items


@dataclass
class _Watched(Toy):
    """A toy whose packs are told, and whose model computes when it may."""

    free: threading.Event = field(default_factory=threading.Event)
    busy: threading.Event = field(default_factory=threading.Event)
    prepared: list[str] = field(default_factory=list)
    packs: list[int] = field(default_factory=list)

    def prepare(self, item: Item, ask: Ask, *, decoder: Decoder = media) -> ToyInput:
        self.prepared.append(item.text)
        if item.text == "fault":
            raise ZeroDivisionError("a fault of the family")
        return super().prepare(item, ask)

    def encode(self, packs: Iterable[Sequence[ToyInput]], output: Output) -> Iterator[list[np.ndarray]]:
        for pack in packs:
            self.busy.set()
            assert self.free.wait(10)
            self.packs.append(len(pack))
            if any(one.cost == 13 for one in pack):
                raise RuntimeError("out of memory")
            yield from super().encode([pack], output)


def _toy() -> _Watched:
    return _Watched(Settings(normalize=True, num_frames=1), np.ones(19, np.float32))


def test_an_item_takes_the_memory_that_its_family_says_while_it_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    take = Budget.taken

    def noted(budget: Budget, num_bytes: int) -> AbstractContextManager[None]:
        taken.append(num_bytes)
        return take(budget, num_bytes)

    monkeypatch.setattr(Budget, "taken", noted)
    toy = _toy()
    monkeypatch.setattr(toy, "weigh", lambda item, decoder: 10 * len(item.text))
    toy.free.set()
    with Pipeline(toy) as pipeline:
        list(pipeline.stream(["one", "three"]))
        pipeline.submit("seven").result()
    assert sorted(taken) == [30, 50, 50]


def _computing() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "compute"}


def test_items_that_wait_are_computed_together() -> None:
    toy = _toy()
    with Pipeline(toy) as pipeline:
        first = pipeline.submit("one")
        assert toy.busy.wait(10)
        others = [pipeline.submit(f"word {number}") for number in range(5)]
        # All are prepared while the model computes.
        _until(lambda: len(toy.prepared) == 6)
        time.sleep(0.05)
        assert not first.done()
        toy.free.set()
        for number, future in enumerate(others):
            np.testing.assert_array_equal(future.result(10), Embedder(toy, name="toy").encode(f"word {number}"))
    assert toy.packs[:2] == [1, 5]


def test_submitted_items_are_computed_in_the_order_in_which_they_are_ready() -> None:
    toy = _toy()
    with Pipeline(toy, workers=1, token_budget=4) as pipeline:
        pipeline.submit("first")
        assert toy.busy.wait(10)
        futures = [pipeline.submit("word " * cost) for cost in (1, 2, 9, 3, 1, 1)]
        _until(lambda: len(toy.prepared) == 7)
        time.sleep(0.05)
        toy.free.set()
        assert all(future.result(10).any() for future in futures)
    # Costs of 1 and 2, 9 alone although it is over the budget, 3 and 1, 1.
    assert toy.packs == [1, 2, 1, 2, 1]


def test_the_error_of_an_item_reaches_its_future_alone() -> None:
    toy = _toy()
    toy.free.set()
    texts = ["a", "", "fault", " ".join("abcdefghijklm"), "b"]
    with Pipeline(toy) as pipeline:
        futures = [pipeline.submit(text) for text in texts]
        errors = [type(future.exception(10)) for future in futures]
        assert errors == [type(None), InputError, ZeroDivisionError, RuntimeError, type(None)]
        # One that is no item at all is an error of its own, too, and the threads still work.
        assert isinstance(pipeline.submit(b"bytes").exception(10), InputError)  # type: ignore[arg-type]
        assert pipeline.submit("c").result(10).shape == (19,)


def test_too_many_that_wait_hold_up_whoever_submits_more() -> None:
    toy = _toy()
    with Pipeline(toy, most_waiting=2) as pipeline:
        waiting = [pipeline.submit(text) for text in "ab"]
        with pytest.raises(BusyError, match=r"^2 items wait for their vectors; ask again later$"):
            pipeline.submit("c", timeout_s=0.05)
        threading.Timer(0.1, toy.free.set).start()
        assert pipeline.submit("c", timeout_s=10).result(10).any()
        assert all(future.done() for future in waiting)


def test_no_more_is_prepared_than_a_window_and_one_for_each_thread() -> None:
    toy = _toy()
    with Pipeline(toy, workers=2, window_cost=3) as pipeline:
        futures = [pipeline.submit("word") for _ in range(40)]
        assert toy.busy.wait(10)
        time.sleep(0.1)
        # One window at most in the model, one that waits, and one item for each thread.
        assert len(toy.prepared) <= 3 + 2 + 3 + 2
        toy.free.set()
        assert all(future.result(10).any() for future in futures)
    assert sum(toy.packs) == 40


def test_a_pipeline_that_is_closed_has_answered_all_and_ended_its_threads() -> None:
    toy, before = _toy(), (_preparing(), _computing())
    pipeline = Pipeline(toy)
    futures = [pipeline.submit(text) for text in "abc"]
    threading.Timer(0.1, toy.free.set).start()
    pipeline.close()
    assert all(future.done() for future in futures)
    assert _preparing() <= before[0]
    assert _computing() <= before[1]
    with pytest.raises(RuntimeError, match="the pipeline is closed"):
        pipeline.submit("d")
    pipeline.close()


def test_an_error_in_the_block_cancels_items_that_nobody_has_looked_at() -> None:
    toy = _toy()
    threading.Timer(0.3, toy.free.set).start()
    futures: list[Future[Vectors]] = []

    def fail() -> None:
        with Pipeline(toy, workers=1, window_cost=1) as pipeline:
            futures.extend(pipeline.submit(f"word {number}") for number in range(20))
            assert toy.busy.wait(10)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert {future.done() for future in futures} == {True}
    assert futures[0].result().any()
    assert futures[-1].cancelled()
    assert "word 19" not in toy.prepared


def test_many_threads_may_submit_at_once() -> None:
    toy = _toy()
    toy.free.set()
    texts = [f"word {number % 7}" for number in range(400)]
    expected = Embedder(toy, name="toy").encode(texts)
    with Pipeline(toy, most_waiting=20) as pipeline, ThreadPoolExecutor(16) as callers:
        found = list(callers.map(lambda text: pipeline.submit(text).result(30), texts))
    np.testing.assert_array_equal(np.stack(found), expected)


def _until(holds: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within ten seconds")
