"""How do items become vectors? Threads make them ready while the model computes, one pack after another.

Two ways lead through it. A stream takes an iterable of any length, in windows that are full, so that the packs of the
same items are always the same. A server submits items one by one, and those that are ready make the next pack.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from queue import Full, Queue
from typing import TYPE_CHECKING, Generic, Self, TypeAlias, TypedDict, TypeVar, Unpack

import numpy as np

from vlm2vec import media
from vlm2vec.cores import usable_cores
from vlm2vec.errors import BusyError, VectorError, VLM2VecError
from vlm2vec.items import ItemLike, as_item, check_several
from vlm2vec.media.frames import IN_FLIGHT, Budget
from vlm2vec.model.backbone import Ask, Backbone, Input, Output, Pack, Vectors, plan_packs
from vlm2vec.model.similarity import as_unit

if TYPE_CHECKING:
    from vlm2vec.media.sandbox import Decoder

T = TypeVar("T")
Key = TypeVar("Key")
_Window: TypeAlias = "list[tuple[Key, Input | VLM2VecError]]"

# Decoding and resizing release the interpreter's lock, tokenising too; more threads than this wait for one another.
_MOST_WORKERS = 8
# Items that each worker may be ahead.
_AHEAD = 4
_LOOK_EVERY_S = 0.1
# Errors that fill a window.
_ERRORS = 1024
# An iterable that waits for its next item cannot be woken; its thread ends with it.
_PATIENCE_S = 1.0
# Tokens of one forward pass, and of the inputs that are sorted by length together. Larger packs do not fit a CPU's
# cache; a prepared visual token weighs 4.7 kB, so a window stays under 200 MB.
_PACK_COST = {"cpu": 2048, "cuda": 32_768}
_WINDOW_COST = 32_768
# Items that are submitted and not yet answered.
_MOST_WAITING = 1024
# PIL reads a picture's pixels when they are first asked for, and one picture may be in several items and calls.
_PICTURES = threading.Lock()


class PipelineOptions(TypedDict, total=False):
    """How vectors are made, beside `Ask`.

    Args:
        truncate_dim: keep the first dimensions only, before scaling.
        normalize_embeddings: scale to length one; else as the checkpoint says. Those of tokens have it as they come.
        token_budget: cost of one forward pass; else by the device.
        workers: threads that decode and tokenise while the model computes; else one a core, at most eight. 0: none.
        decoder: makes pictures of media; a `media.sandbox.Sandbox` does it in processes that may die of a file.
    """

    truncate_dim: int | None
    normalize_embeddings: bool | None
    token_budget: int | None
    workers: int | None
    decoder: Decoder


class Pipeline(Generic[Input, Pack]):
    """A model with the threads that feed it; made by `Embedder.pipeline`. Close it, or use it in a with-block.

    Threads may share it.

    Args:
        output: vectors of whole items, or of their tokens.
        window_cost: of the items of a stream that are divided into packs together, or that wait when submitted.
        most_waiting: items that may be submitted and not yet answered.
        options: see `PipelineOptions`.
    """

    def __init__(
        self,
        backbone: Backbone[Input, Pack],
        *,
        output: Output = "pooled",
        window_cost: int = _WINDOW_COST,
        most_waiting: int = _MOST_WAITING,
        **options: Unpack[PipelineOptions],
    ) -> None:
        self._backbone = backbone
        self._output = output
        self._truncate_dim = options.get("truncate_dim")
        asked, workers = options.get("normalize_embeddings"), options.get("workers")
        scaled = backbone.settings.normalize if asked is None else asked
        self._scaled = bool(scaled) and (output == "pooled" or self._truncate_dim is not None)
        by_device = _PACK_COST.get(backbone.device.partition(":")[0], _PACK_COST["cpu"])
        self._pack_cost = options.get("token_budget") or by_device
        self._workers = min(usable_cores(), _MOST_WORKERS) if workers is None else workers
        self._decoder = options.get("decoder", media)
        self._window_cost = window_cost
        self._most_waiting = most_waiting
        self._pool = ThreadPoolExecutor(max(1, self._workers), "prepare")
        # The state of submitted items, all under one condition.
        self._changed = threading.Condition()
        self._unanswered: set[Future[Vectors]] = set()
        self._ready: deque[tuple[Future[Vectors], Input]] = deque()
        self._ready_cost = 0
        self._computing: threading.Thread | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.close(cancel=kind is not None)

    def stream(
        self, items: Iterable[ItemLike], ask: Ask = Ask()
    ) -> Generator[tuple[int, Vectors | VLM2VecError], None, None]:
        """Embed an iterable of any length; see `Embedder.stream`."""
        check_several(items)
        prepared = _prepared_windows(
            lambda item: self._prepared(item, ask),
            items,
            window_cost=self._window_cost,
            pool=self._pool if self._workers else None,
            ahead=self._workers * _AHEAD,
            weigh=self._weight,
            memory=IN_FLIGHT,
        )
        with closing(prepared) as windows:
            for window in windows:
                yield from self._embedded(window)

    def submit(self, item: ItemLike, ask: Ask = Ask(), *, timeout_s: float | None = None) -> Future[Vectors]:
        """Embed one item as soon as the model is free, together with the others that wait then.

        Waits while too many are unanswered, at most so many seconds. A future that is cancelled before its item is
        looked at costs nothing.

        Returns:
            a future of its vector [D], or of its vectors [tokens, E]; or of the item's own error.

        Raises:
            BusyError: too many are still unanswered after that time.
            RuntimeError: the pipeline is closed.
        """
        future: Future[Vectors] = Future()
        with self._changed:
            free = self._changed.wait_for(lambda: self._closed or len(self._unanswered) < self._most_waiting, timeout_s)
            if self._closed:
                raise RuntimeError("the pipeline is closed")
            if not free:
                raise BusyError(f"{len(self._unanswered)} items wait for their vectors; ask again later")
            if self._computing is None:
                self._computing = threading.Thread(target=self._compute, name="compute", daemon=True)
                self._computing.start()
            self._unanswered.add(future)
            future.add_done_callback(self._answered)
            self._pool.submit(self._make_ready, future, item, ask)
        return future

    def close(self, *, cancel: bool = False) -> None:
        """Take no more items, and end the threads when all futures are answered.

        Args:
            cancel: the futures of items that are not being prepared yet.
        """
        with self._changed:
            self._closed = True
            unanswered = list(self._unanswered) if cancel else []
            self._changed.notify_all()
        for future in unanswered:
            future.cancel()
        self._pool.shutdown()
        if self._computing is not None:
            self._computing.join()

    # --- one item, and packs of them

    def _prepared(self, item: ItemLike, ask: Ask) -> Input:
        item = as_item(item)
        with _PICTURES if item.holds_pictures else nullcontext():
            return self._backbone.prepare(item, ask, decoder=self._decoder)

    def _weight(self, item: ItemLike) -> int:
        """Memory that the pictures of an item take while it is prepared."""
        return self._backbone.weigh(as_item(item), decoder=self._decoder)

    def _embedded(self, window: _Window[Key, Input]) -> Iterator[tuple[Key, Vectors | VLM2VecError]]:
        """For each item of a window its vectors, or its error: a VectorError where they cannot be compared.

        Errors of preparing come first, then all else by pack.
        """
        whole: list[tuple[Key, Input]] = []
        for key, outcome in window:
            if isinstance(outcome, VLM2VecError):
                yield key, outcome
            else:
                whole.append((key, outcome))
        plan = plan_packs([prepared.cost for _, prepared in whole], self._pack_cost)
        packs = (self._backbone.pack([whole[one][1] for one in members]) for members in plan)
        for members, vectors in zip(plan, self._backbone.encode(packs, self._output), strict=True):
            for one, found in zip(members, vectors, strict=True):
                yield whole[one][0], self._finished(found)

    def _finished(self, vectors: Vectors) -> Vectors | VectorError:
        cut = vectors[..., : self._truncate_dim]
        scaled = as_unit(cut) if self._scaled else cut
        finite = np.isfinite(scaled).all()
        if finite and scaled.any(axis=-1).all():
            return scaled
        remedy = "look for nan in the model's weights"
        if self._backbone.dtype == "float16":
            remedy += ", or load it with dtype='bfloat16' or 'float32': float16 ends at 65,504"
        return VectorError(f"the vector that the model makes of it is {'zero' if finite else 'not finite'}; {remedy}")

    # --- submitted items

    def _answered(self, future: Future[Vectors]) -> None:
        with self._changed:
            self._unanswered.discard(future)
            self._changed.notify_all()

    def _make_ready(self, future: Future[Vectors], item: ItemLike, ask: Ask) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            with IN_FLIGHT.taken(self._weight(item)):
                prepared = self._prepared(item, ask)
        except Exception as error:  # A fault of ours belongs to this item alone, too.
            future.set_exception(error)
            return
        with self._changed:
            # Prepared items take memory: one window of them waits at most, and one for each thread.
            self._changed.wait_for(lambda: self._ready_cost < self._window_cost)
            self._ready.append((future, prepared))
            self._ready_cost += prepared.cost
            self._changed.notify_all()

    def _compute(self) -> None:
        """Answer futures until the pipeline is closed and none is left; the model's own thread."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ready or (self._closed and not self._unanswered))
                if not self._ready:
                    return
                window = self._next_pack()
                self._changed.notify_all()
            self._answer(window)

    def _next_pack(self) -> list[tuple[Future[Vectors], Input]]:
        """The items that are ready first: a short one must not wait for all long ones behind it."""
        members, cost = list[tuple[Future[Vectors], Input]](), 0
        while self._ready and (not members or cost + self._ready[0][1].cost <= self._pack_cost):
            members.append(self._ready.popleft())
            cost += members[-1][1].cost
        self._ready_cost -= cost
        return members

    def _answer(self, window: Sequence[tuple[Future[Vectors], Input]]) -> None:
        try:
            for future, result in self._embedded(list(window)):
                if isinstance(result, VLM2VecError):
                    future.set_exception(result)
                else:
                    future.set_result(result)
        except Exception as error:  # As of a model that runs out of memory.
            for future, prepared in window:
                if future.done():
                    continue
                if len(window) == 1:
                    future.set_exception(error)
                else:
                    # Each by itself: the others do not fail for the item that is at fault.
                    self._answer([(future, prepared)])


def _prepared_windows(
    prepare: Callable[[T], Input],
    items: Iterable[T],
    *,
    window_cost: int,
    pool: ThreadPoolExecutor | None,
    ahead: int = 0,
    weigh: Callable[[T], int] = lambda item: 0,
    memory: Budget = IN_FLIGHT,
) -> Generator[_Window[int, Input], None, None]:
    """Prepare items in their order, in windows that are full at some cost.

    While one window is used, the next one waits and the one after it is being filled: three are in memory at most.

    Args:
        prepare: called in the threads of the pool.
        items: taken as they are needed, in a thread of their own.
        window_cost: a window ends with the item that reaches it.
        pool: None prepares in the caller's thread, when a window is asked for.
        ahead: items that are prepared before their turn.
        weigh: how many bytes an item takes while it is prepared, asked in the same threads.
        memory: of these bytes, for all that is prepared at once.

    Yields:
        for each item its position and its prepared form, or the error that says why it cannot be embedded.
    """
    stopped = threading.Event()

    def outcome(item: T) -> Input | VLM2VecError:
        try:
            with memory.taken(weigh(item)):
                # The stream may have ended while it waited.
                if stopped.is_set():
                    raise CancelledError
                return prepare(item)
        except VLM2VecError as error:
            return error

    if pool is None:
        yield from _windows(map(outcome, items), window_cost)
    else:
        yield from _ahead(_windows(_in_order(pool, outcome, items, ahead, stopped), window_cost), stopped)


def _windows(outcomes: Iterable[Input | VLM2VecError], window_cost: int) -> Generator[_Window[int, Input], None, None]:
    window: _Window[int, Input] = []
    cost = 0.0
    for position, outcome in enumerate(outcomes):
        window.append((position, outcome))
        # An error costs something too, or all of many would be waited for.
        cost += window_cost / _ERRORS if isinstance(outcome, VLM2VecError) else outcome.cost
        if cost >= window_cost:
            yield window
            window, cost = [], 0.0
    if window:
        yield window


def _in_order(
    pool: ThreadPoolExecutor,
    outcome: Callable[[T], Input | VLM2VecError],
    items: Iterable[T],
    ahead: int,
    stopped: threading.Event,
) -> Iterator[Input | VLM2VecError]:
    waiting: deque[Future[Input | VLM2VecError]] = deque()
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
    # A list holds the next value; at the end an error stands there, or nothing.
    handed: Queue[list[T] | BaseException | None] = Queue(maxsize=1)

    def hand(value: list[T] | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                handed.put(value, timeout=_LOOK_EVERY_S)
                return True
            except Full:
                continue
        return False

    def fill() -> None:
        try:
            if all(hand([value]) for value in values):
                hand(None)
        except BaseException as error:  # The caller's thread must get it, of any kind.
            hand(error)
        finally:
            # Otherwise the pool would prepare the rest in vain.
            values.close()

    thread = threading.Thread(target=fill, name="prepare-ahead", daemon=True)
    thread.start()
    try:
        while (found := handed.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield from found
    finally:
        stopped.set()
        thread.join(_PATIENCE_S)
