"""How does LanceDB keep an index of millions of vectors, with their words?"""

from __future__ import annotations

import hashlib
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np

from vlm2vec.errors import BusyError, IndexFolderError, InputError, MissingError, StorageError
from vlm2vec.extras import require
from vlm2vec.items import Kind
from vlm2vec.search.store import (
    ANYTHING,
    DECODING,
    Background,
    Building,
    Failure,
    FileRows,
    Filter,
    IndexInfo,
    Look,
    Match,
    Near,
    StoredFile,
    Vector,
    Verdict,
    Wanted,
)
from vlm2vec.search.stores.candidates import terms_of
from vlm2vec.search.stores.lance.full_text import TermIndex
from vlm2vec.search.stores.lance.nearest import Nearest, Of
from vlm2vec.search.stores.lance.reading import Reading
from vlm2vec.search.stores.lance.rows import (
    LOOK,
    PATHS_PER_STATEMENT,
    as_arrow,
    escape,
    is_known,
    path_filters,
    schema_of,
    where_clause,
)
from vlm2vec.search.stores.lance.seal import BACKGROUND, FAILURES, LanceInfo, Seal, SealReport
from vlm2vec.search.stores.lance.upkeep import Upkeep
from vlm2vec.search.stores.matches import best_matches
from vlm2vec.search.stores.place import TABLE, Place

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.table import Table

NEEDED = ("scale", "lancedb", "pyarrow")
"""The extra, and what it installs."""

EXACT_UP_TO = 200_000
"""So many vectors of one sort are compared one by one: to make an approximate index takes a minute for each 100,000."""

_NAME = "units"
# A reader that has just opened the table has this long to finish before the files of its version may go.
_KEEP_OLD_VERSIONS_S = 60.0
_READING_TRIES = 5
_Answer = TypeVar("_Answer")


class LanceStore:
    """An index in a LanceDB table and a small `index.json`; the files of the table have checksums (`Seal`).

    Search is exact up to 200,000 vectors. Beyond, it goes through an approximate index (docs/performance.md says what
    it misses); scores are always exact. Words are found as in the store in one file, and ordered by LanceDB's BM25.

    Args:
        exact_up_to: so many vectors need no approximate index.
        keep_old_s: versions of the table that are younger stay for their readers.

    Raises:
        IndexFolderError: there is none, or it is damaged, of a newer format or of another program.
        MissingError: LanceDB is not installed.
    """

    def __init__(
        self, place: Path, *, exact_up_to: int = EXACT_UP_TO, keep_old_s: float = _KEEP_OLD_VERSIONS_S
    ) -> None:
        self.place = place
        self._at = Place(place)
        self._seal = Seal(place / TABLE)
        document = LanceInfo.read(self._at)
        self.info = document.info
        self.was_chosen = document.store == "lance"
        try:
            require(*NEEDED)
        except MissingError as error:
            raise MissingError(f"LanceDB keeps the index {place}: {error.message}", *error.hints, "rebuild") from None
        import lancedb

        # Since files are decoded as now, tables have checksums.
        self._sealed = self.info.decoding >= DECODING
        with self._at.explained("open"):
            report = self._check()
            self._sealed = report is not None
            self._table = lancedb.connect(place).open_table(_NAME)
            if not is_known(self._table.schema, self.info.dim):
                raise ValueError("its table has other columns than expected")
            _check_version(self._table, report)
            self.background = _read_background(self._seal, document.background, self.info.dim)
        self._background_name = document.background
        self._reading = Reading(self._table, self.info.dim)
        self._upkeep = Upkeep(self._table, self._seal, exact_up_to, timedelta(seconds=keep_old_s))
        # Numbers of units are given by one thread at a time.
        self._numbering = threading.Lock()
        self._next_number: int | None = None
        if report is not None and report.moved:
            # After a copy every file looks new: its next reader need not read them all again.
            with suppress(IndexFolderError, BusyError, StorageError), self._held(), self._at.explained("write"):
                self._write_seal()

    @classmethod
    def create(cls, place: Path, info: IndexInfo, *, background: Background | None = None) -> Self:
        """Make an empty table in the folder `place`, in which there is no index. Its caller holds the lock."""
        import lancedb

        with Place(place).explained("write"):
            # The table first: a folder without index.json is no index yet, so a kill in between leaves none.
            table = lancedb.connect(place).create_table(_NAME, schema=schema_of(info.dim))
            TermIndex(table).make()
            seal = Seal(place / TABLE)
            name = None if background is None else _write_background(seal, background)
            seal.write(int(table.version))
            LanceInfo.write(Place(place), info, background=name)
        return cls(place)

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._held():
            with self._at.explained("write"):
                if not self._reading.has_words:
                    # Releases that do not know words shall say so.
                    self._write_info(self.info, None)
                    self._rewrite(None)
                elif not TermIndex(self._table).is_whole:
                    TermIndex(self._table).make()
                    self._write_seal()
            yield

    @contextmanager
    def _held(self) -> Iterator[None]:
        with self._at.hold():
            self.refresh()
            yield

    def refresh(self) -> None:
        with self._at.explained("read"):
            report = self._check()
            document = LanceInfo.read(self._at)
            if (document.fingerprint, document.dim) != (self.info.fingerprint, self.info.dim):
                raise IndexFolderError(f"the index {self.place} was made anew by another process, with another model")
            self.info = document.info
            self._table.checkout_latest()
            _check_version(self._table, report)
            if document.background != self._background_name:
                self.background = _read_background(self._seal, document.background, self.info.dim)
                self._background_name = document.background
            self._next_number = None

    def files(self) -> dict[str, StoredFile]:
        with self._at.explained("read"):
            return self._reading.files()

    def failures(self) -> dict[str, Failure]:
        try:
            value = self._seal.read_note(FAILURES)
        except (OSError, ValueError):
            return {}
        if value is None or value["decoding"] != DECODING:
            # They may be readable now.
            return {}
        return {path: Failure(reason, look and Look(*look)) for path, (reason, look) in value["failures"].items()}

    def read(self, paths: Sequence[str]) -> list[FileRows]:
        with self._at.explained("read"):
            return self._reading.some(paths)

    def all_files(self) -> Iterator[list[FileRows]]:
        """All files with their vectors and words, some thousand rows at a time."""
        with self._at.explained("read"):
            yield from self._reading.all()

    def commit(self, remove: Sequence[str], add: Sequence[FileRows]) -> None:
        # Two commits, the going first. A process killed between them leaves a file out of the table, and the next run
        # adds it as a new one; the other way round it would leave a file with old and new rows side by side. All rows
        # that are added are in one commit: all of a file's are there or none.
        gone = list(dict.fromkeys((*remove, *(file.path for file in add))))
        with self._at.explained("write"), self._numbering:
            if add and self._next_number is None:
                self._next_number = self._reading.first_free()
            rows = as_arrow(add, self.info.fingerprint, self.info.dim, self._next_number or 1, self.background)
            for where in path_filters(gone):
                self._table.delete(where)
            if add:
                self._table.add(rows)
                self._next_number = int(rows.column("number")[-1].as_py()) + 1
            if gone:
                self._write_seal()

    def note_failures(self, failures: Mapping[str, Failure]) -> None:
        if failures != self.failures():
            with self._at.explained("write"):
                self._seal.write_note(FAILURES, {"decoding": DECODING, "failures": failures})

    def note_looks(self, looks: Mapping[str, Look]) -> None:
        if looks:
            import pyarrow as pa

            wanted = pa.schema([field for field in schema_of(self.info.dim) if field.name in ("path", *LOOK)])
            rows = [{"path": escape(path), **look._asdict()} for path, look in looks.items()]
            with self._at.explained("write"):
                update = self._table.merge_insert("path").when_matched_update_all()
                update.execute(pa.Table.from_pylist(rows, schema=wanted))
                self._write_seal()

    def mark_outdated(self, paths: Sequence[str]) -> None:
        with self._at.explained("write"):
            # In one commit.
            for where in path_filters(paths, at_once=len(paths)):
                self._table.update(where=where, values={"content_hash": "", "size": -1})
                self._write_seal()

    def note_decoding(self) -> None:
        with self._at.explained("write"):
            info = replace(self.info, decoding=DECODING)
            self._write_info(info, self._background_name)
        self.info = info

    def count(self, kind: Kind | None = None) -> int:
        with self._at.explained("read"):
            return int(self._table.count_rows(kind and f"kind = '{kind}'"))

    @property
    def num_indexed(self) -> int:
        """Rows in the approximate index of looks; 0 if there is none."""
        with self._at.explained("read"):
            return self._upkeep.num_indexed("look")

    def lacking_words(self) -> list[str]:
        with self._at.explained("read"):
            return self._reading.lacking_words()

    def note_background(self, background: Background) -> None:
        if background.vectors.shape[1] != self.info.dim:
            raise InputError(f"the background has {background.vectors.shape[1]} dimensions, the index {self.info.dim}")
        with self._at.explained("write"):
            # Until all spreads are those of the new one, the index has none.
            self._write_info(self.info, None)
            self.background = None
            self._rewrite(background)
            before, name = self._background_name, _write_background(self._seal, background)
            self._write_info(self.info, name)
            self.background, self._background_name = background, name
            if before not in (None, name):
                (self._seal.folder / BACKGROUND.format(before)).unlink(missing_ok=True)

    def nearest(
        self, vector: Vector, limit: int, where: Filter = ANYTHING, *, of: Of = "look", calibrated: bool = False
    ) -> list[Near]:
        if of == "words" and not self._reading.has_words:
            return []

        clause = where_clause(where)
        return self._answer(
            lambda: Nearest(self._table, self.info.dim, of, self.background, calibrated).find(vector, limit, clause)
        )

    def matching(
        self, wanted: Wanted, limit: int, where: Filter = ANYTHING, *, names_only: bool = False
    ) -> list[Match]:
        return self._answer(lambda: self._matching(wanted, limit, where, names_only)) if self._reading.has_words else []

    def _matching(self, wanted: Wanted, limit: int, where: Filter, names_only: bool) -> list[Match]:
        full_text = TermIndex(self._table)
        if not full_text.is_whole:
            # A writer that makes the table anew has been stopped before its end, and the next one continues.
            return []
        found = full_text.candidates(wanted, where_clause(where), names_only=names_only).best(limit)
        if len(found.units) > limit + PATHS_PER_STATEMENT:
            # So many are as good as the last one that not all become objects to be sorted by path.
            found = found.best(limit, self._reading.ranks(found.units))
        units = self._reading.units(found.units.tolist())
        terms = [] if names_only else terms_of((*wanted.words, *wanted.phrases))
        return best_matches(found, units, limit, terms, self._reading.words)

    def is_untidy(self) -> bool:
        with self._at.explained("read"):
            return self._upkeep.is_due()

    def tidy(self, building: Building) -> None:
        with self._at.explained("write"):
            self._upkeep.do(building)
            self._write_seal()

    def verify(self) -> Verdict:
        model = self.info.model
        with self._at.explained("read"):
            report = self._seal.check(expected=self._sealed, wholly=True)
        if report is not None and report.problems:
            return Verdict(model, 0, 0, report.num_files - len(report.problems), report.problems)
        stored = self.files()
        problems = [problem for files in self.all_files() for file in files for problem in file.oddities()]
        with self._at.explained("read"):
            problems += [f"two of its units have the number {number}" for number in self._reading.twice_numbered()]
        return Verdict(model, len(stored), self.count(), None if report is None else report.num_files, problems)

    def close(self) -> None:
        """LanceDB holds nothing open that its garbage collection does not let go."""

    def _check(self) -> SealReport | None:
        """Compare the files of the table with their checksums, if it has any.

        Raises:
            ValueError: a file is not as it was written.
        """
        report = self._seal.check(expected=self._sealed)
        if report is not None and report.problems:
            others = len(report.problems) - 1
            raise ValueError(report.problems[0] + (f" (and {others} more)" if others else ""))
        return report

    def _write_seal(self) -> None:
        self._seal.write(int(self._table.version))
        self._sealed = True

    def _write_info(self, info: IndexInfo, background: str | None) -> None:
        LanceInfo.write(self._at, info, "lance" if self.was_chosen else None, background)

    def _rewrite(self, background: Background | None) -> None:
        """Make all rows anew, with the columns of this release and spreads of a background; in one commit."""
        import pyarrow as pa

        unread = frozenset(self._reading.lacking_words())
        schema = schema_of(self.info.dim)

        def batches() -> Iterator[pa.RecordBatch]:
            first = 1
            for files in self._reading.all():
                rows = as_arrow(files, self.info.fingerprint, self.info.dim, first, background, unread)
                first += rows.num_rows
                yield from rows.to_batches()

        # LanceDB looks for vectors that are null only here, and by default refuses them.
        rows = pa.RecordBatchReader.from_batches(schema, batches())
        self._table.add(rows, mode="overwrite", on_bad_vectors="null")
        TermIndex(self._table).make()
        self._next_number = None
        self._write_seal()

    def _answer(self, ask: Callable[[], _Answer]) -> _Answer:
        """Ask the table until no writer is in the way.

        One that makes many commits at once clears away what they leave, perhaps under a slow reader.
        """
        for _ in range(_READING_TRIES - 1):
            try:
                with self._at.explained("read"):
                    return ask()
            except IndexFolderError:
                before = int(self._table.version)
                self.refresh()
                if int(self._table.version) == before:
                    raise
        with self._at.explained("read"):
            return ask()


def _check_version(table: Table, report: SealReport | None) -> None:
    version = int(table.version)
    if report is not None and version < report.version:
        raise ValueError(f"its newest version is {version}, and {report.version} was written")


def _write_background(seal: Seal, background: Background) -> str:
    """Write the note of a background, and give its name; what is in a name does not change."""
    content = background.vectors.astype("<f4").tobytes()
    name = hashlib.blake2b(content, digest_size=16).hexdigest()
    seal.write_note(BACKGROUND.format(name), {"vectors": b64encode(content).decode("ascii")})
    return name


def _read_background(seal: Seal, name: str | None, dim: int) -> Background | None:
    if name is None:
        return None
    note = seal.read_note(BACKGROUND.format(name))
    if note is None:
        raise ValueError(f"its file {BACKGROUND.format(name)} is missing")
    return Background(np.frombuffer(b64decode(note["vectors"]), "<f4").reshape(-1, dim))
