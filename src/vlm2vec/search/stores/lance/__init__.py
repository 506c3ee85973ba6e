"""How does LanceDB keep an index of millions of vectors?"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from vlm2vec.errors import BusyError, IndexFolderError, InputError, MissingError, StorageError
from vlm2vec.extras import require
from vlm2vec.items import Kind
from vlm2vec.search.store import (
    ANYTHING,
    DECODING,
    UNKNOWN,
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
    StoredUnit,
    Unit,
    Vector,
    Verdict,
    Wanted,
)
from vlm2vec.search.stores.lance.seal import FAILURES, LanceInfo, Seal, SealReport
from vlm2vec.search.stores.place import TABLE, Place

if TYPE_CHECKING:
    import pyarrow as pa

NEEDED = ("scale", "lancedb", "pyarrow")
"""The extra, and what it installs."""

_NAME = "units"
# A query reads every fragment, and each commit makes one: this many cost nothing measurable.
_MAX_FRAGMENTS = 24
# Each keeps the rows that were replaced in it, and a commit takes longer the more there are.
_MAX_VERSIONS = 64
# A reader that has just opened the table has this long to finish before the files of its version may go, and so many
# commits where they come faster.
_KEEP_OLD_VERSIONS_S = 60.0
_KEPT_VERSIONS = 16
_ROWS_AT_ONCE = 4096
_READING_TRIES = 5
# Comparing a query with 100,000 rows of 768 dimensions takes 0.2 s on two cores, by this index it takes 11 ms with a
# million (docs/performance.md), but making it takes a minute for each 100,000.
_EXACT_UP_TO = 200_000
_INDEX = "vector_idx"
# All partitions are searched: leaving some out loses more than it saves, and many small graphs take longer than few
# large ones. The graph holds vectors in 8 bits; what it finds is ordered by its true scores.
_PARTITIONS = 4
_LINKS, _BUILD_WIDTH, _SEARCH_WIDTH = 20, 150, 32
_MOST_UNINDEXED = 1 / 8
# Columns that say how a file looked, those of them that the first tables lack, and columns that make a `Near`.
_LOOK = Look._fields
_NEW_LOOKS = ("ctime_ns", "inode")
_NEAR = ["path", "kind", "page", "span_start_s", "span_end_s", "content_hash", "_distance"]
_PATHS_PER_STATEMENT = 500


class LanceStore:
    """An index in a LanceDB table and a small `index.json`; the files of the table have checksums (`Seal`).

    Search is exact up to 200,000 vectors. Beyond, it goes through an approximate index (docs/performance.md says what
    it misses), unless there is a filter; scores are always exact. Words and their vectors are not kept yet.

    Args:
        exact_up_to: so many vectors need no approximate index.
        keep_old_s: versions of the table that are younger stay for their readers.

    Raises:
        IndexFolderError: there is none, or it is damaged, of a newer format or of another program.
        MissingError: LanceDB is not installed.
    """

    def __init__(
        self, place: Path, *, exact_up_to: int = _EXACT_UP_TO, keep_old_s: float = _KEEP_OLD_VERSIONS_S
    ) -> None:
        self.place = place
        self._at = Place(place)
        self._seal = Seal(place / TABLE)
        self._exact_up_to = exact_up_to
        self._keep_old = timedelta(seconds=keep_old_s)
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
            dim = self.info.dim
            if self._table.schema not in (_schema(dim), _schema(dim, with_new_looks=False)):
                raise ValueError("its table has other columns than expected")
            _check_version(self._table, report)
        if report is not None and report.moved:
            # After a copy every file looks new: its next reader need not read them all again.
            with suppress(IndexFolderError, BusyError, StorageError), self.writing(), self._at.explained("write"):
                self._write_seal()

    @classmethod
    def create(cls, place: Path, info: IndexInfo) -> Self:
        """Make an empty table in the folder `place`, in which there is no index. Its caller holds the lock."""
        import lancedb

        with Place(place).explained("write"):
            # The table first: a folder without index.json is no index yet, so a kill in between leaves none.
            table = lancedb.connect(place).create_table(_NAME, schema=_schema(info.dim))
            Seal(place / TABLE).write(int(table.version))
            LanceInfo.write(Place(place), info)
        return cls(place)

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._at.hold():
            self.refresh()
            with self._at.explained("write"):
                lacking = [field for field in _schema(self.info.dim) if field.name not in self._table.schema.names]
                if lacking:
                    self._table.add_columns(lacking)
                    self._write_seal()
            yield

    def refresh(self) -> None:
        with self._at.explained("read"):
            report = self._check()
            self._table.checkout_latest()
            _check_version(self._table, report)

    def files(self) -> dict[str, StoredFile]:
        wanted = [name for name in ("path", "content_hash", "num_units", *_LOOK) if name in self._table.schema.names]
        with self._at.explained("read"):
            return _parse_stored(self._table.search().select(wanted).limit(None).to_arrow())

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
        files: dict[str, FileRows] = {}
        for where in _path_filters(paths):
            with self._at.explained("read"):
                table = self._table.search().where(where).limit(None).to_arrow()
                files |= _parse_files(table, self.info.dim)
        return [files[path] for path in paths if path in files]

    def all_files(self) -> Iterator[list[FileRows]]:
        """All files with their vectors, some thousand rows at a time."""
        import pyarrow as pa

        stored = self.files()
        begun: dict[str, FileRows] = {}
        with self._at.explained("read"):
            for batch in self._table.search().limit(None).to_batches(_ROWS_AT_ONCE):
                whole = []
                for path, file in _parse_files(pa.Table.from_batches([batch]), self.info.dim).items():
                    if path in begun:
                        file = replace(file, units=begun.pop(path).units + file.units)
                    if len(file.units) < stored[path].num_stored:
                        begun[path] = file
                    else:
                        whole.append(file)
                yield whole

    def commit(self, remove: Sequence[str], add: Sequence[FileRows]) -> None:
        # Two commits, the going first. A process killed between them leaves a file out of the table, and the next run
        # adds it as a new one; the other way round it would leave a file with old and new rows side by side. All rows
        # that are added are in one commit: all of a file's are there or none.
        gone = list(dict.fromkeys((*remove, *(file.path for file in add))))
        with self._at.explained("write"):
            for where in _path_filters(gone):
                self._table.delete(where)
            if add:
                self._table.add(_as_arrow(add, self.info.fingerprint, self.info.dim))
            if gone:
                self._write_seal()

    def note_failures(self, failures: Mapping[str, Failure]) -> None:
        if failures != self.failures():
            with self._at.explained("write"):
                self._seal.write_note(FAILURES, {"decoding": DECODING, "failures": failures})

    def note_looks(self, looks: Mapping[str, Look]) -> None:
        if looks:
            import pyarrow as pa

            wanted = pa.schema([field for field in _schema(self.info.dim) if field.name in ("path", *_LOOK)])
            rows = [{"path": _escape(path), **look._asdict()} for path, look in looks.items()]
            with self._at.explained("write"):
                update = self._table.merge_insert("path").when_matched_update_all()
                update.execute(pa.Table.from_pylist(rows, schema=wanted))
                self._write_seal()

    def mark_outdated(self, paths: Sequence[str]) -> None:
        with self._at.explained("write"):
            # In one commit.
            for where in _path_filters(paths, at_once=len(paths)):
                self._table.update(where=where, values={"content_hash": "", "size": -1})
                self._write_seal()

    def note_decoding(self) -> None:
        with self._at.explained("write"):
            info = replace(self.info, decoding=DECODING)
            LanceInfo.write(self._at, info, "lance" if self.was_chosen else None)
        self.info = info

    def count(self, kind: Kind | None = None) -> int:
        with self._at.explained("read"):
            return int(self._table.count_rows(kind and f"kind = '{kind}'"))

    @property
    def num_indexed(self) -> int:
        """Vectors in the approximate index; 0 if there is none."""
        with self._at.explained("read"):
            known = self._table.index_stats(_INDEX)
        return 0 if known is None else int(known.num_indexed_rows)

    background: Background | None = None

    def note_background(self, background: Background) -> None:
        """Nothing: scores are not calibrated here yet."""

    def lacking_words(self) -> list[str]:
        return []

    def matching(
        self, wanted: Wanted, limit: int, where: Filter = ANYTHING, *, names_only: bool = False
    ) -> list[Match]:
        return []

    def nearest(
        self,
        vector: Vector,
        limit: int,
        where: Filter = ANYTHING,
        *,
        of: Literal["look", "words"] = "look",
        calibrated: bool = False,
    ) -> list[Near]:
        if of == "words":
            return []
        for _ in range(_READING_TRIES - 1):
            try:
                return self._nearest(vector, limit, where)
            except IndexFolderError:
                # A writer that makes many commits at once clears away what they leave, perhaps under a slow reader.
                before = int(self._table.version)
                self.refresh()
                if int(self._table.version) == before:
                    raise
        return self._nearest(vector, limit, where)

    def _nearest(self, vector: Vector, limit: int, where: Filter) -> list[Near]:
        clause = _where_clause(where)
        with self._at.explained("read"):
            num_rows = int(self._table.count_rows(clause or None))
        limit = min(limit, num_rows)
        # Lance breaks ties as it likes, so look on until the last score kept is certainly not tied with one left out.
        num = min(limit + 16, num_rows)
        found: list[Near] = []
        while len(found) < num:
            found = self._ask(vector, num, clause, exact=num == num_rows)
            if len(found) < num or found[-1].score < found[limit - 1].score:
                break
            num = min(num * 4, num_rows)
        return sorted(found, key=lambda near: (-near.score, *near.unit.order))[:limit]

    def _ask(self, vector: Vector, num: int, clause: str, *, exact: bool) -> list[Near]:
        """The nearest rows, ties in no fixed order; of a large table one may be missing unless it is to be `exact`."""
        search = self._table.search(vector, vector_column_name="vector").distance_type("dot").limit(num)
        # Without an index these say nothing, and rows that are not in it are compared one by one.
        search = search.nprobes(_PARTITIONS).ef(max(_SEARCH_WIDTH, num)).refine_factor(1)
        if exact:
            search = search.bypass_vector_index()
        if clause:
            search = search.where(clause, prefilter=True)
        with self._at.explained("read"):
            return [
                # Lance's "dot" distance is 1 - dot product.
                Near(_unit_of(row), *[min(1.0, 1.0 - row["_distance"])] * 2)
                for row in search.select(_NEAR).to_arrow().to_pylist()
            ]

    def is_untidy(self) -> bool:
        with self._at.explained("read"):
            return self._is_scattered() or self._is_index_off()

    def tidy(self, building: Building) -> None:
        with self._at.explained("write"):
            if self._is_scattered():
                self._seal.write(int(self._table.version), settled=False)
                self._table.optimize(cleanup_older_than=self._age_to_keep())
            if self._is_index_off():
                count = int(self._table.count_rows())
                if count <= self._exact_up_to:
                    self._table.drop_index(_INDEX)
                else:
                    with building(count):
                        self._make_index()
            self._write_seal()

    def verify(self) -> Verdict:
        model = self.info.model
        with self._at.explained("read"):
            report = self._seal.check(expected=self._sealed, wholly=True)
        if report is not None and report.problems:
            return Verdict(model, 0, 0, report.num_files - len(report.problems), report.problems)
        stored = self.files()
        problems = [problem for files in self.all_files() for file in files for problem in file.oddities()]
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

    def _is_scattered(self) -> bool:
        # Merging rewrites all rows: too much for the one commit of one changed file, cheap against many of them.
        many = self._table.stats()["fragment_stats"]["num_fragments"] > _MAX_FRAGMENTS
        # Replacing the same rows again and again leaves few fragments and many versions.
        return many or len(self._version_times_s()) > _MAX_VERSIONS

    def _is_index_off(self) -> bool:
        """Whether there is an approximate index that is not needed, or too much is not in one that is."""
        count, indexed = int(self._table.count_rows()), self.num_indexed
        return bool(indexed) if count <= self._exact_up_to else count - indexed > _MOST_UNINDEXED * count

    def _age_to_keep(self) -> timedelta:
        """How old a version is that must go."""
        times_s = self._version_times_s()
        if len(times_s) <= _MAX_VERSIONS:
            return self._keep_old
        return min(self._keep_old, timedelta(seconds=max(0.0, time.time() - times_s[-_KEPT_VERSIONS])))

    def _version_times_s(self) -> list[float]:
        """When the versions were written, oldest first. Lance would read each of their files."""
        with os.scandir(self._seal.folder / "_versions") as versions:
            return sorted(entry.stat().st_mtime for entry in versions)

    def _make_index(self) -> None:
        from lancedb.index import HnswSq

        config = HnswSq(distance_type="dot", num_partitions=_PARTITIONS, m=_LINKS, ef_construction=_BUILD_WIDTH)
        self._table.create_index("vector", config=config, name=_INDEX, replace=True)


def _check_version(table: Any, report: SealReport | None) -> None:
    version = int(table.version)
    if report is not None and version < report.version:
        raise ValueError(f"its newest version is {version}, and {report.version} was written")


def _schema(dim: int, *, with_new_looks: bool = True) -> pa.Schema:
    """The columns of a table; False: of one that was made before change times and inodes were stored."""
    import pyarrow as pa

    looks = [pa.field(name, pa.int64()) for name in _NEW_LOOKS] if with_new_looks else []
    return pa.schema(
        [
            pa.field("path", pa.string(), nullable=False),
            pa.field("kind", pa.string(), nullable=False),
            pa.field("page", pa.int32()),
            pa.field("span_start_s", pa.float64()),
            pa.field("span_end_s", pa.float64()),
            pa.field("num_units", pa.int32(), nullable=False),
            pa.field("content_hash", pa.string(), nullable=False),
            pa.field("size", pa.int64(), nullable=False),
            pa.field("mtime_ns", pa.int64(), nullable=False),
            pa.field("fingerprint", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), dim), nullable=False),
            *looks,
        ]
    )


def _as_arrow(files: Sequence[FileRows], fingerprint: str, dim: int) -> pa.Table:
    """A row for each unit."""
    import pyarrow as pa

    pairs = [(file, unit) for file in files for unit in file.units]
    looks = [unit.vector for _, unit in pairs if unit.vector is not None]
    if len(looks) < len(pairs):
        raise InputError("LanceDB keeps no words yet, and so no files without pictures: make the index with SQLite")
    vectors = np.stack(looks).astype(np.float32, copy=False)
    values: dict[str, object] = {
        "path": [_escape(file.path) for file, _ in pairs],
        "kind": [unit.kind for _, unit in pairs],
        "page": [unit.page for _, unit in pairs],
        "span_start_s": [unit.span_s and unit.span_s[0] for _, unit in pairs],
        "span_end_s": [unit.span_s and unit.span_s[1] for _, unit in pairs],
        "num_units": [file.num_units for file, _ in pairs],
        "content_hash": [file.content_hash for file, _ in pairs],
        "fingerprint": [fingerprint] * len(pairs),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim),
        **{name: [getattr(file.look, name) for file, _ in pairs] for name in _LOOK},
    }
    return pa.table(values, schema=_schema(dim))


def _parse_files(table: pa.Table, dim: int) -> dict[str, FileRows]:
    """Files by path, with those of their units that are among some rows."""
    vectors = table.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    files: dict[str, FileRows] = {}
    units: dict[str, list[StoredUnit]] = {}
    for row, vector in zip(table.drop_columns(["vector"]).to_pylist(), vectors, strict=True):
        path = _unescape(row["path"])
        if path not in files:
            look = Look(*(UNKNOWN if row.get(name) is None else row[name] for name in _LOOK))
            files[path] = FileRows(path, look, row["content_hash"], row["num_units"], ())
        units.setdefault(path, []).append(StoredUnit(row["kind"], row["page"], _span_of(row), vector))
    return {path: replace(file, units=tuple(units[path])) for path, file in files.items()}


def _parse_stored(rows: pa.Table) -> dict[str, StoredFile]:
    """What is known of files, from all their rows without vectors; looks may lack."""
    # By way of numpy: `to_pylist` makes an object of Arrow's for every value first.
    names, hashes, num_units = (rows.column(name).to_numpy().tolist() for name in ("path", "content_hash", "num_units"))
    looks = [
        rows.column(name).fill_null(UNKNOWN).to_numpy().tolist()
        if name in rows.schema.names
        else [UNKNOWN] * len(names)
        for name in _LOOK
    ]
    paths = list(map(_unescape, names))
    num_rows = Counter(paths)
    return {
        path: StoredFile(Look._make(look), content_hash, num, num_rows[path])
        for path, look, content_hash, num in zip(paths, zip(*looks, strict=True), hashes, num_units, strict=True)
    }


def _path_filters(paths: Sequence[str], at_once: int = _PATHS_PER_STATEMENT) -> Iterator[str]:
    """SQL that the rows of some files fulfil, for so many files at a time."""
    for start in range(0, len(paths), at_once or 1):
        yield f"path IN ({', '.join(_quoted(_escape(path)) for path in paths[start : start + at_once])})"


def _where_clause(where: Filter) -> str:
    """SQL that the rows fulfil which a filter lets through; "" for all."""
    parts = []
    if where.kinds:
        parts.append(f"kind IN ({', '.join(map(_quoted, sorted(where.kinds)))})")
    if where.under:
        begin = [f"starts_with(path, {_quoted(_escape(folder) + '/')})" for folder in where.under]
        parts.append(f"({' OR '.join(begin)})")
    if where.since is not None:
        parts.append(f"mtime_ns >= {int(where.since * 1e9)}")
    if where.until is not None:
        parts.append(f"mtime_ns <= {int(where.until * 1e9)}")
    if where.types:
        ends = [f"ends_with(lower(path), {_quoted(_escape(ending))})" for ending in sorted(where.types)]
        parts.append(f"({' OR '.join(ends)})")
    return " AND ".join(parts)


# A file name need not be text: Python shows its stray bytes as lone surrogates, which Arrow refuses. "//" cannot occur
# in a relative path, so it is free to introduce their number.
def _escape(path: str) -> str:
    return re.sub("[\ud800-\udfff]", lambda match: f"//{ord(match[0]):04x}", path)


def _unescape(name: str) -> str:
    return re.sub("//([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), name) if "//" in name else name


def _unit_of(row: Mapping[str, Any]) -> Unit:
    return Unit(_unescape(row["path"]), row["kind"], row["page"], _span_of(row), row["content_hash"])


def _span_of(row: Mapping[str, Any]) -> tuple[float, float] | None:
    return None if row["span_start_s"] is None else (row["span_start_s"], row["span_end_s"])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
