"""Items are made ready in threads that run ahead, in order and within bounds."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.golden_cases import GOLDEN
from support.media_files import animation, encoded, picture, png_header
from vlm2vec.errors import InputError, MediaError, VLM2VecError
from vlm2vec.items import Image, Video
from vlm2vec.media import decoded_bytes
from vlm2vec.media.memory import Budget
from vlm2vec.model.embedder import Embedder
from vlm2vec.model.preparing import prepared_windows
from vlm2vec.model.processor import Prepared


def _of_length(length: int) -> Prepared:
    if length < 0:
        raise InputError(f"{length} is bad")
    return Prepared(
        np.zeros(length, dtype=np.int64), np.zeros((3, length)), np.zeros(0, dtype=np.int64), np.zeros((0, 1176)), ()
    )  # type: ignore[arg-type]


def _told(window: list[tuple[int, Prepared | VLM2VecError]]) -> list[tuple[int, int | str]]:
    return [(position, one.length if isinstance(one, Prepared) else str(one)) for position, one in window]


def _preparing() -> set[threading.Thread]:
    """The threads that prepare, here or for a stream that another test has not read to its end."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("prepare")}


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_windows_hold_every_item_in_order_and_end_when_they_are_full(workers: int) -> None:
    windows = prepared_windows(_of_length, [3, 4, -1, 9, 1, 1], window_tokens=7, workers=workers)
    assert [_told(window) for window in windows] == [
        [(0, 3), (1, 4)],
        [(2, "-1 is bad"), (3, 9)],
        [(4, 1), (5, 1)],
    ]
    assert list(prepared_windows(_of_length, [], window_tokens=7, workers=workers)) == []


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
    windows = prepared_windows(_of_length, items(), window_tokens=5, workers=1)
    assert _told(next(windows)) == [(0, 5)]
    assert len(_preparing() - others) == 2
    assert enough.wait(10)
    windows.close()
    assert len(taken) == 3 + 4
    assert _preparing() <= others


def test_errors_fill_a_window_too() -> None:
    windows = prepared_windows(_of_length, iter(lambda: -1, 0), window_tokens=32_768, workers=2)
    assert len(next(windows)) == 1024
    windows.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-1, 12), max_size=20), st.integers(1, 10), st.sampled_from([0, 1, 2, 5]))
def test_what_is_prepared_at_once_stays_within_the_budget_or_goes_alone(
    weights: list[int], total: int, workers: int
) -> None:
    lock, in_flight = threading.Lock(), list[int]()

    def prepare(weight: int) -> Prepared:
        with lock:
            in_flight.append(weight)
            heavy = [one for one in in_flight if one > 0]
            assert sum(heavy) <= total or len(heavy) == 1
        time.sleep(0.0005)
        with lock:
            in_flight.remove(weight)
        return _of_length(weight)

    def told(budget: Budget, weigh: Callable[[int], int]) -> list[list[tuple[int, int | str]]]:
        windows = prepared_windows(prepare, weights, window_tokens=20, workers=workers, weigh=weigh, budget=budget)
        return [_told(window) for window in windows]

    expected = [_told(window) for window in prepared_windows(_of_length, weights, window_tokens=20, workers=0)]
    assert told(Budget(total), lambda weight: weight) == expected


def test_a_stream_that_is_left_while_threads_wait_for_memory_ends_them() -> None:
    held, release, others = threading.Event(), threading.Event(), _preparing()
    prepared: list[int] = []

    def prepare(number: int) -> Prepared:
        prepared.append(number)
        if number == 1:
            held.set()
            assert release.wait(10)
        return _of_length(9)

    windows = prepared_windows(
        prepare, range(100), window_tokens=5, workers=4, weigh=lambda number: 3, budget=Budget(4)
    )
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

    def prepare(length: int) -> Prepared:
        prepared.append(length)
        time.sleep(0.02)
        return _of_length(length)

    others = _preparing()
    windows = prepared_windows(prepare, [1] * 1000, window_tokens=1000, workers=1)
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
    windows = prepared_windows(_of_length, items(), window_tokens=10, workers=1)
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
        list(prepared_windows(_of_length, items(), window_tokens=1, workers=workers))


def test_vectors_do_not_depend_on_the_number_of_workers(own: Embedder) -> None:
    with PIL.Image.open(GOLDEN / "inputs" / "img_28.png") as picture:
        # One lazily read picture in many items at once.
        items = [picture, {"image": picture, "text": "a"}, "a text", GOLDEN / "inputs" / "img_640x480.png", picture] * 3
        alone = dict(own.stream(items, workers=0))
        together = dict(own.stream(items, workers=4))
    assert sorted(together) == sorted(alone) == list(range(15))
    for position, vector in alone.items():
        np.testing.assert_allclose(together[position], vector, rtol=0, atol=2e-6)  # type: ignore[arg-type]
