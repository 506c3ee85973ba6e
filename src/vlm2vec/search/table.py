"""How are vectors, and what is known of their files, stored in a LanceDB table?"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from vlm2vec.errors import BusyError, IndexFolderError, StorageError
from vlm2vec.items import Target
from vlm2vec.search.explaining import explained
from vlm2vec.search.lock import writing
from vlm2vec.search.rows import UNKNOWN, Hit, Row, StoredFile, Vector, hit_order
from vlm2vec.search.seal import Report, check, seal

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["UnitTable", "Building", "Hit", "Row", "StoredFile", "Vector", "hit_order", "TABLE_FOLDER"]

Building: TypeAlias = Callable[[int], AbstractContextManager[object]]

TABLE_FOLDER = "units.lance"
"""Where LanceDB keeps the table inside the index folder."""

_NAME = "units"
# A query reads every fragment, and each commit makes one: this many cost nothing measurable.
_MAX_FRAGMENTS = 24
# Each keeps the rows that were replaced in it, and a commit takes longer the more there are.
_MAX_VERSIONS = 64
# A reader that has just opened the table has this long to finish before the files of its version may go, and so many
# commits where they come faster.
_KEEP_OLD_VERSIONS = timedelta(minutes=1)
_KEPT_VERSIONS = 16
_PATHS_PER_STATEMENT = 500
_ROWS_AT_ONCE = 4096
_LOOKS = ("ctime_ns", "inode")
# Comparing a query with 100,000 rows of 768 dimensions takes 0.2 s on two cores, by this index it takes 11 ms with a
# million (docs/performance.md), but making it takes a minute for each 100,000.
_EXACT_UP_TO = 200_000
_INDEX = "vector_idx"
# All partitions are searched: leaving some out loses more than it saves, and many small graphs take longer than few
# large ones. The graph holds vectors in 8 bits; what it finds is ordered by its true scores.
_PARTITIONS = 4
_LINKS, _BUILD_WIDTH, _SEARCH_WIDTH = 20, 150, 32
_MOST_UNINDEXED = 1 / 8


class UnitTable:
    """The rows of one index. Every method raises IndexFolderError if LanceDB cannot do its work.

    Args:
        sealed: whether its files have checksums (`seal`), which every reading checks.
    """

    def __init__(self, place: Path, table: Any, dim: int, fingerprint: str, *, sealed: bool) -> None:
        self._place = place
        self._folder = place / TABLE_FOLDER
        self._table = table
        self._dim = dim
        self._fingerprint = fingerprint
        self._sealed = sealed

    @classmethod
    def create(cls, place: Path, *, dim: int, fingerprint: str) -> UnitTable:
        """Make an empty table in the folder `place`, instead of any that is there, sound or not."""
        import lancedb

        with explained(place, "write"):
            folder = place / TABLE_FOLDER
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder)
            else:
                folder.unlink(missing_ok=True)
            table = lancedb.connect(place).create_table(_NAME, schema=_schema(dim))
            seal(folder, int(table.version))
        return cls(place, table, dim, fingerprint, sealed=True)

    @classmethod
    def open(cls, place: Path, *, dim: int, fingerprint: str, sealed: bool = False) -> UnitTable:
        """Open the table in the folder `place`; with `sealed` it must have checksums."""
        import lancedb

        with explained(place, "open"):
            report = _checked(place, sealed)
            table = lancedb.connect(place).open_table(_NAME)
            if table.schema not in (_schema(dim), _schema(dim, with_looks=False)):
                raise ValueError("its table has other columns than expected")
            _check_version(table, report)
        opened = cls(place, table, dim, fingerprint, sealed=report is not None)
        if report is not None and report.moved:
            # After a copy every file looks new: its next reader need not read them all again.
            with suppress(IndexFolderError, BusyError, StorageError), writing(place), explained(place, "write"):
                table.checkout_latest()
                opened._seal()
        return opened

    def refresh(self) -> None:
        """See what other processes have written since."""
        with explained(self._place, "read"):
            report = _checked(self._place, self._sealed)
            self._table.checkout_latest()
            _check_version(self._table, report)

    def has_moved_on(self) -> bool:
        """Whether others have written since the last `refresh`; what was read then may be cleared away."""
        before = int(self._table.version)
        self.refresh()
        return int(self._table.version) != before

    def upgrade(self) -> None:
        """Add the columns that a table lacks which was made before they were stored."""
        with explained(self._place, "write"):
            lacking = [field for field in _schema(self._dim) if field.name not in self._table.schema.names]
            if lacking:
                self._table.add_columns(lacking)
                self._seal()

    def count(self, kind: Target | None = None) -> int:
        """Number of rows of one kind, or of all."""
        with explained(self._place, "read"):
            return int(self._table.count_rows(kind and f"kind = '{kind}'"))

    @property
    def num_indexed(self) -> int:
        """Rows in the approximate index; 0 if there is none."""
        with explained(self._place, "read"):
            known = self._table.index_stats(_INDEX)
        return 0 if known is None else int(known.num_indexed_rows)

    def nearest(self, query: Vector, limit: int, kind: Target | None, *, exact: bool = False) -> list[Hit]:
        """The `limit` rows with the largest dot product with `query` [D], best first, ties in no fixed order.

        Exact for up to 200,000 rows. Beyond, a row that belongs there may be missing (`tidy`) unless it is to be
        `exact`; scores are always exact.
        """
        search = self._table.search(query, vector_column_name="vector").distance_type("dot").limit(limit)
        # Without an index these say nothing, and rows that are not in it are compared one by one.
        search = search.nprobes(_PARTITIONS).ef(max(_SEARCH_WIDTH, limit)).refine_factor(1)
        if exact:
            search = search.bypass_vector_index()
        if kind is not None:
            search = search.where(f"kind = '{kind}'", prefilter=True)
        columns = ["path", "kind", "page", "span_start_s", "span_end_s", "_distance"]
        with explained(self._place, "read"):
            found = search.select(columns).to_arrow().to_pylist()
        return [
            # Lance's "dot" distance is 1 - dot product.
            Hit(_unescape(row["path"]), row["kind"], 1.0 - row["_distance"], row["page"], _span(row))
            for row in found
        ]

    def files(self) -> dict[str, StoredFile]:
        """Every file in the table by its path."""
        columns = ["path", "size", "mtime_ns", "content_hash", "num_units"]
        with explained(self._place, "read"):
            looks = [name for name in _LOOKS if name in self._table.schema.names]
            rows = self._table.search().select([*columns, *looks]).limit(None).to_arrow()
        # By way of numpy: `to_pylist` makes an object of Arrow's for every value first.
        names, *values = (rows.column(column).to_numpy().tolist() for column in columns)
        seen = (rows.column(column).fill_null(UNKNOWN).to_numpy().tolist() for column in looks)
        paths = [_unescape(name) for name in names]
        num_rows = Counter(paths)
        return dict(zip(paths, map(StoredFile, *values, (num_rows[path] for path in paths), *seen), strict=True))

    def rows(self, paths: Sequence[str]) -> list[Row]:
        """The rows of some files."""
        rows: list[Row] = []
        for where in _path_filters(paths):
            with explained(self._place, "read"):
                table = self._table.search().where(where).limit(None).to_arrow()
            rows += self._rows_of(table)
        return rows

    def all_rows(self) -> Iterator[list[Row]]:
        """All rows, some thousands at a time."""
        import pyarrow as pa

        with explained(self._place, "read"):
            for batch in self._table.search().limit(None).to_batches(_ROWS_AT_ONCE):
                yield self._rows_of(pa.Table.from_batches([batch]))

    def _rows_of(self, table: pa.Table) -> list[Row]:
        vectors = table.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return [
            Row(
                path=_unescape(row["path"]),
                kind=row["kind"],
                page=row["page"],
                span_s=_span(row),
                num_units=row["num_units"],
                content_hash=row["content_hash"],
                size=row["size"],
                mtime_ns=row["mtime_ns"],
                vector=vector,
                **{name: row[name] for name in _LOOKS if row.get(name) is not None},
            )
            for row, vector in zip(
                table.drop_columns(["vector"]).to_pylist(), vectors.reshape(-1, self._dim), strict=True
            )
        ]

    def replace(self, paths: Sequence[str], rows: Sequence[Row]) -> None:
        """Let the rows of the files `paths` go and put `rows` in.

        Two commits, the going first. A process killed between them leaves a file out of the table, and the next run
        adds it as a new one; the other way round it would leave a file with old and new rows side by side. All rows of
        a file are in one call, hence in one commit: all of them are there or none.
        """
        with explained(self._place, "write"):
            for where in _path_filters(paths):
                self._table.delete(where)
            if rows:
                self._table.add(_as_arrow(rows, self._fingerprint, self._dim))
            if paths or rows:
                self._seal()

    def note_looks(self, looks: Mapping[str, tuple[int, int]]) -> None:
        """Write down change time and inode of files whose rows lack them, in one commit."""
        import pyarrow as pa

        if not looks:
            return
        columns = {"path": [_escape(path) for path in looks]}
        seen = {name: [look[number] for look in looks.values()] for number, name in enumerate(_LOOKS)}
        schema = pa.schema([field for field in _schema(self._dim) if field.name in ("path", *_LOOKS)])
        with explained(self._place, "write"):
            update = self._table.merge_insert("path").when_matched_update_all()
            update.execute(pa.table({**columns, **seen}, schema=schema))
            self._seal()

    def mark_outdated(self, paths: Sequence[str]) -> None:
        """Let the rows of files equal no file and no content, in one commit, so that the files are embedded anew.

        They are found by searches until then.
        """
        with explained(self._place, "write"):
            for where in _path_filters(paths, at_once=len(paths)):
                self._table.update(where=where, values={"content_hash": "", "size": -1})
                self._seal()

    def tidy(self, building: Building = nullcontext) -> None:
        """Merge the fragments that commits leave, once they are many, and let old versions of the table go.

        A table of more than 200,000 rows gets an approximate index, which merging keeps whole; it is made anew when an
        eighth of the rows is not in it, and goes when the table has shrunk. Making it takes minutes.

        Args:
            building: entered with the number of rows while an approximate index is made.
        """
        # Merging rewrites all rows: too much for the one commit of one changed file, cheap against many of them.
        with explained(self._place, "write"):
            many = self._table.stats()["fragment_stats"]["num_fragments"] > _MAX_FRAGMENTS
            # Replacing the same rows again and again leaves few fragments and many versions.
            if many or len(self._version_times_s()) > _MAX_VERSIONS:
                seal(self._folder, int(self._table.version), settled=False)
                self._table.optimize(cleanup_older_than=self._age_to_keep())
            count = self._table.count_rows()
            if count <= _EXACT_UP_TO:
                if self.num_indexed:
                    self._table.drop_index(_INDEX)
            elif count - self.num_indexed > _MOST_UNINDEXED * count:
                with building(count):
                    self._make_index()
            self._seal()

    def _seal(self) -> None:
        seal(self._folder, int(self._table.version))
        self._sealed = True

    def _age_to_keep(self) -> timedelta:
        """How old a version is that must go."""
        times_s = self._version_times_s()
        if len(times_s) <= _MAX_VERSIONS:
            return _KEEP_OLD_VERSIONS
        return min(_KEEP_OLD_VERSIONS, timedelta(seconds=max(0.0, time.time() - times_s[-_KEPT_VERSIONS])))

    def _version_times_s(self) -> list[float]:
        """When the versions were written, oldest first. Lance would read each of their files."""
        with os.scandir(self._folder / "_versions") as versions:
            return sorted(entry.stat().st_mtime for entry in versions)

    def _make_index(self) -> None:
        from lancedb.index import HnswSq

        config = HnswSq(distance_type="dot", num_partitions=_PARTITIONS, m=_LINKS, ef_construction=_BUILD_WIDTH)
        self._table.create_index("vector", config=config, name=_INDEX, replace=True)


def _checked(place: Path, sealed: bool) -> Report | None:
    """Raise ValueError if a file of the table is not as it was written."""
    report = check(place / TABLE_FOLDER, expected=sealed)
    if report is not None and report.problems:
        others = len(report.problems) - 1
        raise ValueError(report.problems[0] + (f" (and {others} more)" if others else ""))
    return report


def _check_version(table: Any, report: Report | None) -> None:
    version = int(table.version)
    if report is not None and version < report.version:
        raise ValueError(f"its newest version is {version}, and {report.version} was written")


def _schema(dim: int, *, with_looks: bool = True) -> pa.Schema:
    """The columns of a table; `with_looks=False`: of one that was made before change times and inodes were stored."""
    import pyarrow as pa

    looks = [pa.field(name, pa.int64()) for name in _LOOKS] if with_looks else []
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


def _as_arrow(rows: Sequence[Row], fingerprint: str, dim: int) -> pa.Table:
    import pyarrow as pa

    vectors = np.stack([row.vector for row in rows]).astype(np.float32, copy=False)
    columns: dict[str, object] = {
        "path": [_escape(row.path) for row in rows],
        "span_start_s": [row.span_s and row.span_s[0] for row in rows],
        "span_end_s": [row.span_s and row.span_s[1] for row in rows],
        "fingerprint": [fingerprint] * len(rows),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim),
    }
    for name in ("kind", "page", "num_units", "content_hash", "size", "mtime_ns", *_LOOKS):
        columns[name] = [getattr(row, name) for row in rows]
    schema = _schema(dim)
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def _span(row: dict[str, Any]) -> tuple[float, float] | None:
    return None if row["span_start_s"] is None else (row["span_start_s"], row["span_end_s"])


def _path_filters(paths: Sequence[str], at_once: int = _PATHS_PER_STATEMENT) -> Iterator[str]:
    for start in range(0, len(paths), at_once or 1):
        some = paths[start : start + at_once]
        yield "path IN ({})".format(", ".join("'" + _escape(path).replace("'", "''") + "'" for path in some))


# A file name need not be text: Python shows its stray bytes as lone surrogates, which Arrow refuses. "//" cannot occur
# in a relative path, so it is free to introduce their number.
def _escape(path: str) -> str:
    return re.sub("[\ud800-\udfff]", lambda match: f"//{ord(match[0]):04x}", path)


def _unescape(name: str) -> str:
    return re.sub("//([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), name) if "//" in name else name
