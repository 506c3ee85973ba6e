"""How are items made ready while the model computes? In threads that run ahead by a bounded number of tokens."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from queue import Full, Queue
from typing import TypeAlias, TypeVar

from vlm2vec.cores import usable_cores
from vlm2vec.errors import VLM2VecError
from vlm2vec.media.memory import IN_FLIGHT, Budget
from vlm2vec.model.processor import Prepared

T = TypeVar("T")
Window: TypeAlias = list[tuple[int, Prepared | VLM2VecError]]

# Decoding and resizing release the interpreter's lock, tokenising too; more threads than this wait for one another.
MAX_WORKERS = 8
# Items that each worker may be ahead.
_AHEAD = 4
_LOOK_EVERY_S = 0.1
# Errors that fill a window.
_ERRORS = 1024
# An iterable that waits for its next item cannot be woken; its thread ends with it.
_PATIENCE_S = 1.0


def default_workers() -> int:
    """A thread for every core that this process may use, up to `MAX_WORKERS`."""
    return min(usable_cores(), MAX_WORKERS)


def prepared_windows(
    prepare: Callable[[T], Prepared],
    items: Iterable[T],
    *,
    window_tokens: int,
    workers: int,
    weigh: Callable[[T], int] = lambda item: 0,
    budget: Budget = IN_FLIGHT,
) -> Generator[Window, None, None]:
    """Prepare items in their order, in windows that are full with so many tokens.

    While one window is used, the next one waits and the one after it is being filled: three are in memory at most.

    Args:
        prepare: called in several threads at once.
        items: taken as they are needed, in a thread of their own.
        window_tokens: a window ends with the item that reaches it.
        workers: threads that prepare; 0 prepares in the caller's thread, when a window is asked for.
        weigh: how many bytes an item takes while it is prepared, asked in the same threads.
        budget: of these bytes, for all that is prepared at once.

    Yields:
        for each item its position and what it became, or the error that says why it cannot be embedded.
    """
    stopped = threading.Event()

    def outcome(item: T) -> Prepared | VLM2VecError:
        try:
            with budget.taken(weigh(item)):
                # It may have waited for so long that nobody wants it any more.
                if stopped.is_set():
                    raise CancelledError
                return prepare(item)
        except VLM2VecError as error:
            return error

    if workers == 0:
        yield from _windows(map(outcome, items), window_tokens)
        return
    pool = ThreadPoolExecutor(workers, "prepare")
    try:
        outcomes = _in_order(pool, outcome, items, workers * _AHEAD, stopped)
        yield from _ahead(_windows(outcomes, window_tokens), stopped)
    finally:
        pool.shutdown(cancel_futures=True)


def _windows(outcomes: Iterable[Prepared | VLM2VecError], window_tokens: int) -> Generator[Window, None, None]:
    window: Window = []
    tokens = 0.0
    for position, outcome in enumerate(outcomes):
        window.append((position, outcome))
        # An error weighs something too, or all of many would be waited for.
        tokens += outcome.length if isinstance(outcome, Prepared) else window_tokens / _ERRORS
        if tokens >= window_tokens:
            yield window
            window, tokens = [], 0.0
    if window:
        yield window


def _in_order(
    pool: ThreadPoolExecutor,
    outcome: Callable[[T], Prepared | VLM2VecError],
    items: Iterable[T],
    ahead: int,
    stopped: threading.Event,
) -> Iterator[Prepared | VLM2VecError]:
    waiting: deque[Future[Prepared | VLM2VecError]] = deque()
    try:
        for item in items:
            if stopped.is_set():
                return
            waiting.append(pool.submit(outcome, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting and not stopped.is_set():
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _ahead(values: Generator[T, None, None], stopped: threading.Event) -> Generator[T, None, None]:
    """The same values, the next one of which is made while the last is used; `stopped` is set at the end."""
    handed: Queue[tuple[str, object]] = Queue(maxsize=1)

    def hand(kind: str, value: object) -> bool:
        while not stopped.is_set():
            try:
                handed.put((kind, value), timeout=_LOOK_EVERY_S)
                return True
            except Full:
                continue
        return False

    def fill() -> None:
        try:
            for value in values:
                if not hand("value", value):
                    break
            else:
                hand("end", None)
        except BaseException as error:  # Whatever it is, the caller's thread must get it.
            hand("error", error)
        finally:
            # Else what waits in the pool would be prepared though nobody wants it.
            values.close()

    thread = threading.Thread(target=fill, name="prepare-ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = handed.get()
            if kind == "end":
                return
            if kind == "error":
                raise value  # type: ignore[misc]
            yield value  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join(_PATIENCE_S)
