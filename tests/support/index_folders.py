"""Small files and indexes of them, for the tests of the search."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from PIL import Image as PILImage

from vlm2vec.search.library import Library
from vlm2vec.search.plan import make_plan
from vlm2vec.search.scan import scan_folder
from vlm2vec.search.store import DECODING, DEFAULT_NAME, FileRows, IndexInfo, Look, StoredFile, StoredUnit, Vector
from vlm2vec.search.stores import create_store, open_store
from vlm2vec.search.update import Summary


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
    excluded: int = 0,
) -> Summary:
    """What an update says it did; nought where nothing is given."""
    left_out = left_out or {}
    ignored = sum(left_out.values())
    return Summary(added, changed, removed, unchanged, embedded, ignored, failed, left_out, failed_before, excluded)


def stored_files(library: Library) -> Mapping[str, StoredFile]:
    """What the index knows of its files."""
    with closing(open_store(library.path)) as store:
        return store.files()


def stored_rows(library: Library, *paths: str) -> list[FileRows]:
    """Some files of the index with their vectors."""
    with closing(open_store(library.path)) as store:
        return store.read(paths)


def paths_of(library: Library) -> list[str]:
    """The files of the index in order."""
    return sorted(stored_files(library))


def vector_of(library: Library, path: str) -> Vector:
    """The vector of a file that has one."""
    ((unit,),) = (rows.units for rows in stored_rows(library, path))
    return unit.vectors[0]


def is_up_to_date(library: Library) -> bool:
    """Whether a search would find nothing to do."""
    scan = scan_folder(library.folder, skip=[library.path])
    with closing(open_store(library.path)) as store:
        return store.info.decoding == DECODING and make_plan(scan, store.files(), store.failures()).idle


def rows_of(path: str, *units: StoredUnit, num_units: int | None = None) -> FileRows:
    """A file as it is stored."""
    return FileRows(path, Look(1, 1, 1, 1), f"hash of {path}", num_units or len(units), units)


def library_of_rows(folder: Path, *rows: FileRows) -> Library:
    """A library whose index holds these files, with vectors of two numbers, and whose folder holds none."""
    info = IndexInfo("m", "f", 2, None, "..")
    with closing(create_store(folder / DEFAULT_NAME, info)) as store, store.writing():
        store.commit([], rows)
    return Library.open(folder)
