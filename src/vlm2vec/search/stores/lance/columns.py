"""How do files and their units stand in the columns of a LanceDB table?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vlm2vec.search.store import UNKNOWN, FileRows, Filter, Hit, Look, StoredFile, StoredUnit

if TYPE_CHECKING:
    import pyarrow as pa

LOOK = Look._fields
"""Names of the columns that say how a file looked."""

HIT = ("path", "kind", "page", "span_start_s", "span_end_s", "_distance")
"""Names of the columns that make a hit."""

_NEW_LOOKS = ("ctime_ns", "inode")
_PATHS_PER_STATEMENT = 500


def schema(dim: int, *, with_new_looks: bool = True) -> pa.Schema:
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


def as_arrow(files: Sequence[FileRows], fingerprint: str, dim: int) -> pa.Table:
    """A row for each unit."""
    import pyarrow as pa

    pairs = [(file, unit) for file in files for unit in file.units]
    vectors = np.stack([unit.vector for _, unit in pairs]).astype(np.float32, copy=False)
    columns: dict[str, object] = {
        "path": [_escape(file.path) for file, _ in pairs],
        "kind": [unit.kind for _, unit in pairs],
        "page": [unit.page for _, unit in pairs],
        "span_start_s": [unit.span_s and unit.span_s[0] for _, unit in pairs],
        "span_end_s": [unit.span_s and unit.span_s[1] for _, unit in pairs],
        "num_units": [file.num_units for file, _ in pairs],
        "content_hash": [file.content_hash for file, _ in pairs],
        "fingerprint": [fingerprint] * len(pairs),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim),
        **{name: [getattr(file.look, name) for file, _ in pairs] for name in LOOK},
    }
    wanted = schema(dim)
    return pa.table({name: columns[name] for name in wanted.names}, schema=wanted)


def looks_as_arrow(looks: Mapping[str, Look], dim: int) -> pa.Table:
    """A row for each path, of how its file looks."""
    import pyarrow as pa

    wanted = pa.schema([field for field in schema(dim) if field.name in ("path", *LOOK)])
    rows = [{"path": _escape(path), **look._asdict()} for path, look in looks.items()]
    return pa.Table.from_pylist(rows, schema=wanted)


def parse_files(table: pa.Table, dim: int) -> dict[str, FileRows]:
    """Files by path, with those of their units that are among some rows."""
    vectors = table.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    files: dict[str, FileRows] = {}
    units: dict[str, list[StoredUnit]] = {}
    for row, vector in zip(table.drop_columns(["vector"]).to_pylist(), vectors, strict=True):
        path = _unescape(row["path"])
        if path not in files:
            look = Look(*(UNKNOWN if row.get(name) is None else row[name] for name in LOOK))
            files[path] = FileRows(path, look, row["content_hash"], row["num_units"], ())
        units.setdefault(path, []).append(StoredUnit(row["kind"], row["page"], _span_of(row), vector))
    return {path: replace(file, units=tuple(units[path])) for path, file in files.items()}


def parse_stored(rows: pa.Table) -> dict[str, StoredFile]:
    """What is known of files, from all their rows without vectors; looks may lack."""
    # By way of numpy: `to_pylist` makes an object of Arrow's for every value first.
    names, hashes, num_units = (rows.column(name).to_numpy().tolist() for name in ("path", "content_hash", "num_units"))
    looks = [
        rows.column(name).fill_null(UNKNOWN).to_numpy().tolist()
        if name in rows.schema.names
        else [UNKNOWN] * len(names)
        for name in LOOK
    ]
    paths = list(map(_unescape, names))
    num_rows = Counter(paths)
    return {
        path: StoredFile(Look(*look), content_hash, num, num_rows[path])
        for path, look, content_hash, num in zip(paths, zip(*looks, strict=True), hashes, num_units, strict=True)
    }


def parse_hits(rows: pa.Table) -> list[Hit]:
    """What a search has found, from columns of `HIT`."""
    return [
        # Lance's "dot" distance is 1 - dot product.
        Hit(_unescape(row["path"]), row["kind"], min(1.0, 1.0 - row["_distance"]), row["page"], _span_of(row))
        for row in rows.to_pylist()
    ]


def path_filters(paths: Sequence[str], at_once: int = _PATHS_PER_STATEMENT) -> Iterator[str]:
    """SQL that the rows of some files fulfil, for so many files at a time."""
    for start in range(0, len(paths), at_once or 1):
        yield f"path IN ({', '.join(_quoted(_escape(path)) for path in paths[start : start + at_once])})"


def where_clause(where: Filter) -> str:
    """SQL that the rows fulfil which a filter lets through; "" for all."""
    parts = []
    if where.kinds:
        parts.append(f"kind IN ({', '.join(map(_quoted, sorted(where.kinds)))})")
    if where.under:
        parts.append(f"starts_with(path, {_quoted(_escape(where.under) + '/')})")
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


def _span_of(row: Mapping[str, Any]) -> tuple[float, float] | None:
    return None if row["span_start_s"] is None else (row["span_start_s"], row["span_end_s"])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
