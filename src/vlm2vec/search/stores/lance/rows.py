"""How does what is stored of a file stand in the rows of a table, one for each of its units?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vlm2vec.search.store import (
    UNKNOWN,
    WORDS,
    Background,
    FileRows,
    Filter,
    Look,
    StoredFile,
    StoredUnit,
    Unit,
    Vector,
    Words,
)
from vlm2vec.search.stores.lance.terms import apart, stemmed_terms, unstemmed_terms
from vlm2vec.search.stores.spelling import indexed_name, plain_name, spelled

if TYPE_CHECKING:
    import pyarrow as pa

LOOK = Look._fields
"""Columns that say how a file looked."""

UNIT = ("path", "kind", "page", "span_start_s", "span_end_s", "content_hash")
"""Columns that make a `Unit`."""

PATHS_PER_STATEMENT = 500
# Tables were made with so many columns: the first ones, those that know change times and inodes, and those with words.
_NUMS_OF_COLUMNS = (11, 13)
_NO_SPREADS = (None, None, None)


def schema_of(dim: int) -> pa.Schema:
    """The columns of a table.

    Numbers are unique in a table, and those of the units of a file are consecutive. `reading` is the `WORDS` of the
    release that read the words, or 0. What ends in `_terms` is indexed: text with description, and name with folders;
    names stand in the row of the first unit of each file. Spreads are those of the scores with the background, null
    where there is none: of the look, and the smallest and the largest of the passages.
    """
    import pyarrow as pa

    vector = pa.list_(pa.float32(), dim)
    required = {"path", "kind", "num_units", "content_hash", "size", "mtime_ns", "fingerprint"}
    columns = {
        "path": pa.string(),
        "kind": pa.string(),
        "page": pa.int32(),
        "span_start_s": pa.float64(),
        "span_end_s": pa.float64(),
        "num_units": pa.int32(),
        "content_hash": pa.string(),
        "size": pa.int64(),
        "mtime_ns": pa.int64(),
        "fingerprint": pa.string(),
        "vector": vector,
        "ctime_ns": pa.int64(),
        "inode": pa.int64(),
        "number": pa.int64(),
        "num_stored": pa.int32(),
        "reading": pa.int32(),
        "text": pa.string(),
        "about": pa.string(),
        "word_terms": pa.string(),
        "name_terms": pa.string(),
        "name_part": pa.string(),
        "passages": pa.list_(vector),
        "num_passages": pa.int32(),
        "look_spread": pa.float32(),
        "least_spread": pa.float32(),
        "most_spread": pa.float32(),
    }
    return pa.schema([pa.field(name, kind, nullable=name not in required) for name, kind in columns.items()])


def is_known(schema: pa.Schema, dim: int) -> bool:
    """Whether a table of vectors of this size was made with these columns, now or by an earlier release."""
    columns = [(field.name, field.type) for field in schema_of(dim)]
    found = [(field.name, field.type) for field in schema]
    return found == columns or any(found == columns[:num] for num in _NUMS_OF_COLUMNS)


def as_arrow(
    files: Sequence[FileRows],
    fingerprint: str,
    dim: int,
    first: int,
    background: Background | None,
    unread: Collection[str] = (),
) -> pa.Table:
    """A row for each unit, numbered from `first` on.

    Args:
        unread: paths of files whose words were not read.

    Raises:
        ValueError: a vector has another size.
    """
    import pyarrow as pa

    schema = schema_of(dim)
    pairs = [(file, unit) for file in files for unit in file.units]
    if not pairs:
        return schema.empty_table()
    for file, unit in pairs:
        if any(len(vector) != dim for vector in unit.vectors):
            raise ValueError(f"not every vector of {file.path} has {dim} numbers")
    spreads = _spreads([unit for _, unit in pairs], background)
    values: dict[str, object] = {
        "path": [escape(file.path) for file, _ in pairs],
        "kind": [unit.kind for _, unit in pairs],
        "page": [unit.page for _, unit in pairs],
        "span_start_s": [unit.span_s and unit.span_s[0] for _, unit in pairs],
        "span_end_s": [unit.span_s and unit.span_s[1] for _, unit in pairs],
        "num_units": [file.num_units for file, _ in pairs],
        "content_hash": [file.content_hash for file, _ in pairs],
        "fingerprint": [fingerprint] * len(pairs),
        "vector": _looks([unit.vector for _, unit in pairs], dim),
        **{name: [getattr(file.look, name) for file, _ in pairs] for name in LOOK},
        "number": np.arange(first, first + len(pairs)),
        "num_stored": [len(file.units) for file, _ in pairs],
        "reading": [0 if file.path in unread else WORDS for file, _ in pairs],
        **_words([unit.words for _, unit in pairs]),
        **_names(files),
        "passages": _passages([unit.passages for _, unit in pairs], dim),
        "num_passages": [len(unit.passages) for _, unit in pairs],
        **dict(zip(("look_spread", "least_spread", "most_spread"), zip(*spreads, strict=True), strict=True)),
    }
    return pa.table({name: values[name] for name in schema.names}, schema=schema)


def parse_files(table: pa.Table, dim: int) -> dict[str, FileRows]:
    """Files by path, with those of their units that are among some rows."""
    looks = iter(vectors_of(table, "vector", dim)[0])
    passages: list[tuple[Vector, ...]] = [()] * table.num_rows
    if "passages" in table.schema.names:
        vectors, nums = vectors_of(table, "passages", dim)
        ends = np.cumsum(nums).tolist()
        passages = [tuple(vectors[end - num : end]) for end, num in zip(ends, nums.tolist(), strict=True)]
    seen = table.column("vector").is_valid().to_pylist()
    plain = table.drop_columns([name for name in ("vector", "passages") if name in table.schema.names])
    files: dict[str, FileRows] = {}
    units: dict[str, list[StoredUnit]] = {}
    for row, is_seen, own in zip(plain.to_pylist(), seen, passages, strict=True):
        path = unescape(row["path"])
        if path not in files:
            look = Look(*(UNKNOWN if row.get(name) is None else row[name] for name in LOOK))
            files[path] = FileRows(path, look, row["content_hash"], row["num_units"], ())
        words = Words(row.get("text") or "", row.get("about") or "")
        unit = StoredUnit(row["kind"], row["page"], _span_of(row), next(looks) if is_seen else None, words, own)
        units.setdefault(path, []).append(unit)
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
    paths = list(map(unescape, names))
    num_rows = Counter(paths)
    return {
        path: StoredFile(Look._make(look), content_hash, num, num_rows[path])
        for path, look, content_hash, num in zip(paths, zip(*looks, strict=True), hashes, num_units, strict=True)
    }


def vectors_of(table: pa.Table, column: str, dim: int) -> tuple[Vector, NDArray[np.int64]]:
    """The vectors [N, dim] of a column, one after the other, and how many each row has."""
    import pyarrow.compute as pc

    values = table.column(column).combine_chunks()
    nums = pc.list_value_length(values).fill_null(0).to_numpy().astype(np.int64)
    flat = values.flatten()
    if column == "vector":
        nums = np.minimum(nums, 1)
    else:
        flat = flat.flatten()
    vectors: Vector = flat.to_numpy(zero_copy_only=False).reshape(-1, dim)
    return vectors, nums


def unit_of(row: Mapping[str, Any]) -> Unit:
    """The unit of a row that has the columns `UNIT`."""
    return Unit(unescape(row["path"]), row["kind"], row["page"], _span_of(row), row["content_hash"])


def path_filters(paths: Sequence[str], at_once: int = PATHS_PER_STATEMENT) -> Iterator[str]:
    """SQL that the rows of some files fulfil, for so many files at a time."""
    for start in range(0, len(paths), at_once or 1):
        yield f"path IN ({', '.join(quoted(escape(path)) for path in paths[start : start + at_once])})"


def where_clause(where: Filter) -> str:
    """SQL that the rows fulfil which a filter lets through; "" for all."""
    parts = []
    if where.kinds:
        parts.append(f"kind IN ({', '.join(map(quoted, sorted(where.kinds)))})")
    if where.under:
        begin = [f"starts_with(path, {quoted(escape(folder) + '/')})" for folder in where.under]
        parts.append(f"({' OR '.join(begin)})")
    if where.since is not None:
        parts.append(f"mtime_ns >= {int(where.since * 1e9)}")
    if where.until is not None:
        parts.append(f"mtime_ns <= {int(where.until * 1e9)}")
    if where.types:
        ends = [f"ends_with(lower(path), {quoted(escape(ending))})" for ending in sorted(where.types)]
        parts.append(f"({' OR '.join(ends)})")
    return " AND ".join(parts)


# A file name need not be text: Python shows its stray bytes as lone surrogates, which Arrow refuses. "//" cannot occur
# in a relative path, so it is free to introduce their number.
def escape(path: str) -> str:
    """A path as it stands in the table."""
    return re.sub("[\ud800-\udfff]", lambda match: f"//{ord(match[0]):04x}", path)


def unescape(name: str) -> str:
    """The path that stands in the table as `name`."""
    return re.sub("//([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), name) if "//" in name else name


def quoted(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"


def _span_of(row: Mapping[str, Any]) -> tuple[float, float] | None:
    return None if row["span_start_s"] is None else (row["span_start_s"], row["span_end_s"])


def _looks(vectors: Sequence[Vector | None], dim: int) -> pa.Array:
    import pyarrow as pa

    values = np.zeros((len(vectors), dim), np.float32)
    for row, vector in zip(values, vectors, strict=True):
        if vector is not None:
            row[:] = vector
    unseen = pa.array([vector is None for vector in vectors])
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), dim, mask=unseen)


def _passages(passages: Sequence[Sequence[Vector]], dim: int) -> pa.Array:
    import pyarrow as pa

    vectors = [vector for some in passages for vector in some]
    values = np.stack(vectors).astype(np.float32, copy=False) if vectors else np.empty((0, dim), np.float32)
    ends = np.cumsum([0, *map(len, passages)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), dim))


def _words(words: Sequence[Words]) -> dict[str, list[str]]:
    texts, abouts = [one.text for one in words], [one.about for one in words]
    terms, about_terms = (stemmed_terms(list(map(spelled, some))) for some in (texts, abouts))
    return {"text": texts, "about": abouts, "word_terms": _side_by_side(terms, about_terms)}


def _names(files: Sequence[FileRows]) -> dict[str, Sequence[str | None]]:
    folders, names = zip(*(file.path.rpartition("/")[::2] for file in files), strict=True) if files else ((), ())
    texts = [[spelled(indexed_name(path)) for path in paths] for paths in (names, folders)]
    terms, folder_terms = map(unstemmed_terms, texts)
    of_files = {"name_terms": _side_by_side(terms, folder_terms), "name_part": list(map(plain_name, names))}
    # They stand with the first unit of each file.
    others: list[list[None]] = [[None] * (len(file.units) - 1) for file in files]
    return {
        column: [text for value, rest in zip(values, others, strict=True) for text in (value, *rest)]
        for column, values in of_files.items()
    }


def _side_by_side(terms: Sequence[str], others: Sequence[str]) -> list[str]:
    return [f"{some} {apart(other)}".strip() for some, other in zip(terms, others, strict=True)]


def _spreads(
    units: Sequence[StoredUnit], background: Background | None
) -> list[tuple[float | None, float | None, float | None]]:
    """Of each unit that of its look, and the smallest and the largest of its passages."""
    if background is None:
        return [_NO_SPREADS] * len(units)
    vectors = [vector for unit in units for vector in unit.vectors]
    values = iter(background.mean_and_spread(np.stack(vectors))[1].tolist() if vectors else [])
    spreads = []
    for unit in units:
        look = None if unit.vector is None else next(values)
        own = [next(values) for _ in unit.passages]
        spreads.append((look, min(own, default=None), max(own, default=None)))
    return spreads
