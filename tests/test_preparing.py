"""Items are made ready in threads that run ahead, in order and within bounds."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import PIL.Image
import pytest

from golden_cases import GOLDEN
from vlm2vec.errors import InputError, VLM2VecError
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
