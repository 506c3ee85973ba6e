"""Files with vectors, and stores of them, for the tests of the stores."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vlm2vec.items import Kind
from vlm2vec.search.store import FileRows, IndexInfo, Look, Match, Near, Store, StoredUnit, Vector, Words

DIM = 16
INFO = IndexInfo("a model", "f" * 32, DIM, "float32", "..")
QUERY = np.full(DIM, DIM**-0.5, np.float32)


def vector_of(seed: int, dim: int = DIM) -> Vector:
    """A direction like no other with another seed."""
    vector = np.random.default_rng(seed).standard_normal(dim).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def picture(path: str, seed: int | None = None, *, mtime_ns: int = 1, dim: int = DIM) -> FileRows:
    """A file of one picture; its vector is that of its path, or of a seed."""
    seed = zlib.crc32(ascii(path).encode()) if seed is None else seed
    unit = StoredUnit("image", None, None, vector_of(seed, dim))
    return FileRows(path, Look(10, mtime_ns, 2, 3), f"{seed:032x}", 1, (unit,))


def document(path: str, pages: Sequence[int], *, seed: int = 0, num_units: int | None = None) -> FileRows:
    """A PDF of which some pages have vectors."""
    units = tuple(StoredUnit("page", page, None, vector_of(1000 * seed + page)) for page in pages)
    return FileRows(path, Look(20, 3, 4, 5), f"{seed:032x}", num_units or len(pages), units)


def film(path: str, *spans_s: tuple[float, float], seed: int = 0) -> FileRows:
    """A video in parts."""
    units = tuple(StoredUnit("video", None, span_s, vector_of(seed + int(span_s[0]))) for span_s in spans_s)
    return FileRows(path, Look(30, 6, 7, 8), f"{seed:032x}", len(units), units)


def text(path: str, *pages: str, about: str = "", seed: int = 0) -> FileRows:
    """A file of sections that have words and no look."""
    units = tuple(StoredUnit("text", page, None, None, Words(words, about)) for page, words in enumerate(pages, 1))
    return FileRows(path, Look(40, 9, 10, 11), f"{seed:032x}", len(units), units)


def worded(rows: FileRows, words: str, about: str = "", *, passages: Sequence[int] = ()) -> FileRows:
    """A file whose units have these words, too, and passages of these seeds."""
    vectors = tuple(map(vector_of, passages))
    units = tuple(replace(unit, words=Words(words, about), passages=vectors) for unit in rows.units)
    return replace(rows, units=units)


def plain(rows: FileRows) -> tuple[object, ...]:
    """A file as values that can be compared."""
    units = [
        (unit.kind, unit.page, unit.span_s, unit.words, unit.vector is None, np.array(unit.vectors).tolist())
        for unit in rows.units
    ]
    return rows.path, rows.look, rows.content_hash, rows.num_units, units


def contents(store: Store) -> list[tuple[object, ...]]:
    """All that a store holds, as values that can be compared."""
    return [plain(rows) for rows in store.read(sorted(store.files()))]


def places(found: Sequence[Near | Match]) -> list[tuple[str, Kind, int | None, tuple[float, float] | None]]:
    """Units found, without their scores."""
    return [(unit.path, unit.kind, unit.page, unit.span_s) for unit, *_ in found]


def versions(number: int) -> list[FileRows]:
    """The files of commit `number`: one that every commit replaces, one that the next one removes, one that stays."""
    return [
        document("changing.pdf", [1, 2, 3], seed=number),
        document(f"old{number}.pdf", [1, 2], seed=number),
        document(f"staying{number}.pdf", [1, 2], seed=number),
    ]
