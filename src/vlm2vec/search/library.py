"""How are the files of a folder found by what they show?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeAlias, get_args

import numpy as np

from vlm2vec.errors import IndexFolderError, InputError, MissingError
from vlm2vec.items import Image, Item, ItemLike, Kind, Target, Video, as_item
from vlm2vec.search.background import read_background
from vlm2vec.search.copies import Group, Pictures, find_groups
from vlm2vec.search.examples import Examples, combined
from vlm2vec.search.ignore import check_patterns
from vlm2vec.search.language import parse_question
from vlm2vec.search.lazy_model import LazyModel, check_model, chosen_model
from vlm2vec.search.retrieve import Mode, Question, find_by_text, find_by_vector, stored_vector
from vlm2vec.search.scan import check_folder, name_in
from vlm2vec.search.store import DEFAULT_NAME, Building, Filter, Hit, IndexInfo, Store, Vector, Verdict
from vlm2vec.search.stores import StoreKind, create_store, open_store, store_exists
from vlm2vec.search.update import Summary, update

if TYPE_CHECKING:
    from vlm2vec.media import Limits
    from vlm2vec.model.embedder import Embedder

_Paths: TypeAlias = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


@dataclass(eq=False, repr=False)
class Library:
    """The images, videos and PDFs of a folder, to be searched. Open one with `Library.open`, and `close` it.

    Whatever needs the index raises IndexFolderError if there is none, or if it is damaged or of another model.

    Attributes:
        folder: whose files they are.
        path: the folder of the index: `.vlm2vec` in the folder, unless it was put elsewhere.
    """

    folder: Path
    path: Path
    _store: Store | None
    _model: LazyModel
    _kind: StoreKind | None
    _limits: Limits | None
    _exclude: tuple[str, ...] = ()
    _text_vectors: bool = True

    @classmethod
    def open(
        cls,
        folder: str | Path | None = None,
        *,
        index: str | Path | None = None,
        model: str | Path | Embedder | None = None,
        device: str | None = None,
        dtype: str | None = None,
        rebuild: bool = False,
        store: StoreKind | None = None,
        limits: Limits | None = None,
        exclude: Iterable[str] = (),
        text_vectors: bool = True,
    ) -> Self:
        """Open the library of a folder. An index that is missing is made by the first `sync`.

        Args:
            folder: whose files are searched; else those that the index is for, else those in the current folder.
            index: the folder of the index; else `.vlm2vec` in the folder.
            model: a name for `Embedder.load`, or a loaded model; else the one that made the index, else the default
                one. It is loaded when it is first needed.
            device, dtype: for `Embedder.load`; without a dtype, that of the index.
            rebuild: delete an index that is there, sound or not, and make an empty one. Nothing else deletes one.
            store: how an index is kept that is made now: "sqlite" in one file, or "lance" for millions of vectors; else
                like the one that is made anew, else in one file.
            limits: of the media that are read; else `vlm2vec.media.DEFAULT_LIMITS`.
            exclude: patterns of files and folders that are not to be found, as in .gitignore files. The next `sync`
                takes such files out of the index, which remembers the patterns from then on, behind those that it
                remembers already; "!pattern" takes one back.
            text_vectors: whether an index that is made now embeds the meaning of words too. Without, words are found as
                they are written, and indexing takes less time and room.

        Raises:
            IndexFolderError: no such folder, or an index that is damaged, is for another folder or was made by another
                model.
            InputError: one of the patterns is none.
            ModelError: the model cannot be loaded.
        """
        patterns = check_patterns(exclude)
        path = Path(index) if index is not None else Path(folder or ".") / DEFAULT_NAME
        if folder is None and (index is None or not store_exists(path)):
            folder = Path()
        if folder is not None:
            check_folder(Path(folder))
        opened = _open_existing(path, rebuild=rebuild and folder is not None)
        info = None if opened is None else opened.info
        chosen = chosen_model(model, device, dtype)
        library = cls(Path(folder or "."), path, opened, chosen, store, limits, patterns, text_vectors)
        try:
            if info is not None and (folder is None or (index is not None and not rebuild)):
                library.folder = _agreed_folder(path, info, folder)
            if rebuild:
                chosen.name = chosen.name or (None if info is None else info.model)
                # The old files, before they are deleted.
                library.close()
                library._create(replace=True)
            elif info is not None:
                library._adopt(info)
        except BaseException:
            library.close()
            raise
        return library

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files of the index; what is called afterwards opens them again."""
        if self._store is not None:
            self._store.close()
            self._store = None

    @property
    def exists(self) -> bool:
        """Whether there is an index; the first `sync` makes it."""
        return self._store is not None or store_exists(self.path)

    @property
    def info(self) -> IndexInfo:
        """What the index says of itself."""
        return self._opened().info

    def load_model(self) -> Embedder:
        """The model; it is loaded now if it has not been needed yet.

        Raises:
            ModelError: it cannot be loaded.
            IndexFolderError: its vectors cannot be compared with those of the index.
        """
        embedder = self._model.load()
        if self._store is not None:
            check_model(self.path, self._store.info, embedder)
        return embedder

    def sync(
        self,
        paths: _Paths | None = None,
        *,
        on_progress: Callable[[int, int], None] | None = None,
        retry: bool = True,
        building: Building = nullcontext,
    ) -> Summary:
        """Bring the index up to date with the folder, embedding only what is new or has changed.

        A file whose size, times and inode are as stored is not read; one with equal content is not embedded again,
        under whatever name. What is done is committed as it comes, so that an interrupted call loses little, and the
        next one continues. A file that cannot be read is in the summary with its reason.

        Args:
            paths: only these files and folders inside the folder; else all of it. Files that are gone leave.
            on_progress: called with (files done, files to do).
            retry: try files that could not be read before. Otherwise they are only counted until they change.
            building: called with the number of vectors when an approximate index has to be made, which takes minutes;
                the context manager it gives is entered meanwhile.

        Raises:
            IndexFolderError: a path lies outside the folder.
            BusyError: the index is being written.
            StorageError: it cannot be written, as where the disk is full.
        """
        names = None if paths is None else self._names(paths)
        store = self._opened() if self.exists else self._create()
        return update(
            store,
            self.folder,
            names,
            self.load_model,
            on_progress=on_progress,
            retry=retry,
            building=building,
            limits=self._limits,
            exclude=self._exclude,
            background=lambda: read_background(self.load_model()),
        )

    def remove(self, paths: _Paths) -> int:
        """Take files, and all files of folders, out of the index; their number. The next `sync` takes them in again.

        Raises:
            IndexFolderError: a path lies outside the folder.
            BusyError: the index is being written.
        """
        names = set(self._names(paths))
        store = self._opened()
        with store.writing():
            inside = tuple(f"{name}/" if name else "" for name in names)
            gone = [path for path in store.files() if path.startswith(inside) or path in names]
            store.commit(gone, [])
            store.tidy(nullcontext)
        return len(gone)

    def search(
        self,
        what: ItemLike | Question | Vector | Examples,
        k: int = 10,
        *,
        kind: Kind | None = None,
        mode: Mode = "auto",
        offset: int = 0,
        min_score: float | None = None,
    ) -> list[Hit]:
        """The hits for a text, a file, a picture or anything else that can be embedded; best first.

        A text is looked for by its words, by their meaning and by looks; quotes, a minus and filters in it are those of
        `search.language`. For its words alone no model is needed, and none for a file that is in the index and has not
        changed since: it is asked for by its stored vector. Copies are one hit, which names them.

        Args:
            what: a str is text, a Path is a file, `Examples` are several; a `Question` says all of it by itself.
            k, kind, mode, offset, min_score: as in a `Question`, of which `kind` is the only one in `where`.

        Raises:
            InputError, MediaError: it cannot be embedded.
        """
        if not isinstance(what, Question):
            where = Filter(kinds=frozenset(() if kind is None else (kind,)))
            what = Question(what, k, offset, where, mode, min_score)
        question, store, pictures = what, self._opened(), self._pictures()
        if not isinstance(question.item, (np.ndarray, Examples)):
            item = as_item(question.item)
            if item.text and not item.media:
                parsed = parse_question(item.text, question.where)
                asked = replace(item, text=parsed.text)
                target = replace(question, where=parsed.where).target
                return find_by_text(store, question, parsed, lambda: self._encoded(asked, target), pictures)
        return find_by_vector(store, question, self._vector(store, question), pictures)

    def similar(self, path: str | Path, k: int = 10, page: int | None = None) -> list[Hit]:
        """What is most like a file of the index, or one of its pages, by its stored vector; the file itself aside.

        Raises:
            InputError: the file is not in the index, has no picture, or has several parts of which none is named.
            IndexFolderError: the path lies outside the folder.
        """
        name = name_in(self.folder, path)
        store = self._opened()
        for rows in store.read([name]):
            unit = rows.unit(page)
            if unit.vector is None:
                raise InputError(f"{path} has no picture, so nothing can look like it: search for its words")
            itself = (name, unit.page, unit.span_s)
            return find_by_vector(store, Question(unit.vector, k), unit.vector, self._pictures(), but=itself)
        raise InputError(f"{path} is not in the index {self.path}: sync() takes in what is new")

    def duplicates(self) -> list[Group]:
        """The files that are there more than once: equal to the byte, or one picture in other encodings or sizes.

        Pictures whose vectors are near are read to compare them.
        """
        return find_groups(self._opened(), self._pictures())

    def medium(self, hit: Hit) -> Image | Video | None:
        """The picture, page, video or span that a hit stands for; None for a section, which has no picture."""
        if hit.kind == "text":
            return None
        path = self.folder / hit.path
        return Video(path, span_s=hit.span_s) if hit.kind == "video" else Image(path, page=hit.page)

    def counts(self) -> dict[Kind, int]:
        """How many texts, pictures, videos or spans, and pages there are; kinds without any are left out."""
        store = self._opened()
        return {kind: count for kind in get_args(Kind) if (count := store.count(kind))}

    def failures(self) -> dict[str, str]:
        """The files that could not be read, or not in all their parts, at the last try, with the reason."""
        return {path: failure.reason for path, failure in self._opened().failures().items()}

    def verify(self) -> Verdict:
        """Read all of the index, and compare it with its checksums."""
        # A store that is open is not refreshed, which refuses damage that has come since.
        return (self._store or self._opened()).verify()

    def _opened(self) -> Store:
        """The store as it is now, which another process may have written or made since the library was opened."""
        if self._store is None:
            self._store = open_store(self.path)
            self._adopt(self._store.info)
        else:
            self._store.refresh()
        return self._store

    def _adopt(self, info: IndexInfo) -> None:
        """Take the model of the index, as far as no other was asked for."""
        self._model.name = self._model.name or info.model
        # An index that was made on a GPU is searched with the same numbers on a CPU.
        self._model.dtype = self._model.dtype or info.dtype
        if self._model.embedder is not None or self._model.name != info.model:
            self.load_model()

    def _create(self, *, replace: bool = False) -> Store:
        embedder = self._model.load()
        # Relative where it lies in its place inside the folder, so that both may be moved as a whole.
        is_inside = self.path.resolve() == self.folder.resolve() / DEFAULT_NAME
        of = ".." if is_inside else str(self.folder.resolve())
        info = IndexInfo(
            embedder.name, embedder.fingerprint, embedder.dim, embedder.dtype, of, text_vectors=self._text_vectors
        )
        background = read_background(embedder)
        self._store = create_store(self.path, info, kind=self._kind, background=background, replace=replace)
        # Another process may have made it meanwhile.
        self.load_model()
        return self._store

    def _pictures(self) -> Pictures:
        return Pictures(self.folder, self._limits)

    def _vector(self, store: Store, question: Question) -> Vector:
        if isinstance(question.item, np.ndarray):
            return question.item
        if isinstance(question.item, Examples):
            like, unlike = (
                [self._vector(store, replace(question, item=item)) for item in items]
                for items in (question.item.like, question.item.unlike)
            )
            return combined(like, unlike)
        item = as_item(question.item)
        # The instruction for a kind belongs to the question.
        found = None if question.target else stored_vector(store, self.folder, item)
        if found is not None:
            return found
        return self._encoded(item, question.target)

    def _encoded(self, item: Item, target: Target | None) -> Vector:
        """The vector of what is asked, with the instruction of the one kind that is looked for."""
        from vlm2vec.media import DEFAULT_LIMITS
        from vlm2vec.media.sandbox import Sandbox

        prompt = None if target or item.instruction else ""
        with Sandbox(self._limits or DEFAULT_LIMITS) as decoder:
            return self.load_model().encode_query(
                item, target=target, prompt=prompt, normalize_embeddings=True, decoder=decoder
            )

    def _names(self, paths: _Paths) -> list[str]:
        several = [paths] if isinstance(paths, (str, os.PathLike)) else paths
        return [name_in(self.folder, path) for path in several]


def _open_existing(path: Path, *, rebuild: bool) -> Store | None:
    """The store at a path; None if there is none, or none that can be opened where it is to be made anew."""
    if not store_exists(path):
        return None
    try:
        return open_store(path)
    except (IndexFolderError, MissingError):
        # If it is sound, it still tells its model.
        if rebuild:
            return None
        raise


def _agreed_folder(path: Path, info: IndexInfo, folder: str | Path | None) -> Path:
    """The folder that the index at `path` is for, as the user wrote it if he did.

    Raises:
        IndexFolderError: that is another folder.
    """
    try:
        own = (path / info.folder).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise IndexFolderError(f"the index {path} is damaged: it is for no folder ({error})", "rebuild") from error
    if folder is None:
        return own
    if own != Path(folder).resolve():
        raise IndexFolderError(
            f"the index {path} was made for the folder {own}, not for {Path(folder).resolve()}",
            "other_index",
            "rebuild",
        )
    return Path(folder)
