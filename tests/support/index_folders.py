"""Small files and indexes of them, for the tests of the search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from vlm2vec.search.index import Index
from vlm2vec.search.indexing import Summary
from vlm2vec.search.table import Row, UnitTable


def make_picture(path: Path, number: int) -> Path:
    """A small picture like no other with another number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (number % 256, number // 256 % 256, 77)
    PILImage.new("RGB", (28, 28), colour).save(path)
    return path


def make_pdf(path: Path, *numbers: int) -> Path:
    """A PDF with a page for each number."""
    pages = [PILImage.new("RGB", (56, 56), (number, 200, 10)) for number in numbers]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return path


def summary_of(
    *,
    added: int = 0,
    changed: int = 0,
    removed: int = 0,
    unchanged: int = 0,
    embedded: int = 0,
    left_out: Mapping[str, int] | None = None,
    failed: tuple[tuple[str, str], ...] = (),
    failed_before: int = 0,
) -> Summary:
    """What an update says it did; nought where nothing is given."""
    left_out = left_out or {}
    ignored = sum(left_out.values())
    return Summary(added, changed, removed, unchanged, embedded, ignored, failed, left_out, failed_before)


def paths_of(index: Index) -> list[str]:
    """The files of an index in order."""
    return sorted(index.table.files())


def vector_of(index: Index, path: str) -> np.ndarray:
    """The vector of a file that has one."""
    (row,) = index.table.rows([path])
    return row.vector


def index_of_rows(folder: Path, *rows: Row) -> Index:
    """An index that holds these rows and no files."""
    table = UnitTable.create(folder, dim=2, fingerprint="f")
    table.replace([], rows)
    return Index(folder, folder, model="m", fingerprint="f", dim=2, dtype=None, table=table)
