"""How are vectors, and what is known of their files, stored in a LanceDB table?"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import IndexFolderError, VLM2VecError
from vlm2vec.search.scan import Kind

if TYPE_CHECKING:
    import pyarrow as pa

Vector = NDArray[np.float32]
Building: TypeAlias = Callable[[int], AbstractContextManager[object]]

TABLE_FOLDER = "units.lance"
"""Where LanceDB keeps the table inside the index folder."""

_NAME = "units"
# A query reads every fragment, and each commit makes one: this many cost nothing measurable.
_MAX_FRAGMENTS = 24
# Each keeps the rows that were replaced in it.
_MAX_VERSIONS = 64
# A reader that has just opened the table has this long to finish before the files of its version may go.
_KEEP_OLD_VERSIONS = timedelta(minutes=1)
_PATHS_PER_STATEMENT = 500
# Comparing a query with 100,000 rows of 768 dimensions takes 0.2 s on two cores, by this index it takes 11 ms with a
# million (docs/performance.md), but making it takes a minute for each 100,000.
_EXACT_UP_TO = 200_000
_INDEX = "vector_idx"
# All partitions are searched: leaving some out loses more than it saves, and many small graphs take longer than few
# large ones. The graph holds vectors in 8 bits; what it finds is ordered by its true scores.
_PARTITIONS = 4
_LINKS, _BUILD_WIDTH, _SEARCH_WIDTH = 20, 150, 32
_MOST_UNINDEXED = 1 / 8


@dataclass(frozen=True, slots=True)
class Hit:
    """A file, page or span found.

    Args:
        path: relative to the indexed folder, with "/" between its parts.
        kind: "image", "video" or "page".
        score: cosine similarity with the query, at most 1.
        page: of a PDF, counted from 1; else None.
        span_s: start and end in a long video, in seconds; else None.
    """

    path: str
    kind: Kind
    score: float
    page: int | None = None
    span_s: tuple[float, float] | None = None

    @property
    def place(self) -> str:
        """Where in its file it lies: "page 3", "0:30-1:00", or "" for the whole file."""
        if self.page is not None:
            return f"page {self.page}"
        return "-".join(_clock(seconds) for seconds in self.span_s or ())


def hit_order(hit: Hit) -> tuple[float, str, int, tuple[float, float]]:
    """Sort key of hits: best score first; equal scores by path, page, span."""
    return -hit.score, hit.path, hit.page or 0, hit.span_s or (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Row:
    """One vector as it is stored, with what is known of its file.

    `num_units` counts the parts the file has, readable or not, so that a file with fewer rows is known as incomplete.
    """

    path: str
    kind: Kind
    page: int | None
    span_s: tuple[float, float] | None
    num_units: int
    content_hash: str
    size: int
    mtime_ns: int
    vector: Vector


class StoredFile(NamedTuple):
    """What the table knows of a file, without its vectors."""

    size: int
    mtime_ns: int
    content_hash: str
    num_units: int
    num_rows: int

    @property
    def complete(self) -> bool:
        """Whether every part of the file has its row."""
        return self.num_rows == self.num_units


class UnitTable:
    """The rows of one index. Every method raises IndexFolderError if LanceDB cannot do its work."""

    def __init__(self, place: Path, table: Any, dim: int, fingerprint: str) -> None:
        self._place = place
        self._table = table
        self._dim = dim
        self._fingerprint = fingerprint

    @classmethod
    def create(cls, place: Path, *, dim: int, fingerprint: str) -> UnitTable:
        """Make an empty table in the folder `place`, instead of any that is there, sound or not."""
        import lancedb

        with explained(place, "write"):
            shutil.rmtree(place / TABLE_FOLDER, ignore_errors=True)
            table = lancedb.connect(place).create_table(_NAME, schema=_schema(dim))
        return cls(place, table, dim, fingerprint)

    @classmethod
    def open(cls, place: Path, *, dim: int, fingerprint: str) -> UnitTable:
        """Open the table in the folder `place`."""
        import lancedb

        with explained(place, "open"):
            table = lancedb.connect(place).open_table(_NAME)
            if table.schema != _schema(dim):
                raise ValueError("its table has other columns than expected")
        return cls(place, table, dim, fingerprint)

    def refresh(self) -> None:
        """See what other processes have written since."""
        with explained(self._place, "read"):
            self._table.checkout_latest()

    def count(self, kind: Kind) -> int:
        """Number of rows of one kind."""
        with explained(self._place, "read"):
            return int(self._table.count_rows(f"kind = '{kind}'"))

    @property
    def num_indexed(self) -> int:
        """Rows in the approximate index; 0 if there is none."""
        with explained(self._place, "read"):
            known = self._table.index_stats(_INDEX)
        return 0 if known is None else int(known.num_indexed_rows)

    def nearest(self, query: Vector, limit: int, kind: Kind | None) -> list[Hit]:
        """The `limit` rows with the largest dot product with `query` [D], best first, ties in no fixed order.

        Exact for up to 200,000 rows. Beyond, a row that belongs there may be missing (`tidy`); scores are always exact.
        """
        search = self._table.search(query, vector_column_name="vector").distance_type("dot").limit(limit)
        # Without an index these say nothing, and rows that are not in it are compared one by one.
        search = search.nprobes(_PARTITIONS).ef(max(_SEARCH_WIDTH, limit)).refine_factor(1)
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
            rows = self._table.search().select(columns).limit(None).to_arrow()
        # By way of numpy: `to_pylist` makes an object of Arrow's for every value first.
        names, *values = (rows.column(column).to_numpy().tolist() for column in columns)
        paths = [_unescape(name) for name in names]
        num_rows = Counter(paths)
        return dict(zip(paths, map(StoredFile, *values, (num_rows[path] for path in paths)), strict=True))

    def rows(self, paths: Sequence[str]) -> list[Row]:
        """The rows of some files."""
        rows: list[Row] = []
        for where in _path_filters(paths):
            with explained(self._place, "read"):
                table = self._table.search().where(where).limit(None).to_arrow()
            vectors = table.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False)
            rows += [
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
                )
                for row, vector in zip(
                    table.drop_columns(["vector"]).to_pylist(), vectors.reshape(-1, self._dim), strict=True
                )
            ]
        return rows

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
            if many or self._num_versions() > _MAX_VERSIONS:
                self._table.optimize(cleanup_older_than=_KEEP_OLD_VERSIONS)
            count = self._table.count_rows()
            if count <= _EXACT_UP_TO:
                if self.num_indexed:
                    self._table.drop_index(_INDEX)
            elif count - self.num_indexed > _MOST_UNINDEXED * count:
                with building(count):
                    self._make_index()

    def _num_versions(self) -> int:
        """Counted by their files: Lance would read each."""
        with os.scandir(self._place / TABLE_FOLDER / "_versions") as versions:
            return sum(1 for _ in versions)

    def _make_index(self) -> None:
        from lancedb.index import HnswSq

        config = HnswSq(distance_type="dot", num_partitions=_PARTITIONS, m=_LINKS, ef_construction=_BUILD_WIDTH)
        self._table.create_index("vector", config=config, name=_INDEX, replace=True)


@contextmanager
def explained(place: Path, verb: str) -> Iterator[None]:
    """Turn whatever LanceDB or the disk raise into the user's error; Lance has no exception classes of its own."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, VLM2VecError):
            raise
        # Lance appends the place in its own sources.
        reason = re.split(r",? *(?:at )?\S+\.rs:\d+", str(error))[0].strip()
        raise IndexFolderError(
            f"cannot {verb} the index {place}: {reason}; if it is damaged, 'vlm2vec index FOLDER --rebuild' makes it "
            "anew"
        ) from error


def _schema(dim: int) -> pa.Schema:
    import pyarrow as pa

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
    for name in ("kind", "page", "num_units", "content_hash", "size", "mtime_ns"):
        columns[name] = [getattr(row, name) for row in rows]
    schema = _schema(dim)
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def _clock(seconds: float) -> str:
    """As a player shows it: "1:05", "1:02:05"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _span(row: dict[str, Any]) -> tuple[float, float] | None:
    return None if row["span_start_s"] is None else (row["span_start_s"], row["span_end_s"])


def _path_filters(paths: Sequence[str]) -> Iterator[str]:
    for start in range(0, len(paths), _PATHS_PER_STATEMENT):
        some = paths[start : start + _PATHS_PER_STATEMENT]
        yield "path IN ({})".format(", ".join("'" + _escape(path).replace("'", "''") + "'" for path in some))


# A file name need not be text: Python shows its stray bytes as lone surrogates, which Arrow refuses. "//" cannot occur
# in a relative path, so it is free to introduce their number.
def _escape(path: str) -> str:
    return re.sub("[\ud800-\udfff]", lambda match: f"//{ord(match[0]):04x}", path)


def _unescape(name: str) -> str:
    return re.sub("//([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), name) if "//" in name else name
