"""Where are the vectors of a folder's files kept, and which of them are nearest to a query?"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from vlm2vec.errors import IndexFolderError, InputError
from vlm2vec.search.lock import LOCK, writing
from vlm2vec.search.scan import Kind
from vlm2vec.search.table import TABLE_FOLDER, Building, Hit, UnitTable, Vector, explained, hit_order

if TYPE_CHECKING:
    from vlm2vec.model.embedder import Embedder
    from vlm2vec.search.indexing import Summary

__all__ = ["Index", "Hit", "DEFAULT_NAME"]

DEFAULT_NAME = ".vlm2vec"
"""Folder of an index inside the folder it is for."""

_FORMAT = 1
_INFO = "index.json"
_DRAFT = f"{_INFO}.part"


class Index:
    """The vectors of the images, videos and PDFs in one folder. Make one with `Index.create` or `Index.open`.

    On disk it is a folder of a LanceDB table and a small `index.json`. Search is exact, every vector is compared,
    up to 200,000 of them; with more it goes through an approximate index (docs/performance.md says what it misses).

    Attributes:
        folder: whose files are indexed.
        path: where the index lies; `.vlm2vec` in the folder unless it was put elsewhere.
        model: name of the model that made the vectors, as given to `Embedder.load`.
        fingerprint: of that model.
        dim: dimensions of a vector.
        dtype: in which the model computed, such as "bfloat16"; None: the index does not say.
    """

    def __init__(
        self, path: Path, folder: Path, *, model: str, fingerprint: str, dim: int, dtype: str | None, table: UnitTable
    ) -> None:
        self.path = path
        self.folder = folder
        self.model = model
        self.fingerprint = fingerprint
        self.dim = dim
        self.dtype = dtype
        self.table = table

    @classmethod
    def create(cls, folder: Path, *, embedder: Embedder, path: Path | None = None, replace: bool = True) -> Index:
        """Make an empty index of `folder` for the vectors of `embedder`.

        Args:
            replace: in place of any index at that path; else one that is there is opened.

        Raises:
            IndexFolderError: the path cannot be written, is being written, or holds other things than an index; or what
                is there and is not to be replaced cannot be opened or is of another model.
        """
        if not folder.is_dir():
            raise IndexFolderError(f"cannot index {folder}: there is no such folder")
        place = path or folder / DEFAULT_NAME
        _make_place(place)
        info = {
            "format": _FORMAT,
            "model": embedder.name,
            "fingerprint": embedder.fingerprint,
            "dim": embedder.dim,
            "dtype": embedder.dtype,
            # Relative where the index lies inside, so that the folder may be moved as a whole.
            "folder": ".." if path is None else str(folder.resolve()),
        }
        with writing(place), explained(place, "write"):
            if not replace and cls.exists(place):
                # Another process has made it meanwhile.
                index = cls.open(folder, path=path)
                index.check_model(embedder)
                return index
            # The table first: a folder without index.json is no index yet, so a kill in between leaves none.
            (place / _INFO).unlink(missing_ok=True)
            table = UnitTable.create(place, dim=embedder.dim, fingerprint=embedder.fingerprint)
            draft = place / _DRAFT
            draft.write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
            os.replace(draft, place / _INFO)
        return cls(
            place,
            folder,
            model=embedder.name,
            fingerprint=embedder.fingerprint,
            dim=embedder.dim,
            dtype=embedder.dtype,
            table=table,
        )

    @classmethod
    def open(cls, folder: Path | None = None, *, path: Path | None = None) -> Index:
        """Open the index of `folder`, or the index at `path`, or both where they must belong together.

        Raises:
            IndexFolderError: there is none, it is damaged, of a newer format, or of another folder.
        """
        if path is not None:
            place = path
        elif folder is not None:
            place = folder / DEFAULT_NAME
        else:
            raise InputError("Index.open needs a folder, or the path of an index")
        info = _read_info(place)
        stored = (place / info.folder).resolve()
        if folder is not None and path is not None and stored != folder.resolve():
            raise IndexFolderError(
                f"the index {place} was made for the folder {stored}, not for {folder.resolve()}; "
                "give another path with --index, or 'vlm2vec index FOLDER --rebuild' to make it anew"
            )
        table = UnitTable.open(place, dim=info.dim, fingerprint=info.fingerprint)
        return cls(
            place,
            folder or stored,
            model=info.model,
            fingerprint=info.fingerprint,
            dim=info.dim,
            dtype=info.dtype,
            table=table,
        )

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether an index, sound or not, lies at `path`."""
        return (path / _INFO).exists()

    def add(
        self,
        paths: Iterable[Path] | None = None,
        *,
        embedder: Embedder,
        progress: Callable[[int, int], None] | None = None,
        building: Building = nullcontext,
    ) -> Summary:
        """Bring the index up to date with the folder, embedding only what is new or has changed.

        A file whose size and time are as stored costs no read; one with equal content is not embedded again, under
        whatever name. What is done is committed as it goes, so an interrupted call loses little and the next one
        continues. A file that cannot be read is in the summary with its reason, and is tried again by every call.

        Args:
            paths: only these files and folders inside the folder; else all of it, and files that are gone leave.
            embedder: the model that made the index.
            progress: called with (files done, files to do) after every file.
            building: called with the number of vectors when the approximate index has to be made, which takes minutes;
                the context manager it gives is entered meanwhile.

        Raises:
            IndexFolderError: `embedder` is another model, a path lies outside, or the index is being written.
        """
        from vlm2vec.search.indexing import update

        self.check_model(embedder)
        with writing(self.path):
            return update(self, paths, embedder, progress, building)

    def remove(self, paths: Iterable[Path]) -> int:
        """Take files, and all files of folders, out of the index; their number.

        Raises:
            IndexFolderError: a path lies outside the folder, or the index is being written.
        """
        wanted = [self.relative(path) for path in paths]
        with writing(self.path):
            self.table.refresh()
            gone = [
                path
                for path in self.table.files()
                if any(not name or path == name or path.startswith(f"{name}/") for name in wanted)
            ]
            self.table.replace(gone, [])
            self.table.tidy()
        return len(gone)

    def search(self, vector: Vector, k: int = 10, *, kind: Kind | None = None) -> list[Hit]:
        """The `k` nearest units by cosine similarity, best first; equal scores by path, page, span.

        Args:
            vector: [D], of any length but zero.
            kind: search only images, videos or pages.

        Raises:
            InputError: `vector` has another shape or is no direction; `k` or `kind` is out of range.
            IndexFolderError: the table cannot be read.
        """
        if kind is not None and kind not in get_args(Kind):
            raise InputError(f"no kind {kind!r}: use {', '.join(get_args(Kind))}")
        if k < 1:
            raise InputError(f"k is {k}: ask for at least one hit")
        query = np.asarray(vector, dtype=np.float32)
        norm = float(np.linalg.norm(query))
        if query.shape != (self.dim,) or not 0 < norm < math.inf:
            raise InputError(
                f"cannot search with a vector of shape {query.shape} and length {norm}: "
                f"this index needs {self.dim} finite numbers that are not all zero"
            )
        self.table.refresh()
        # Lance breaks ties as it likes, so look on until the last score kept is certainly not tied with one left out.
        limit = k + 16
        while True:
            found = self.table.nearest(query / norm, limit, kind)
            if len(found) < limit or found[-1].score < found[k - 1].score:
                break
            limit *= 4
        return sorted(found, key=hit_order)[:k]

    def counts(self) -> dict[Kind, int]:
        """How many units of each kind there are; kinds without any are left out."""
        self.table.refresh()
        counts = {kind: self.table.count(kind) for kind in get_args(Kind)}
        return {kind: count for kind, count in counts.items() if count}

    def check_model(self, embedder: Embedder) -> None:
        """Raise IndexFolderError unless `embedder` makes vectors like the stored ones."""
        if embedder.fingerprint == self.fingerprint:
            return
        # Without a name, an index is made anew with the model that made it before.
        other = "" if embedder.name == self.model else f" --model '{embedder.name}'"
        remedies = (
            f"Make the index anew with 'vlm2vec index FOLDER --rebuild{other}', keep a second one elsewhere with "
            "--index PATH"
        )
        if embedder.name == self.model and self.dtype not in (None, embedder.dtype):
            why = f": it computes in {embedder.dtype} here, and did in {self.dtype} there"
            remedies = f"{remedies}, or load the model with dtype='{self.dtype}'"
        elif embedder.name == self.model:
            why = ": its weights or settings have changed"
        else:
            why, remedies = "", f"{remedies}, or use the first model with --model '{self.model}'"
        raise IndexFolderError(
            f"the index {self.path} was made by the model '{self.model}' ({self.fingerprint[:8]}), and this is "
            f"'{embedder.name}' ({embedder.fingerprint[:8]}){why}. Their vectors cannot be compared. {remedies}"
        )

    def relative(self, path: Path) -> str:
        """`path` relative to the folder, as stored; "" for the folder itself.

        Raises:
            IndexFolderError: it lies outside the folder.
        """
        # Links stay as they are: a linked file is stored under the name it has in the folder.
        absolute, root = Path(os.path.abspath(path)), Path(os.path.abspath(self.folder))
        if not absolute.is_relative_to(root):
            raise IndexFolderError(f"{path} is not inside {self.folder}, which this index is for")
        relative = absolute.relative_to(root).as_posix()
        return "" if relative == "." else relative


@dataclass(frozen=True, slots=True)
class _Info:
    model: str
    fingerprint: str
    dim: int
    folder: str
    dtype: str | None


def _read_info(place: Path) -> _Info:
    remedy = "'vlm2vec index FOLDER --rebuild' makes it anew"
    try:
        info = json.loads((place / _INFO).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise IndexFolderError(f"there is no index at {place}; 'vlm2vec index FOLDER' makes one") from None
    except (OSError, ValueError) as error:
        raise IndexFolderError(
            f"the index {place} is damaged: its {_INFO} cannot be read ({error}); {remedy}"
        ) from error
    version = info.get("format") if isinstance(info, dict) else None
    if isinstance(version, int) and version > _FORMAT:
        raise IndexFolderError(
            f"the index {place} has format {version}, and this version of vlm2vec knows up to {_FORMAT}; "
            f"use a newer vlm2vec, or {remedy}"
        )
    types = {"model": str, "fingerprint": str, "dim": int, "folder": str, "dtype": str | None}
    if version != _FORMAT or not all(isinstance(info.get(key), kind) for key, kind in types.items()):
        if not (place / TABLE_FOLDER).exists():
            raise IndexFolderError(
                f"{place} is no index: its {_INFO} is another program's; give another path with --index"
            )
        raise IndexFolderError(f"the index {place} is damaged: its {_INFO} lacks {', '.join(types)}; {remedy}")
    return _Info(*(info.get(key) for key in types))


def _make_place(place: Path) -> None:
    try:
        if place.is_dir() and not _is_ours(place):
            raise IndexFolderError(
                f"{place} holds other things than an index; give an empty or new folder with --index"
            )
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise IndexFolderError(
            f"cannot make the index folder {place}: {error.strerror}; give a folder that you can write to with --index"
        ) from error


def _is_ours(place: Path) -> bool:
    """Whether a folder holds nothing but what an index leaves there, whole or not; hidden files do not count."""
    names = {name for name in os.listdir(place) if not name.startswith(".")}
    if not names <= {_INFO, _DRAFT, LOCK, TABLE_FOLDER}:
        return False
    if names != {_INFO}:
        return True
    # Many programs have a file of that name.
    try:
        return "fingerprint" in json.loads((place / _INFO).read_text("utf-8"))
    except (ValueError, TypeError):
        return False
