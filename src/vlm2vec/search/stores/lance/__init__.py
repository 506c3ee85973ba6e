"""How does LanceDB keep an index of millions of vectors?"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from vlm2vec.errors import BusyError, IndexFolderError, MissingError, StorageError
from vlm2vec.extras import require
from vlm2vec.items import Target
from vlm2vec.search.store import (
    ANYTHING,
    DECODING,
    Building,
    Failure,
    FileRows,
    Filter,
    Hit,
    IndexInfo,
    Look,
    StoredFile,
    Vector,
    Verdict,
    hit_order,
    oddities,
)
from vlm2vec.search.stores.explaining import explained
from vlm2vec.search.stores.lance import columns
from vlm2vec.search.stores.lance.info import read_info, write_info
from vlm2vec.search.stores.lance.seal import FAILURES, SealReport, check, read_sealed, seal, write_sealed
from vlm2vec.search.stores.place import TABLE, hold

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


class LanceStore:
    """An index in a LanceDB table and a small `index.json`; the files of the table have checksums (`seal`).

    Search is exact up to 200,000 vectors. Beyond, it goes through an approximate index (docs/performance.md says what
    it misses), unless there is a filter; scores are always exact.

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
        self._place = place
        self._folder = place / TABLE
        self._exact_up_to = exact_up_to
        self._keep_old = timedelta(seconds=keep_old_s)
        self._info = read_info(place).info
        try:
            require(*NEEDED)
        except MissingError as error:
            raise MissingError(f"LanceDB keeps the index {place}: {error.message}", *error.hints, "rebuild") from None
        import lancedb

        # Since files are decoded as now, tables have checksums.
        self._sealed = self._info.decoding >= DECODING
        with explained(place, "open"):
            report = self._check()
            self._sealed = report is not None
            self._table = lancedb.connect(place).open_table(_NAME)
            dim = self._info.dim
            if self._table.schema not in (columns.schema(dim), columns.schema(dim, with_new_looks=False)):
                raise ValueError("its table has other columns than expected")
            _check_version(self._table, report)
        if report is not None and report.moved:
            # After a copy every file looks new: its next reader need not read them all again.
            with suppress(IndexFolderError, BusyError, StorageError), self.writing(), explained(place, "write"):
                self._seal()

    @classmethod
    def create(cls, place: Path, info: IndexInfo) -> Self:
        """Make an empty table in the folder `place`, in which there is no index. Its caller holds the lock."""
        import lancedb

        with explained(place, "write"):
            # The table first: a folder without index.json is no index yet, so a kill in between leaves none.
            table = lancedb.connect(place).create_table(_NAME, schema=columns.schema(info.dim))
            seal(place / TABLE, int(table.version))
            write_info(place, info)
        return cls(place)

    @property
    def place(self) -> Path:
        return self._place

    @property
    def info(self) -> IndexInfo:
        return self._info

    @contextmanager
    def writing(self) -> Iterator[None]:
        with hold(self._place):
            self.refresh()
            with explained(self._place, "write"):
                lacking = [field for field in columns.schema(self._info.dim) if field.name not in self._column_names]
                if lacking:
                    self._table.add_columns(lacking)
                    self._seal()
            yield

    def refresh(self) -> None:
        with explained(self._place, "read"):
            report = self._check()
            self._table.checkout_latest()
            _check_version(self._table, report)

    def files(self) -> dict[str, StoredFile]:
        wanted = [name for name in ("path", "content_hash", "num_units", *columns.LOOK) if name in self._column_names]
        with explained(self._place, "read"):
            return columns.parse_stored(self._table.search().select(wanted).limit(None).to_arrow())

    def failures(self) -> dict[str, Failure]:
        try:
            value = read_sealed(self._folder / FAILURES)
        except (OSError, ValueError):
            return {}
        if value is None or value["decoding"] != DECODING:
            # They may be readable now.
            return {}
        return {path: Failure(reason, look and Look(*look)) for path, (reason, look) in value["failures"].items()}

    def read(self, paths: Sequence[str]) -> list[FileRows]:
        files: dict[str, FileRows] = {}
        for where in columns.path_filters(paths):
            with explained(self._place, "read"):
                table = self._table.search().where(where).limit(None).to_arrow()
                files |= columns.parse_files(table, self._info.dim)
        return [files[path] for path in paths if path in files]

    def all_files(self) -> Iterator[list[FileRows]]:
        """All files with their vectors, some thousand rows at a time."""
        import pyarrow as pa

        stored = self.files()
        begun: dict[str, FileRows] = {}
        with explained(self._place, "read"):
            for batch in self._table.search().limit(None).to_batches(_ROWS_AT_ONCE):
                whole = []
                for path, file in columns.parse_files(pa.Table.from_batches([batch]), self._info.dim).items():
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
        with explained(self._place, "write"):
            for where in columns.path_filters(gone):
                self._table.delete(where)
            if add:
                self._table.add(columns.as_arrow(add, self._info.fingerprint, self._info.dim))
            if gone:
                self._seal()

    def note_failures(self, failures: Mapping[str, Failure]) -> None:
        if failures != self.failures():
            with explained(self._place, "write"):
                write_sealed(self._folder / FAILURES, {"decoding": DECODING, "failures": failures})

    def note_looks(self, looks: Mapping[str, Look]) -> None:
        if looks:
            with explained(self._place, "write"):
                update = self._table.merge_insert("path").when_matched_update_all()
                update.execute(columns.looks_as_arrow(looks, self._info.dim))
                self._seal()

    def mark_outdated(self, paths: Sequence[str]) -> None:
        with explained(self._place, "write"):
            # In one commit.
            for where in columns.path_filters(paths, at_once=len(paths)):
                self._table.update(where=where, values={"content_hash": "", "size": -1})
                self._seal()

    def note_decoding(self) -> None:
        with explained(self._place, "write"):
            info = replace(self._info, decoding=DECODING)
            write_info(self._place, info, read_info(self._place).store)
        self._info = info

    def count(self, kind: Target | None = None) -> int:
        with explained(self._place, "read"):
            return int(self._table.count_rows(kind and f"kind = '{kind}'"))

    @property
    def num_indexed(self) -> int:
        """Vectors in the approximate index; 0 if there is none."""
        with explained(self._place, "read"):
            known = self._table.index_stats(_INDEX)
        return 0 if known is None else int(known.num_indexed_rows)

    def nearest(self, vector: Vector, limit: int, where: Filter = ANYTHING) -> list[Hit]:
        tries = _READING_TRIES
        while True:
            tries -= 1
            try:
                return self._nearest(vector, limit, where)
            except IndexFolderError:
                # A writer that makes many commits at once clears away what they leave, perhaps under a slow reader.
                before = int(self._table.version)
                self.refresh()
                if not tries or int(self._table.version) == before:
                    raise

    def _nearest(self, vector: Vector, limit: int, where: Filter) -> list[Hit]:
        clause = columns.where_clause(where)
        with explained(self._place, "read"):
            num_rows = int(self._table.count_rows(clause or None))
        limit = min(limit, num_rows)
        # Lance breaks ties as it likes, so look on until the last score kept is certainly not tied with one left out.
        num = min(limit + 16, num_rows)
        found: list[Hit] = []
        while len(found) < num:
            found = self._ask(vector, num, clause, exact=num == num_rows)
            if len(found) < num or found[-1].score < found[limit - 1].score:
                break
            num = min(num * 4, num_rows)
        return sorted(found, key=hit_order)[:limit]

    def _ask(self, vector: Vector, num: int, clause: str, *, exact: bool) -> list[Hit]:
        """The nearest rows, ties in no fixed order; of a large table one may be missing unless it is to be `exact`."""
        search = self._table.search(vector, vector_column_name="vector").distance_type("dot").limit(num)
        # Without an index these say nothing, and rows that are not in it are compared one by one.
        search = search.nprobes(_PARTITIONS).ef(max(_SEARCH_WIDTH, num)).refine_factor(1)
        if exact:
            search = search.bypass_vector_index()
        if clause:
            search = search.where(clause, prefilter=True)
        with explained(self._place, "read"):
            return columns.parse_hits(search.select(list(columns.HIT)).to_arrow())

    def tidy(self, building: Building) -> None:
        # Merging rewrites all rows: too much for the one commit of one changed file, cheap against many of them.
        with explained(self._place, "write"):
            many = self._table.stats()["fragment_stats"]["num_fragments"] > _MAX_FRAGMENTS
            # Replacing the same rows again and again leaves few fragments and many versions.
            if many or len(self._version_times_s()) > _MAX_VERSIONS:
                seal(self._folder, int(self._table.version), settled=False)
                self._table.optimize(cleanup_older_than=self._age_to_keep())
            count = self._table.count_rows()
            if count <= self._exact_up_to:
                if self.num_indexed:
                    self._table.drop_index(_INDEX)
            elif count - self.num_indexed > _MOST_UNINDEXED * count:
                with building(count):
                    self._make_index()
            self._seal()

    def verify(self) -> Verdict:
        model = self._info.model
        with explained(self._place, "read"):
            report = self._check(wholly=True)
        if report is not None and report.problems:
            return Verdict(model, 0, 0, report.num_files - len(report.problems), report.problems)
        stored = self.files()
        problems = [problem for files in self.all_files() for file in files for problem in oddities(file)]
        return Verdict(model, len(stored), self.count(), None if report is None else report.num_files, problems)

    def close(self) -> None:
        """LanceDB holds nothing open that its garbage collection does not let go."""

    @property
    def _column_names(self) -> list[str]:
        return list(self._table.schema.names)

    def _check(self, *, wholly: bool = False) -> SealReport | None:
        """Compare the files of the table with their checksums, if it has any.

        Raises:
            ValueError: a file is not as it was written, unless all problems are asked for with `wholly`.
        """
        report = check(self._folder, expected=self._sealed, wholly=wholly)
        if report is not None and report.problems and not wholly:
            others = len(report.problems) - 1
            raise ValueError(report.problems[0] + (f" (and {others} more)" if others else ""))
        return report

    def _seal(self) -> None:
        seal(self._folder, int(self._table.version))
        self._sealed = True

    def _age_to_keep(self) -> timedelta:
        """How old a version is that must go."""
        times_s = self._version_times_s()
        if len(times_s) <= _MAX_VERSIONS:
            return self._keep_old
        return min(self._keep_old, timedelta(seconds=max(0.0, time.time() - times_s[-_KEPT_VERSIONS])))

    def _version_times_s(self) -> list[float]:
        """When the versions were written, oldest first. Lance would read each of their files."""
        with os.scandir(self._folder / "_versions") as versions:
            return sorted(entry.stat().st_mtime for entry in versions)

    def _make_index(self) -> None:
        from lancedb.index import HnswSq

        config = HnswSq(distance_type="dot", num_partitions=_PARTITIONS, m=_LINKS, ef_construction=_BUILD_WIDTH)
        self._table.create_index("vector", config=config, name=_INDEX, replace=True)


def _check_version(table: Any, report: SealReport | None) -> None:
    version = int(table.version)
    if report is not None and version < report.version:
        raise ValueError(f"its newest version is {version}, and {report.version} was written")
