"""How do files come into a store, each whole or not at all, and each content embedded once?"""

from __future__ import annotations

import errno
import logging
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from vlm2vec.errors import InputError, LimitError, MediaError, VLM2VecError
from vlm2vec.files import reason
from vlm2vec.items import Item, Kind
from vlm2vec.media import DEFAULT_LIMITS, Limits
from vlm2vec.media.sandbox import Decoder, Sandbox
from vlm2vec.model.backbone import Ask
from vlm2vec.search.contents import Content, ContentHolders, content_of, hash_with_words
from vlm2vec.search.parts import FileParts, read_parts
from vlm2vec.search.passages import split_passages
from vlm2vec.search.pending import PendingFile, Piece
from vlm2vec.search.plan import UpdatePlan
from vlm2vec.search.scan import FoundFile
from vlm2vec.search.store import Failure, FileRows, Look, Store, StoredUnit, Vector
from vlm2vec.text import counted
from vlm2vec.vectors.job import EmbedJob, Encoder, Flush, Work

_LOG = logging.getLogger("vlm2vec")
_DOCUMENT = Ask("document")
# What a kill may cost at most, against commits that take some milliseconds each.
_FLUSH = Flush(rows=256)

_Span: TypeAlias = tuple[float, float] | None


class Committer:
    """Reads the files of a plan, and commits them with the vectors of their parts as these are made.

    It is the sink of the job that embeds them. Work is taken in another thread than vectors come in: one lock is around
    all that both change.

    Args:
        store: which the caller is writing.
        on_progress: called with (files done, files to do).
        flush: how much may wait for a commit.

    Attributes:
        counts: files that were "added", "changed" or "unchanged", by what the index knew of them before.
        embedded: pictures, pages and spans that went through the model; passages of text are not counted.
        failed: why a file could not be read, or not in all its parts.
    """

    def __init__(
        self,
        plan: UpdatePlan,
        store: Store,
        folder: Path,
        *,
        on_progress: Callable[[int, int], None] | None = None,
        limits: Limits | None = None,
        flush: Flush = _FLUSH,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.embedded = 0
        self.failed: dict[str, str] = {}
        # Those that may be readable at the next try without having changed.
        self._passing: set[str] = set()
        self._store = store
        self._folder = folder
        self._before = store.files()
        self._todo = plan.read
        self._limits = limits or DEFAULT_LIMITS
        self._text_vectors = store.info.text_vectors
        self._on_progress = on_progress
        self._flush = flush
        self._lock = threading.RLock()
        # What the store holds, kept true with every commit.
        self._stored = dict(self._before)
        # Those are read anew, however whole they look.
        self._holders = ContentHolders(self._stored, store.lacking_words())
        self._pending: dict[Content, PendingFile] = {}
        self._waiting: dict[bytes, tuple[PendingFile, Piece]] = {}
        # For each file that was taken, how much work had been given out after it.
        self._ends: list[int] = []
        self._num_given = self._num_done = self._num_told = 0
        # The next commit.
        self._rows: list[FileRows] = []
        self._copies: list[tuple[FoundFile, str]] = []
        self._leaving: list[str] = []
        self._looks: dict[str, Look] = {}
        self._num_ready = 0
        self._committed_at_s = time.monotonic()
        for path, why in plan.refused.items():
            self._refuse(path, why)

    def run(self, load: Callable[[], Encoder]) -> None:
        """Do all of it. However it ends, what is whole by then is kept.

        Args:
            load: gives the model; called if something has to be embedded.
        """
        with Sandbox(self._limits) as decoder:
            try:
                work = self._work(decoder)
                if first := next(work, None):
                    job = EmbedJob(load(), self, flush=self._flush, decoder=decoder, normalize=True)
                    job.run(
                        chain([first], work),
                        on_progress=lambda done, total: self._advance(done),
                        on_failure=self._fail,
                    )
            except BaseException:
                # Most of all Ctrl-C. That something cannot be kept must not hide the reason.
                with suppress(VLM2VecError):
                    self._commit()
                raise
        self._commit()

    def failures(self) -> dict[str, Failure]:
        """What is to be noted of the failed files, because it stays so until they change."""
        looks = {file.path: file.look for file in self._todo}
        return {path: Failure(why, looks.get(path)) for path, why in self.failed.items() if path not in self._passing}

    def _work(self, decoder: Decoder) -> Iterator[Work]:
        """The parts of files that have to be embedded; files are read one after the other."""
        for file in self._todo:
            given: list[Work] = []
            try:
                content = self._read(file)
                with self._lock:
                    settled = self._settle_by_equal(file, content)
                if not settled:
                    found = read_parts(self._folder / file.path, file.kind, decoder)
                    with self._lock:
                        given = self._begin(file, content, found)
            except (OSError, MediaError) as error:
                with self._lock:
                    self._refuse(file.path, reason(error))
                    if not _is_lasting(error):
                        self._passing.add(file.path)
            with self._lock:
                self._num_given += len(given)
                self._ends.append(self._num_given)
                self._report()
                waited_s = time.monotonic() - self._committed_at_s
                if self._num_ready >= self._flush.rows or waited_s >= self._flush.seconds:
                    self._commit()
            yield from given

    def __contains__(self, key: bytes) -> bool:
        """False: work is given out only for what the store lacks."""
        return False

    def put(self, keys: Sequence[bytes], vectors: Sequence[Vector]) -> None:
        """Take in vectors, and commit the files that are whole now."""
        with self._lock:
            for key, vector in zip(keys, vectors, strict=True):
                pending, place = self._waiting.pop(key)
                pending.put(place, vector)
                self.embedded += place.passage is None
                self._settle_part(pending)
            self._commit()

    def _fail(self, work: Work, error: VLM2VecError) -> None:
        """Note that a part of a file cannot be embedded."""
        with self._lock:
            pending, place = self._waiting.pop(work.key)
            if place.passage is not None and isinstance(error, InputError):
                # A text of which the model knows no letter is still found by its words.
                pending.num_unread += 1
            else:
                pending.errors[place.part] = str(error)
                pending.passing |= not _is_lasting(error)
            self._settle_part(pending)

    def _advance(self, num_done: int) -> None:
        """Report that so much work is done, and with it the files that were taken before it."""
        with self._lock:
            self._num_done = num_done
            self._report()

    def _commit(self) -> None:
        """Write down what is whole. What cannot be written is given up, so that it does not fail again."""
        with self._lock:
            rows, copies, leaving, looks = self._rows, self._copies, self._leaving, self._looks
            self._rows, self._copies, self._leaving, self._looks, self._num_ready = [], [], [], {}, 0
            # Read before anything is written: the file copied from may be leaving in this very commit.
            sources = {one.path: one for one in self._store.read(sorted({source for _, source in copies}))}
            rows += [replace(sources[source], path=file.path, look=file.look) for file, source in copies]
            rows = [one for one in rows if self._holders.lacks(one.path) or self._stored.get(one.path) != one.stored]
            if leaving or rows:
                self._store.commit(leaving, rows)
            if looks:
                self._store.note_looks(looks)
            for path in leaving:
                self._stored.pop(path, None)
            self._stored |= {path: self._stored[path]._replace(look=look) for path, look in looks.items()}
            for one in rows:
                self._stored[one.path] = one.stored
                self._holders.add(one.path)
            self._committed_at_s = time.monotonic()

    def _read(self, file: FoundFile) -> Content:
        limits = self._limits
        allowed = {
            "image": limits.image_bytes,
            "video": limits.video_bytes,
            "pdf": limits.pdf_bytes,
            "document": limits.pdf_bytes,
        }[file.kind]
        if file.look.size > allowed:
            raise LimitError(f"it has {file.look.size:,} bytes, and {allowed:,} are allowed for {file.kind} files")
        return content_of(file.path, file.kind, hash_with_words(self._folder / file.path))

    def _settle_by_equal(self, file: FoundFile, content: Content) -> bool:
        """Settle a file whose content is in the store or under way; False if it is neither."""
        if (holder := self._holders.find(content, file.path)) is not None:
            if holder == file.path:
                self._looks[file.path] = file.look
            else:
                self._copies.append((file, holder))
                self._num_ready += self._stored[holder].num_stored
            self._settle(file, content[0])
        elif (pending := self._pending.get(content)) is None:
            return False
        elif pending.num_waiting:
            pending.files.append(file)
        else:
            # Some of its parts failed, so that no stored file is whole.
            self._finish(replace(pending, files=[file]))
        return True

    def _begin(self, file: FoundFile, content: Content, found: FileParts) -> list[Work]:
        """Give out the pictures and passages of a new content."""
        known = self._known_units(file, content)
        parts, no_words = found
        pending = PendingFile(content, [file], parts, no_words, [None] * len(parts), [[] for _ in parts], 0)
        missing: list[tuple[Piece, Item]] = []
        for number, part in enumerate(parts):
            missing += self._take_known(pending, number, known.get((part.kind, part.page, part.span_s)))
        pending.num_waiting = len(missing)
        if not missing:
            self._finish(pending)
            return []
        self._pending[content] = pending
        given = [Work(repr((*content, *place)).encode(), item, file.path, _DOCUMENT) for place, item in missing]
        self._waiting |= {work.key: (pending, place) for work, (place, _) in zip(given, missing, strict=True)}
        return given

    def _take_known(self, pending: PendingFile, number: int, known: StoredUnit | None) -> list[tuple[Piece, Item]]:
        """Give a part the vectors that the store has of it; the rest is returned."""
        part = pending.parts[number]
        pieces = split_passages(part.words.text, part.words.about) if self._text_vectors else []
        same_words = known is not None and known.words == part.words and len(known.passages) == len(pieces)
        pending.looks[number] = known.vector if known is not None else None
        pending.passages[number] = [*known.passages] if known is not None and same_words else [None] * len(pieces)
        missing = []
        if part.medium is not None and pending.looks[number] is None:
            missing.append((Piece(number, None), Item(media=(part.medium,))))
        if not same_words:
            missing += [(Piece(number, place), Item(piece)) for place, piece in enumerate(pieces)]
        return missing

    def _known_units(self, file: FoundFile, content: Content) -> dict[tuple[Kind, int | None, _Span], StoredUnit]:
        """Those of an earlier run in which other parts of the same file failed, or without words."""
        stored = self._stored.get(file.path)
        if stored is None or stored.content_hash != content[0]:
            return {}
        return {(one.kind, one.page, one.span_s): one for rows in self._store.read([file.path]) for one in rows.units}

    def _settle_part(self, pending: PendingFile) -> None:
        pending.num_waiting -= 1
        if not pending.num_waiting:
            self._finish(pending)

    def _finish(self, pending: PendingFile) -> None:
        if not pending.errors:
            # Equal files copy from the store as soon as it is written, before more work is taken.
            self._pending.pop(pending.content, None)
        for file in pending.files:
            rows = pending.rows(file)
            if rows.units:
                self._rows.append(rows)
                self._num_ready += len(rows.units)
            elif file.path in self._before:
                self._leaving.append(file.path)
            self._settle(file, pending.content[0], pending.reason(self._folder / file.path))
            if pending.passing:
                self._passing.add(file.path)
            if pending.no_words and rows.units:
                _LOG.warning("%s is found without its words: %s", self._folder / file.path, pending.no_words)
            if pending.num_unread:
                _LOG.warning(
                    "%s: the model cannot read %s of its text, which are found by their words alone",
                    self._folder / file.path,
                    counted(pending.num_unread, "passage"),
                )

    def _settle(self, file: FoundFile, file_hash: str, why: str | None = None) -> None:
        before = self._before.get(file.path)
        if why is not None:
            self._note_failure(file.path, why)
        elif before is None:
            self.counts["added"] += 1
        elif before.complete and before.content_hash == file_hash:
            self.counts["unchanged"] += 1
        else:
            self.counts["changed"] += 1

    def _refuse(self, path: str, why: str) -> None:
        """Note a file that cannot be read at all; what the store has of it is of an earlier content and leaves."""
        self._note_failure(path, why)
        if path in self._before:
            self._leaving.append(path)

    def _note_failure(self, path: str, why: str) -> None:
        # The path stands beside the reason wherever it is shown.
        self.failed[path] = why.removeprefix(f"{self._folder / path} ")

    def _report(self) -> None:
        num_done = bisect_right(self._ends, self._num_done)
        if self._on_progress is not None and num_done != self._num_told:
            self._num_told = num_done
            self._on_progress(num_done, len(self._todo))


def _is_lasting(error: OSError | VLM2VecError) -> bool:
    """Whether a file fails until it is changed; False where the system had trouble that may be over soon."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, MemoryError):
        return False
    return not isinstance(cause, OSError) or cause.errno in (None, errno.EACCES, errno.EPERM)
