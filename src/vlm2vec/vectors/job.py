"""How is each different content embedded once, and its vector kept whatever ends the process?"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import closing
from dataclasses import KW_ONLY, dataclass, field
from threading import RLock
from typing import TYPE_CHECKING, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from vlm2vec import media
from vlm2vec.errors import VectorError, VLM2VecError
from vlm2vec.items import ItemLike
from vlm2vec.model.backbone import Ask
from vlm2vec.processes import Alone, Processes

if TYPE_CHECKING:
    from vlm2vec.media.sandbox import Decoder

# Work that waits because it is asked otherwise than the items that are being embedded. Its items lie in memory.
_WAITING = 512


class Encoder(Protocol):
    """A model; `Embedder` is one."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def stream(
        self,
        items: Iterable[ItemLike],
        ask: Ask = Ask(),
        *,
        normalize_embeddings: bool | None = None,
        decoder: Decoder = media,
    ) -> Generator[tuple[int, NDArray[np.float32] | VLM2VecError], None, None]:
        """As `Embedder.stream`: the position of each item, and its vectors or its error, in no fixed order."""
        ...


class NamedEncoder(Encoder, Protocol):
    """A model that has a name; `Embedder` is one."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Work:
    """An item that needs a vector.

    Args:
        key: under which the vector is kept; items of equal keys are embedded once.
        item: the item, or a function that reads it: it is called when the model is ready for the item, in the process
            that embeds it, and never where the vector is known.
        origin: what the item is called if something is wrong with it.
        ask: how it is put to the model.
    """

    key: bytes
    item: ItemLike | Callable[[], ItemLike]
    origin: str
    ask: Ask = Ask()

    def fail(self, error: VLM2VecError) -> NoReturn:
        """Raise an error of the item with its origin in front; for `on_failure` of a run that needs all its items."""
        raise error.of(self.origin) from error


class Sink(Protocol):
    """A place that keeps vectors: a `VectorStore`, a `TokenStore`, an index. It is used by one thread at a time."""

    def __contains__(self, key: bytes, /) -> bool:
        """Whether a vector is kept under this key, as it is after `put`. Asked in the thread that takes the work."""
        ...

    def put(self, keys: Sequence[bytes], vectors: Sequence[NDArray[np.float32]], /) -> None:
        """Keep vectors. They are durable when this returns."""
        ...


@dataclass(frozen=True)
class Flush:
    """When vectors go from memory into the sink: as soon as one of these is reached. A kill costs no more than that.

    Args:
        rows: vectors that wait.
        seconds: since the last time.
        num_bytes: of the vectors that wait.
    """

    rows: int = 1024
    seconds: float = 20.0
    num_bytes: int = 1 << 26


@dataclass(frozen=True)
class JobReport:
    """The outcome of some work; several processes report the same, of all of them.

    Args:
        embedded: vectors made.
        known: items that needed none, because the sink had it or an equal item got it.
        failed: why an item has no vector, by its origin.
    """

    embedded: int
    known: int
    failed: Mapping[str, VLM2VecError]


@dataclass(frozen=True)
class EmbedJob:
    """Embeds what a sink lacks.

    Args:
        encoder: the model.
        sink: where its vectors go.
        flush: how much may wait in memory.
        processes: those that share the work; each must be given the same.
        decoder: makes pictures of media. A `Sandbox` is closed if the run is cut short, because threads wait for it.
        normalize: scale vectors to length one; None: as the checkpoint says.
    """

    encoder: Encoder
    sink: Sink
    _: KW_ONLY
    flush: Flush = Flush()
    processes: Processes = field(default_factory=Alone)
    decoder: Decoder = media
    normalize: bool | None = None

    def run(
        self,
        work: Iterable[Work],
        *,
        on_progress: Callable[[int, int | None], None] | None = None,
        on_failure: Callable[[Work, VLM2VecError], None] | None = None,
    ) -> JobReport:
        """Embed each different key of some work that the sink lacks, and put the vectors into it as they come.

        However the run ends, all vectors that were made are put into the sink, once: those that it refuses are given
        up, and the error that ended the run comes before the sink's. Both callbacks are called by one thread at a time.

        Args:
            work: of any length. It is taken in another thread, as the model needs it, and where taking it ends in an
                error, the work before is done first. Several processes take all of it at once, to share what is
                missing.
            on_progress: called with (items done, all items); all items are None unless `work` has a length. Items of
                other processes are taken to be as far as those of this one.
            on_failure: called for each item that cannot be embedded, in the process that tried. Where it raises an
                error (`Work.fail` does), the run ends with it, of several processes in all.

        Raises:
            VLM2VecError: the sink cannot keep the vectors; of several processes all raise it.
        """
        processes = self.processes
        num_known, total = 0, len(work) if isinstance(work, Sized) else None
        if processes.size > 1:
            work, num_known, total = self._share(work)

        def report(num_done: int) -> None:
            if on_progress is not None:
                done = num_known + num_done * processes.size
                on_progress(done if total is None else min(done, total), total)

        report(0)
        ledger = _Ledger(self.sink, self.flush, report, on_failure)
        processes.agree(lambda: self._embed(work, ledger), always=ledger.write)
        of_each = processes.gather(ledger.report())
        if processes.size > 1 and total:
            report(total)
        return JobReport(
            sum(one.embedded for one in of_each),
            num_known + sum(one.known for one in of_each),
            {origin: error for one in of_each for origin, error in one.failed.items()},
        )

    def _share(self, work: Iterable[Work]) -> tuple[list[Work], int, int]:
        """The work that this process is to do, the number of items that are known, and that of all."""
        processes = self.processes

        def grouped() -> dict[bytes, list[Work]]:
            groups: dict[bytes, list[Work]] = {}
            for one in work:
                groups.setdefault(one.key, []).append(one)
            return groups

        groups = processes.agree(grouped)
        # The first process decides for all: each may have looked at another time.
        found = processes.gather([key in self.sink for key in groups])[0]
        missing = [equal for equal, is_known in zip(groups.values(), found, strict=True) if not is_known]
        total = sum(map(len, groups.values()))
        # In turn, so that items of one kind and size are spread over the processes.
        mine = [one for equal in missing[processes.rank :: processes.size] for one in equal]
        return mine, total - sum(map(len, missing)), total

    def _embed(self, work: Iterable[Work], ledger: _Ledger) -> None:
        errors: list[Exception] = []
        queue = _Queue(one for one in _until_error(work, errors) if ledger.is_new(one))
        while (ask := queue.next_ask()) is not None:
            sent: dict[int, bytes] = {}
            items = _items(queue.of(ask), sent, ledger)
            stream = self.encoder.stream(items, ask, normalize_embeddings=self.normalize, decoder=self.decoder)
            with closing(stream) as results:
                try:
                    for position, result in results:
                        ledger.settle(sent.pop(position), result)
                except BaseException:
                    from vlm2vec.media.sandbox import Sandbox

                    # Threads may wait a minute for it.
                    if isinstance(self.decoder, Sandbox):
                        self.decoder.close()
                    raise
        if errors:
            raise errors[0]


def _until_error(work: Iterable[Work], errors: list[Exception]) -> Iterator[Work]:
    """Some work, until taking it ends in an error, which is noted: raised here, it would cost the work under way."""
    try:
        yield from work
    except Exception as error:
        errors.append(error)


def _items(work: Iterable[Work], sent: dict[int, bytes], ledger: _Ledger) -> Iterator[ItemLike]:
    """The items of some work, whose keys are noted by position."""
    position = 0
    for one in work:
        try:
            item: ItemLike = one.item() if callable(one.item) else one.item
        except VLM2VecError as error:
            ledger.settle(one.key, error)
            continue
        sent[position] = one.key
        position += 1
        yield item


class _Queue:
    """Work in batches that are asked alike; a stream of one ask is never cut."""

    def __init__(self, coming: Iterator[Work]) -> None:
        self._coming = coming
        self._waiting: dict[Ask, deque[Work]] = {}

    def next_ask(self) -> Ask | None:
        """The ask for which most work waits; None at the end."""
        if not self._waiting and (one := next(self._coming, None)) is not None:
            self._waiting[one.ask] = deque([one])
        return max(self._waiting, key=lambda ask: len(self._waiting[ask]), default=None)

    def of(self, ask: Ask) -> Iterator[Work]:
        """Work of one ask, until all is done or so much work of others waits that it is their turn."""
        own = self._waiting.pop(ask)
        while own:
            yield own.popleft()
        while sum(map(len, self._waiting.values())) < _WAITING:
            one = next(self._coming, None)
            if one is None:
                return
            if one.ask == ask:
                yield one
            else:
                self._waiting.setdefault(one.ask, deque()).append(one)


class _Ledger:
    """Which keys are known, under way or failed. One thread takes the work, another the vectors."""

    def __init__(
        self,
        sink: Sink,
        flush: Flush,
        on_done: Callable[[int], None],
        on_failure: Callable[[Work, VLM2VecError], None] | None,
    ) -> None:
        self._sink = sink
        self._flush = flush
        self._on_done = on_done
        self._on_failure = on_failure
        self._lock = RLock()
        self._num_done = self._num_embedded = self._num_failed = 0
        self._failed: dict[str, VLM2VecError] = {}
        self._under_way: dict[bytes, list[Work]] = {}
        self._errors: dict[bytes, VLM2VecError] = {}
        self._unwritten: dict[bytes, NDArray[np.float32]] = {}
        self._num_bytes = 0
        self._written_at_s = time.monotonic()

    def is_new(self, work: Work) -> bool:
        """Whether some work must be done; if not, it is done already, or will be with its equal."""
        with self._lock:
            if work.key in self._under_way:
                self._under_way[work.key].append(work)
                return False
            error = self._errors.get(work.key)
            if error is not None or work.key in self._unwritten or work.key in self._sink:
                self._note([work], error)
                return False
            self._under_way[work.key] = [work]
            return True

    def settle(self, key: bytes, result: NDArray[np.float32] | VLM2VecError) -> None:
        """Take in what a key has become, and write if it is time."""
        with self._lock:
            if not isinstance(result, VLM2VecError) and not np.isfinite(result).all():
                result = VectorError(
                    "the vector that the model makes of it is not finite; look for nan in the model's weights"
                )
            equal = self._under_way.pop(key)
            if isinstance(result, VLM2VecError):
                self._errors[key] = result
                self._note(equal, result)
                return
            self._unwritten[key] = result
            self._num_embedded += 1
            self._num_bytes += result.nbytes
            flush, waited_s = self._flush, time.monotonic() - self._written_at_s
            if len(self._unwritten) >= flush.rows or self._num_bytes >= flush.num_bytes or waited_s >= flush.seconds:
                self.write()
            self._note(equal)

    def write(self) -> None:
        """Put all vectors into the sink. Those that it refuses are given up: they would be refused again."""
        with self._lock:
            unwritten, self._unwritten, self._num_bytes = self._unwritten, {}, 0
            if unwritten:
                self._sink.put(list(unwritten), list(unwritten.values()))
            self._written_at_s = time.monotonic()

    def report(self) -> JobReport:
        """The outcome so far."""
        return JobReport(self._num_embedded, self._num_done - self._num_embedded - self._num_failed, self._failed)

    def _note(self, work: Sequence[Work], error: VLM2VecError | None = None) -> None:
        self._num_done += len(work)
        if error is not None:
            self._num_failed += len(work)
            for one in work:
                self._failed.setdefault(one.origin, error)
                if self._on_failure is not None:
                    self._on_failure(one, error)
        self._on_done(self._num_done)
