"""Where are the vectors of a folder's files kept, and which of them are nearest to a query?"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace as replaced
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from vlm2vec.errors import BusyError, IndexFolderError, InputError
from vlm2vec.items import Target
from vlm2vec.search.explaining import explained
from vlm2vec.search.info import DECODING, DEFAULT_NAME, Info, is_there, make_place, read_info, remove_info, write_info
from vlm2vec.search.lock import writing
from vlm2vec.search.scan import check_folder
from vlm2vec.search.table import Building, Hit, UnitTable, Vector, hit_order

if TYPE_CHECKING:
    from vlm2vec.model.embedder import Embedder
    from vlm2vec.search.indexing import Summary

__all__ = ["Index", "Hit", "DEFAULT_NAME"]

# Another process that makes the index holds the lock for so long before there is one.
_PATIENCE_S = 30.0
_PAUSE_S = 0.05
_TRIES = 5


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
        decoding: how files were decoded for the vectors; those that come out otherwise now are embedded anew by `add`.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        *,
        model: str,
        fingerprint: str,
        dim: int,
        dtype: str | None,
        table: UnitTable,
        decoding: int = DECODING,
    ) -> None:
        self.path = path
        self.folder = folder
        self.model = model
        self.fingerprint = fingerprint
        self.dim = dim
        self.dtype = dtype
        self.table = table
        self.decoding = decoding

    @classmethod
    def create(cls, folder: Path, *, embedder: Embedder, path: Path | None = None, replace: bool = True) -> Index:
        """Make an empty index of `folder` for the vectors of `embedder`.

        Args:
            replace: in place of any index at that path; else one that is there is opened.

        Raises:
            IndexFolderError: the path cannot be written, is being written, or holds other things than an index; or what
                is there and is not to be replaced cannot be opened or is of another model.
        """
        check_folder(folder)
        place = path or folder / DEFAULT_NAME
        make_place(place)
        info = Info(
            model=embedder.name,
            fingerprint=embedder.fingerprint,
            dim=embedder.dim,
            dtype=embedder.dtype,
            # Relative where the index lies inside, so that the folder may be moved as a whole.
            folder=".." if path is None else str(folder.resolve()),
        )
        deadline_s = time.monotonic() + _PATIENCE_S
        while replace or not cls.exists(place):
            try:
                with writing(place), explained(place, "write"):
                    if not replace and cls.exists(place):
                        break
                    # The table first: a folder without index.json is no index yet, so a kill in between leaves none.
                    remove_info(place)
                    table = UnitTable.create(place, dim=info.dim, fingerprint=info.fingerprint)
                    write_info(place, info)
                    return cls._of(place, folder, info, table)
            except BusyError:
                # Its writer may be about to make the index.
                if replace or time.monotonic() > deadline_s:
                    raise
                time.sleep(_PAUSE_S)
        # Another process has made it meanwhile.
        index = cls.open(folder, path=path)
        index.check_model(embedder)
        return index

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
        info = read_info(place)
        with explained(place, "open"):
            stored = (place / info.folder).resolve()
        if folder is not None and path is not None and stored != folder.resolve():
            raise IndexFolderError(
                f"the index {place} was made for the folder {stored}, not for {folder.resolve()}; "
                "give another path with --index, or 'vlm2vec index FOLDER --rebuild' to make it anew"
            )
        # Since files are decoded as now, tables have checksums.
        sealed = info.decoding >= DECODING
        table = UnitTable.open(place, dim=info.dim, fingerprint=info.fingerprint, sealed=sealed)
        return cls._of(place, folder or stored, info, table)

    @classmethod
    def _of(cls, place: Path, folder: Path, info: Info, table: UnitTable) -> Index:
        return cls(
            place,
            folder,
            model=info.model,
            fingerprint=info.fingerprint,
            dim=info.dim,
            dtype=info.dtype,
            table=table,
            decoding=info.decoding,
        )

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether an index, sound or not, lies at `path`; True as well where nobody may look."""
        return is_there(path)

    def add(
        self,
        paths: Iterable[Path] | None = None,
        *,
        embedder: Embedder,
        progress: Callable[[int, int], None] | None = None,
        building: Building = nullcontext,
        retry: bool = True,
    ) -> Summary:
        """Bring the index up to date with the folder, embedding only what is new or has changed.

        A file whose size, times and inode are as stored costs no read; one with equal content is not embedded again,
        under whatever name. What is done is committed as it goes, so an interrupted call loses little and the next one
        continues. A file that cannot be read is in the summary with its reason, and is tried again by every call.

        Args:
            paths: only these files and folders inside the folder; else all of it, and files that are gone leave.
            embedder: the model that made the index.
            progress: called with (files done, files to do) after every file.
            building: called with the number of vectors when the approximate index has to be made, which takes minutes;
                the context manager it gives is entered meanwhile.
            retry: False: files that could not be read before are left alone until they change, and only counted.

        Raises:
            IndexFolderError: `embedder` is another model, a path lies outside, or the index is damaged.
            BusyError: the index is being written.
            StorageError: it cannot be written, as where the disk is full.
        """
        from vlm2vec.search.indexing import update

        self.check_model(embedder)
        with writing(self.path):
            return update(self, paths, embedder, progress, building, retry)

    def note_decoding(self) -> None:
        """Write down that files are now decoded for all vectors as this release does. Its caller is writing."""
        with explained(self.path, "write"):
            write_info(self.path, replaced(read_info(self.path), decoding=DECODING))
        self.decoding = DECODING

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

    def search(self, vector: Vector, k: int = 10, *, kind: Target | None = None) -> list[Hit]:
        """The `k` nearest units by cosine similarity, best first; equal scores by path, page, span.

        Args:
            vector: [D], of any length but zero.
            kind: search only images, videos or pages.

        Raises:
            InputError: `vector` has another shape or is no direction; `k` or `kind` is out of range.
            IndexFolderError: the table cannot be read.
        """
        if kind is not None and kind not in get_args(Target):
            raise InputError(f"no kind {kind!r}: use {', '.join(get_args(Target))}")
        if k < 1:
            raise InputError(f"k is {k}: ask for at least one hit")
        query = np.asarray(vector, dtype=np.float32)
        norm = float(np.linalg.norm(query))
        if query.shape != (self.dim,) or not 0 < norm < math.inf:
            raise InputError(
                f"cannot search with a vector of shape {query.shape} and length {norm}: "
                f"this index needs {self.dim} finite numbers that are not all zero"
            )
        unit = query / norm
        tries = _TRIES
        while True:
            tries -= 1
            self.table.refresh()
            try:
                return self._nearest(unit, k, kind)
            except IndexFolderError:
                # A writer that makes many commits at once clears away what they leave, perhaps under a slow reader.
                if not (tries and self.table.has_moved_on()):
                    raise

    def _nearest(self, unit: Vector, k: int, kind: Target | None) -> list[Hit]:
        # Any number may be asked for: all there are.
        num_rows = self.table.count(kind)
        k = min(k, num_rows)
        # Lance breaks ties as it likes, so look on until the last score kept is certainly not tied with one left out.
        limit = min(k + 16, num_rows)
        found: list[Hit] = []
        while len(found) < limit:
            found = self.table.nearest(unit, limit, kind, exact=limit == num_rows)
            if len(found) < limit or found[-1].score < found[k - 1].score:
                break
            limit = min(limit * 4, num_rows)
        return sorted(found, key=hit_order)[:k]

    def counts(self) -> dict[Target, int]:
        """How many units of each kind there are; kinds without any are left out."""
        self.table.refresh()
        counts = {kind: self.table.count(kind) for kind in get_args(Target)}
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
