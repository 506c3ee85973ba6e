"""How does SQLite keep an index in one file, which numpy searches for looks and meanings, and SQLite for words?"""

from __future__ import annotations

import uuid
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import IndexFolderError, InputError, VLM2VecError
from vlm2vec.items import Kind
from vlm2vec.search.store import (
    ANYTHING,
    DECODING,
    WORDS,
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
from vlm2vec.search.stores.candidates import Candidates, terms_of
from vlm2vec.search.stores.matches import best_matches
from vlm2vec.search.stores.place import Place
from vlm2vec.search.stores.sqlite.database import Database
from vlm2vec.search.stores.sqlite.files import Files
from vlm2vec.search.stores.sqlite.rows import FileRow
from vlm2vec.search.stores.sqlite.tables import VECTORS, Tables, Totals, VectorsOf
from vlm2vec.search.stores.sqlite.vectors import Vectors

_ROWS_AT_ONCE = 4096
# For so few files not all are read.
_FEW = 500
_BACKGROUND = "background"


class SqliteStore:
    """An index in one SQLite file. Search is exact: every vector is compared, from memory once they have been read.

    All methods see what other processes have committed.
    """

    def __init__(self, place: Path, database: Database | None = None) -> None:
        self.place = place
        self._database = database or Database(Place(place))
        # What is in memory, and of which state of the file; None: perhaps of none.
        self._seen: tuple[int, ...] | None = None
        self._files: Files | None = None
        self._vectors: dict[VectorsOf, Vectors] = {}
        self._up_to_date: set[VectorsOf] = set()
        self._full_text_is_sound = False
        self._background: Background | None = None
        self._tables = Tables(self._database)
        with self._database.reading():
            self.info, self._totals = self._read_notes()

    @classmethod
    def create(
        cls,
        place: Path,
        info: IndexInfo,
        files: Iterable[Sequence[FileRows]] = (),
        failures: Mapping[str, Failure] | None = None,
        *,
        unread: Collection[str] = (),
        background: Background | None = None,
    ) -> Self:
        """Make an index in the folder `place`: at the end it is there whole. The caller holds the lock of the folder.

        Args:
            files: they are in it from the beginning; some at a time, so that not all are in memory at once.
            unread: paths of those whose words were not read.
        """
        notes: dict[str, object] = {
            "info": asdict(info),
            "totals": asdict(Totals(uuid.uuid4().hex)),
            "failures": failures or {},
        }
        if background is not None:
            notes[_BACKGROUND] = _as_note(background)
        without_words = frozenset(unread)
        with Database.made(Place(place), notes) as draft:
            filled = cls(place, draft)
            for some in files:
                filled._commit([], [rows for rows in some if rows.path in without_words], reading=0)
                filled._commit([], [rows for rows in some if rows.path not in without_words], reading=WORDS)
            filled._seal()
        return cls(place)

    @contextmanager
    def writing(self) -> Iterator[None]:
        with Place(self.place).hold():
            self.refresh()
            try:
                yield
            except BaseException:
                with suppress(VLM2VecError):
                    self._seal()
                raise
            self._seal()

    def refresh(self) -> None:
        with self._reading():
            pass

    def files(self) -> Mapping[str, StoredFile]:
        with self._reading():
            return self._known_files().copy()

    def failures(self) -> dict[str, Failure]:
        with self._reading():
            if self.info.decoding < DECODING:
                # They may be readable now.
                return {}
            value = self._database.note("failures")
        return {path: Failure(reason, look and Look(*look)) for path, (reason, look) in value.items()}

    def read(self, paths: Sequence[str]) -> list[FileRows]:
        with self._reading():
            return [self._tables.read(row, self.info.dim) for row in self._rows_of(paths)]

    def commit(self, remove: Sequence[str], add: Sequence[FileRows]) -> None:
        self._commit(remove, add, reading=WORDS)

    def _commit(self, remove: Sequence[str], add: Sequence[FileRows], *, reading: int) -> None:
        with self._changing() as totals:
            files = self._known_files()
            for row in files.rows(dict.fromkeys((*remove, *(rows.path for rows in add)))):
                self._tables.delete(row, totals)
                files.remove(row.path)
            background = self._known_background()
            for rows in add:
                if any(len(vector) != self.info.dim for unit in rows.units for vector in unit.vectors):
                    raise ValueError(f"not every vector of {rows.path} has {self.info.dim} numbers")
                files.put(self._tables.insert(rows, totals, background, reading))
            totals.sum_indexes = None
            self._up_to_date.clear()

    def note_failures(self, failures: Mapping[str, Failure]) -> None:
        if failures != self.failures():
            with self._changing():
                self._database.write_note("failures", failures)

    def note_looks(self, looks: Mapping[str, Look]) -> None:
        self._update(looks, lambda path, stored: stored._replace(look=looks[path]))

    def mark_outdated(self, paths: Sequence[str]) -> None:
        self._update(paths, lambda _, stored: stored._replace(look=stored.look._replace(size=-1), content_hash=""))

    def note_decoding(self) -> None:
        with self._changing():
            self.info = replace(self.info, decoding=DECODING)
            self._database.write_note("info", asdict(self.info))
            self._database.write_note("failures", {})

    def count(self, kind: Kind | None = None) -> int:
        with self._reading():
            counts = self._totals.num_units
            return sum(counts.values()) if kind is None else counts.get(kind, 0)

    def lacking_words(self) -> list[str]:
        with self._reading():
            read = set(self._tables.names(WORDS)) if self._database.has_words else set()
            if len(read) == self._totals.num_files:
                return []
            rows = self._known_files().by_number()
        return sorted(rows[number].path for number in rows.keys() - read)

    @property
    def background(self) -> Background | None:
        with self._reading():
            return self._known_background()

    def note_background(self, background: Background) -> None:
        if background.vectors.shape[1] != self.info.dim:
            raise InputError(f"the background has {background.vectors.shape[1]} dimensions, the index {self.info.dim}")
        with self._changing() as totals, self._database.spilling():
            self._database.write_note(_BACKGROUND, _as_note(background))
            self._tables.calibrate(background, totals, self.info.dim)
            # Vectors never change otherwise, so that readers keep those that they have.
            totals.made = uuid.uuid4().hex
            self._background = background
            self._up_to_date.clear()

    def nearest(
        self,
        vector: Vector,
        limit: int,
        where: Filter = ANYTHING,
        *,
        of: VectorsOf = "look",
        calibrated: bool = False,
    ) -> list[Near]:
        with self._reading():
            vectors = self._known_vectors(of)
            found = vectors.nearest(vector, limit, self._chosen(vectors, where), calibrated=calibrated)
            units = self._tables.named(vectors.heads[[one.place for one in found]].tolist())
        near = [Near(unit, one.score, one.calibrated) for unit, one in zip(units, found, strict=True)]
        return sorted(near, key=lambda one: (-(one.calibrated if calibrated else one.score), *one.unit.order))[:limit]

    def matching(
        self, wanted: Wanted, limit: int, where: Filter = ANYTHING, *, names_only: bool = False
    ) -> list[Match]:
        with self._reading():
            candidates = self._candidates(wanted, where, names_only).best(limit)
            if len(candidates.units) > limit + _FEW:
                # So many are as good as the last one that their units are not all read to sort them by path.
                candidates = candidates.best(limit, self._known_files().ranks(candidates.units))
            units = self._tables.units(candidates.units.tolist())
            terms = [] if names_only else terms_of((*wanted.words, *wanted.phrases))
            return best_matches(candidates, units, limit, terms, self._tables.words)

    def is_untidy(self) -> bool:
        return self._database.has_much_room()

    def tidy(self, building: Building) -> None:
        if self.is_untidy():
            self._database.shrink()

    def verify(self) -> Verdict:
        problems: list[str] = []
        try:
            with self._reading():
                problems += self._database.problems()
                self._files = None
                self._vectors.clear()
                self._up_to_date.clear()
                files = self._known_files()
                num_vectors = [len(self._known_vectors(of).heads) for of in VECTORS]
                stored = (self._tables.read(row, self.info.dim) for row in files.rows(files))
                problems += [problem for rows in stored for problem in rows.oddities()]
                problems += self._tables.missing(self._totals) if self._database.has_words else ()
                totals = self._totals
        except IndexFolderError as error:
            return Verdict(self.info.model, 0, 0, 0, [*problems, error.message])
        num_units = sum(totals.num_units.values())
        num_sealed = len(files) + totals.num_unseen + sum(num_vectors) + totals.num_names + totals.num_words
        return Verdict(self.info.model, len(files), num_units, num_sealed, problems)

    def close(self) -> None:
        self._database.close()

    def _seal(self) -> None:
        """Write down the checksum of the full text, if it was changed."""
        if self._totals.num_names and self._totals.sum_indexes is None:
            with self._changing() as totals:
                totals.sum_indexes = self._tables.full_text.checksum()

    # What is in memory

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._database.reading():
            self._forget_if_changed()
            yield

    @contextmanager
    def _changing(self) -> Iterator[Totals]:
        """The totals that are yielded are written with the changes, as they are in the end."""
        with self._database.changing():
            self._forget_if_changed()
            totals = replace(self._totals, num_units=dict(self._totals.num_units))
            yield totals
            if totals != self._totals:
                self._database.write_note("totals", asdict(totals))
            self._totals = totals

    def _forget_if_changed(self) -> None:
        state = self._database.state
        if state == self._seen:
            return
        info, self._totals = self._read_notes()
        if (info.fingerprint, info.dim) != (self.info.fingerprint, self.info.dim):
            raise IndexFolderError(f"the index {self.place} was made anew by another process, with another model")
        self.info = info
        self._files = self._background = None
        self._up_to_date.clear()
        self._full_text_is_sound = False
        self._seen = state

    def _read_notes(self) -> tuple[IndexInfo, Totals]:
        return IndexInfo(**self._database.note("info")), Totals(**self._database.note("totals"))

    def _known_files(self) -> Files:
        if self._files is None:
            rows = self._database.execute("SELECT * FROM files").fetchall()
            if (len(rows), sum(row[-1] for row in rows)) != (self._totals.num_files, self._totals.sum_files):
                raise ValueError(f"some of its {self._totals.num_files} files are missing")
            self._files = Files.parse(rows)
        return self._files

    def _known_background(self) -> Background | None:
        if self._background is None and self._database.has_note(_BACKGROUND):
            self._background = _from_note(self._database.note(_BACKGROUND), self.info.dim)
        return self._background

    def _rows_of(self, paths: Sequence[str]) -> list[FileRow]:
        """Those of these files that are stored, without reading all files for the sake of a few."""
        if self._files is None and len(paths) <= _FEW:
            found = self._tables.files("path", [FileRow.name_of(path) for path in paths]).rows(paths)
            if len(found) == len(paths):
                return found
        # A file that is not found may be one whose row is damaged.
        return self._known_files().rows(paths)

    def _known_vectors(self, of: VectorsOf) -> Vectors:
        """All vectors of one sort; of those that have been read before, only the ones that came since are read."""
        known, made = self._vectors.get(of), self._totals.made
        if known is not None and of in self._up_to_date:
            return known
        num, checksum, next_id = self._totals.of_vectors(of)
        vectors = Vectors.empty(num, self.info.dim, next_id, made)
        at = since = 0
        if known is not None and known.made == made:
            there = np.array(self._database.execute("SELECT id FROM files").fetchall(), np.int64)
            at, since = vectors.keep(known, np.isin(known.heads["file"], there)), known.next_id
        if num > at:
            new = self._database.execute(f"{VECTORS[of]} WHERE id >= ? AND length(vector) ORDER BY id", (since,))
            while rows := new.fetchmany(_ROWS_AT_ONCE):
                at = vectors.fill(at, rows)
        if at != num or int(vectors.heads["sum"].sum()) != checksum:
            raise ValueError(f"some of its {num} vectors are missing")
        self._vectors[of] = vectors
        self._up_to_date.add(of)
        return vectors

    def _chosen(self, vectors: Vectors, where: Filter) -> NDArray[np.bool_] | None:
        """[N], True for vectors whose units may be hits; None: all of them may."""
        if where == ANYTHING:
            return None
        of_files = replace(where, kinds=frozenset())
        return vectors.chosen(where.kinds, None if of_files == ANYTHING else self._known_files().ids_where(of_files))

    def _candidates(self, wanted: Wanted, where: Filter, names_only: bool) -> Candidates:
        """The units that may be matches."""
        totals, full_text = self._totals, self._tables.full_text
        if not totals.num_names:
            return Candidates.none()
        if not self._full_text_is_sound and totals.sum_indexes is not None:
            if full_text.checksum() != totals.sum_indexes:
                raise ValueError("its full text is not as it was written")
            self._full_text_is_sound = True
        found = full_text.candidates(wanted, totals.num_words, totals.num_names, names_only=names_only)
        of_files = replace(where, kinds=frozenset())
        if of_files != ANYTHING:
            found = found.where(self._known_files().units_where(of_files, found.units))
        if where.kinds:
            found = found.where(np.isin(found.units, self._tables.of_kinds(found.units.tolist(), where.kinds)))
        return found.one_a_name()

    def _update(self, paths: Iterable[str], renewed: Callable[[str, StoredFile], StoredFile]) -> None:
        """Change what is known of some files, whose units stay."""
        with self._changing() as totals:
            files = self._known_files()
            for before in files.rows(dict.fromkeys(paths)):
                after = FileRow.of(before.id, before.path, renewed(before.path, before.stored), before.first_unit)
                self._database.insert("files", [after])
                totals.sum_files += after.sum - before.sum
                files.put(after)


def _as_note(background: Background) -> str:
    return b64encode(background.vectors.astype("<f4").tobytes()).decode("ascii")


def _from_note(note: str, dim: int) -> Background:
    return Background(np.frombuffer(b64decode(note), "<f4").reshape(-1, dim))
