"""What has to be done so that an index says what its folder holds, with as few embeddings as possible?"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from vlm2vec.errors import LimitError, MediaError, VLM2VecError
from vlm2vec.items import ANIMATED_SUFFIXES, Item
from vlm2vec.model.backbone import Ask
from vlm2vec.search.info import DECODING
from vlm2vec.search.renewing import renew
from vlm2vec.search.rows import Row, StoredFile, Vector
from vlm2vec.search.scan import (
    FileKind,
    FoundFile,
    Unit,
    ending,
    expand,
    file_kind,
    read_error,
    scan_folder,
    scan_paths,
)
from vlm2vec.search.standing import (
    Failure,
    Standing,
    is_current,
    is_lasting,
    read_failures,
    removed_files,
    write_failures,
)
from vlm2vec.search.summary import Summary
from vlm2vec.search.table import Building

if TYPE_CHECKING:
    from vlm2vec.media.sandbox import Decoder
    from vlm2vec.model.embedder import Embedder
    from vlm2vec.search.index import Index

__all__ = ["Summary", "update", "is_current"]

# What a kill may cost at most, against commits that take some milliseconds each.
_ROWS_PER_COMMIT = 256
_COMMIT_EVERY_S = 20.0

_Content: TypeAlias = tuple[str, FileKind, bool]
"""What makes files equal: hash, kind, and whether the ending is one of those whose pictures may move."""

_Outcome: TypeAlias = Literal["added", "changed", "unchanged"]


def update(
    index: Index,
    paths: Iterable[Path] | None,
    embedder: Embedder,
    progress: Callable[[int, int], None] | None,
    building: Building,
    retry: bool,
) -> Summary:
    """Do the work of `Index.add`, whose caller holds the write lock."""
    index.table.refresh()
    index.table.upgrade()
    if paths is None:
        scan = scan_folder(index.folder, skip=[index.path])
    else:
        scan = scan_paths(index.folder, map(index.relative, paths), skip=[index.path])
    if index.decoding < DECODING:
        renew(index, scan if paths is None else scan_folder(index.folder, skip=[index.path]))
    before, failures = index.table.files(), read_failures(index.path)
    standing = Standing(before, failures, scan.files)
    index.table.note_looks(standing.lacking_looks(scan))
    skipped = set[str]()
    if not retry:
        skipped |= {file.path for file in scan.files if standing.has_failed(file)}
        skipped |= {path for path, reason in scan.failed if standing.is_known_failure(path, reason)}
    todo = [file for file in scan.files if not standing.is_current(file) and file.path not in skipped]
    run = _Run(index, embedder, before, todo, progress)
    for path, reason in scan.failed:
        if path not in skipped:
            run.fail(path, reason)
    if todo or run.failed:
        run.embed()
    # Last, so that a file that was only renamed finds its vectors under the old name.
    removed = removed_files(scan, before) if paths is None else []
    index.table.replace(removed, [])
    index.table.tidy(building)
    looks = {file.path: file[2:] for file in todo}
    kept = {path: failure for path, failure in failures.items() if path in skipped}
    if paths is not None:
        looked_at = {file.path for file in scan.files} | {path for path, _ in scan.failed}
        kept |= {path: failure for path, failure in failures.items() if path not in looked_at}
    new = {path: Failure(reason, looks.get(path)) for path, reason in run.failed.items() if path not in run.passing}
    write_failures(index.path, kept | new)
    return Summary(
        added=run.counts["added"],
        changed=run.counts["changed"],
        removed=len(removed),
        unchanged=run.counts["unchanged"] + sum(map(standing.is_current, scan.files)),
        embedded=run.embedded,
        ignored=scan.ignored,
        failed=tuple(sorted(run.failed.items())),
        left_out=dict(scan.left_out),
        failed_before=len(skipped),
    )


@dataclass(slots=True)
class _Job:
    """A content that is being embedded, for one file or for several that are equal."""

    content_hash: str
    files: list[FoundFile]
    units: list[Unit]
    vectors: list[Vector | None]
    num_waiting: int
    errors: dict[int, str] = field(default_factory=dict)
    passing: bool = False

    def rows(self, file: FoundFile) -> list[Row]:
        return [
            Row(
                path=file.path,
                kind=unit.kind,
                page=unit.page,
                span_s=unit.span_s,
                num_units=len(self.units),
                content_hash=self.content_hash,
                size=file.size,
                mtime_ns=file.mtime_ns,
                vector=vector,
                ctime_ns=file.ctime_ns,
                inode=file.inode,
            )
            for unit, vector in zip(self.units, self.vectors, strict=True)
            if vector is not None
        ]

    def reason(self, path: Path) -> str | None:
        """Why the file at `path` counts as failed: its first error, and how many of its parts have one."""
        if not self.errors:
            return None
        # The error names the one of several equal files that was decoded.
        first = self.errors[min(self.errors)].replace(str(self.units[0].medium.source), str(path))
        if len(self.units) == 1:
            return first
        return f"{first} ({len(self.errors)} of its {len(self.units)} parts failed)"


class _Run:
    """One pass over the files to do. Rows are written in batches of whole files as their vectors come in.

    Items are taken in another thread than results come in (`Embedder.stream`); one lock is around what both change.
    """

    def __init__(
        self,
        index: Index,
        embedder: Embedder,
        before: dict[str, StoredFile],
        todo: list[FoundFile],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.counts: dict[_Outcome, int] = {"added": 0, "changed": 0, "unchanged": 0}
        self.embedded = 0
        self.failed: dict[str, str] = {}
        # Those that may be readable at the next try without having changed.
        self.passing: set[str] = set()
        self._index = index
        self._embedder = embedder
        self._before = before
        self._todo = todo
        self._progress = progress
        self._num_settled = 0
        self._lock = threading.RLock()
        # What the table holds, kept true with every commit: its files, and the complete ones by content.
        self._stored = dict(before)
        self._holders: dict[_Content, set[str]] = {}
        self._jobs: dict[_Content, _Job] = {}
        self._waiting: dict[int, tuple[_Job, int]] = {}
        # The next commit.
        self._finished: list[_Job] = []
        self._copies: list[tuple[FoundFile, str]] = []
        self._leaving: list[str] = []
        self._num_rows = 0
        self._committed_at = time.monotonic()

    def embed(self) -> None:
        """Bring all files of `todo` into the table, or into `failed`."""
        for path, stored in self._before.items():
            self._hold(path, stored)
        from vlm2vec.media.sandbox import Sandbox

        items = self._items(sandbox := Sandbox())
        stream = self._embedder.stream(items, Ask("document"), normalize_embeddings=True, decoder=sandbox)
        try:
            # Closed before the last commit, so that nothing is started beside it; threads wait for the sandbox.
            with closing(stream) as results, sandbox:
                for position, result in results:
                    with self._lock:
                        self._take(position, result)
                        self._commit_if_due()
        except BaseException:
            # Most of all Ctrl-C: what is done is kept.
            self._commit()
            raise
        self._commit()

    def fail(self, path: str, reason: str) -> None:
        """Note a file that cannot be read at all; what the table has of it is of an earlier content and leaves."""
        self._note_failure(path, reason)
        if path in self._before:
            self._leaving.append(path)

    def _items(self, decoder: Decoder) -> Iterator[Item]:
        position = 0
        for file in self._todo:
            try:
                content_hash = _hash_file(self._index.folder / file.path, file)
            except (OSError, MediaError) as error:
                self._cannot(file, error)
                continue
            with self._lock:
                job = self._start(file, content_hash, decoder)
                self._commit_if_due()
            if job is None:
                continue
            for number, unit in enumerate(job.units):
                if job.vectors[number] is None:
                    self._waiting[position] = job, number
                    position += 1
                    yield unit.item()

    def _start(self, file: FoundFile, content_hash: str, decoder: Decoder) -> _Job | None:
        """Find out what a file needs; None if that is no embedding of its own."""
        content = _content(content_hash, file.path, file.kind)
        if holders := self._holders.get(content):
            # By preference its own rows: then only its time has changed.
            source = file.path if file.path in holders else min(holders)
            self._copies.append((file, source))
            self._num_rows += self._stored[source].num_rows
            self._settle(file, content_hash, None)
            return None
        if job := self._jobs.get(content):
            if job.num_waiting:
                job.files.append(file)
            else:
                self._finish(replace(job, files=[file]))
            return None
        try:
            units = expand(self._index.folder / file.path, file.kind, decoder)
        except (OSError, MediaError) as error:
            self._cannot(file, error)
            return None
        vectors = self._known_vectors(file, content_hash, units)
        num_waiting = sum(vector is None for vector in vectors)
        job = self._jobs[content] = _Job(content_hash, [file], units, vectors, num_waiting)
        if not job.num_waiting:
            self._finish(job)
        return job

    def _cannot(self, file: FoundFile, error: OSError | MediaError) -> None:
        with self._lock:
            self.fail(file.path, read_error(error) if isinstance(error, OSError) else str(error))
            if not is_lasting(error):
                self.passing.add(file.path)
            self._count_settled()

    def _known_vectors(self, file: FoundFile, content_hash: str, units: list[Unit]) -> list[Vector | None]:
        """Vectors from an earlier run in which other parts of the same file failed."""
        stored = self._stored.get(file.path)
        if stored is None or stored.content_hash != content_hash:
            return [None] * len(units)
        known = {(row.page, row.span_s): row.vector for row in self._index.table.rows([file.path])}
        return [known.get((unit.page, unit.span_s)) for unit in units]

    def _take(self, position: int, result: Vector | VLM2VecError) -> None:
        job, number = self._waiting.pop(position)
        if isinstance(result, VLM2VecError):
            job.errors[number] = str(result)
            job.passing |= not is_lasting(result)
        else:
            job.vectors[number] = result
            self.embedded += 1
        job.num_waiting -= 1
        if not job.num_waiting:
            self._finish(job)

    def _finish(self, job: _Job) -> None:
        self._finished.append(job)
        self._num_rows += len(job.units) * len(job.files)
        for file in job.files:
            self._settle(file, job.content_hash, job.reason(self._index.folder / file.path))
            if job.passing:
                self.passing.add(file.path)

    def _settle(self, file: FoundFile, content_hash: str, reason: str | None) -> None:
        before = self._before.get(file.path)
        if reason is not None:
            self._note_failure(file.path, reason)
        elif before is None:
            self.counts["added"] += 1
        elif before.complete and before.content_hash == content_hash:
            self.counts["unchanged"] += 1
        else:
            self.counts["changed"] += 1
        self._count_settled()

    def _note_failure(self, path: str, reason: str) -> None:
        # The path stands beside the reason wherever it is shown.
        self.failed[path] = reason.removeprefix(f"{self._index.folder / path} ")

    def _count_settled(self) -> None:
        self._num_settled += 1
        if self._progress is not None:
            self._progress(self._num_settled, len(self._todo))

    def _commit_if_due(self) -> None:
        waited_s = time.monotonic() - self._committed_at
        if self._num_rows >= _ROWS_PER_COMMIT or (self._num_rows and waited_s >= _COMMIT_EVERY_S):
            self._commit()

    def _commit(self) -> None:
        finished, copies, leaving = self._finished, self._copies, self._leaving
        self._finished, self._copies, self._leaving, self._num_rows = [], [], [], 0
        ready = [(file, job.rows(file), job.content_hash) for job in finished for file in job.files]
        # Read before anything is written: the file copied from may be leaving in this very commit.
        of_source: dict[str, list[Row]] = {}
        for row in self._index.table.rows(sorted({source for _, source in copies})):
            of_source.setdefault(row.path, []).append(row)
        for file, source in copies:
            rows = of_source[source]
            own = [replace(row, path=file.path, size=file.size, mtime_ns=file.mtime_ns) for row in rows]
            own = [replace(row, ctime_ns=file.ctime_ns, inode=file.inode) for row in own]
            ready.append((file, own, rows[0].content_hash))
        new_rows: list[Row] = []
        new_files: dict[str, StoredFile] = {}
        for file, rows, content_hash in ready:
            if rows:
                num_units = rows[0].num_units
                stored = StoredFile(
                    file.size, file.mtime_ns, content_hash, num_units, len(rows), file.ctime_ns, file.inode
                )
                if stored == self._stored.get(file.path):
                    continue
                new_files[file.path] = stored
                new_rows += rows
            if file.path in self._stored:
                leaving.append(file.path)
        self._index.table.replace(leaving, new_rows)
        for path in leaving:
            self._let_go(path)
        for path, stored in new_files.items():
            self._stored[path] = stored
            self._hold(path, stored)
        for job in finished:
            # From now on equal files copy from the table; only a job with errors has no complete file there.
            if not job.errors:
                self._jobs.pop(_content(job.content_hash, job.files[0].path, job.files[0].kind), None)
        self._committed_at = time.monotonic()

    def _hold(self, path: str, stored: StoredFile) -> None:
        kind = file_kind(path)
        if stored.complete and kind is not None:
            self._holders.setdefault(_content(stored.content_hash, path, kind), set()).add(path)

    def _let_go(self, path: str) -> None:
        stored, kind = self._stored.pop(path, None), file_kind(path)
        if stored is not None and stored.complete and kind is not None:
            content = _content(stored.content_hash, path, kind)
            self._holders[content].discard(path)
            if not self._holders[content]:
                del self._holders[content]


def _content(content_hash: str, path: str, kind: FileKind) -> _Content:
    return content_hash, kind, ending(path) in ANIMATED_SUFFIXES


def _hash_file(path: Path, file: FoundFile) -> str:
    """32 hex digits of the file's content; a LimitError before anything is read if it is too large to be embedded."""
    # Here, because a search in an index that is up to date reads no file.
    from vlm2vec.media.limits import DEFAULT_LIMITS as LIMITS

    allowed = {"image": LIMITS.image_bytes, "video": LIMITS.video_bytes, "pdf": LIMITS.pdf_bytes}[file.kind]
    if file.size > allowed:
        raise LimitError(f"it has {file.size:,} bytes, and {allowed:,} are allowed for {file.kind} files")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
