"""How does a question become hits: which index and model answer it, and what is asked of each kind?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from vlm2vec.errors import IndexFolderError
from vlm2vec.items import Image, Item, Target, Video
from vlm2vec.search.index import DEFAULT_NAME, Hit, Index
from vlm2vec.search.rows import UNKNOWN, Row
from vlm2vec.search.scan import check_folder, file_look
from vlm2vec.search.standing import is_current

if TYPE_CHECKING:
    from vlm2vec.model.embedder import Embedder


def search(index: Index, embedder: Embedder, query: Item, k: int = 10, *, kind: Target | None = None) -> list[Hit]:
    """The `k` best hits for a question of text, media or both; best first.

    With `kind` the question carries the instruction that the model was trained with for looking for that kind. Without,
    it carries none: each default instruction names a kind, and vectors of several instructions give scores that cannot
    be compared (with the bundled model, pages came before everything).

    Raises:
        InputError, MediaError: the query cannot be embedded.
        IndexFolderError: the index is of another model, or cannot be read.
    """
    from vlm2vec.media.sandbox import Sandbox

    index.check_model(embedder)
    prompt = None if kind or query.instruction else ""
    with Sandbox() as decoder:
        vector = embedder.encode_query(query, target=kind, prompt=prompt, normalize_embeddings=True, decoder=decoder)
    return index.search(vector, k, kind=kind)


def search_near(index: Index, medium: Image | Video, k: int = 10) -> list[Hit] | None:
    """The `k` best hits for a file in the index, by its stored vector; None if it is not there as it is asked for.

    The stored vector carries the instruction of a document, so a file is nearest to itself. No model is needed.

    Raises:
        IndexFolderError: the index cannot be read.
    """
    if not isinstance(medium.source, Path) or medium.as_stored:
        # The index holds files as their owner sees them.
        return None
    try:
        name = index.relative(medium.source)
    except IndexFolderError:
        return None
    index.table.refresh()
    page, span_s = (medium.page, None) if isinstance(medium, Image) else (None, medium.span_s)
    for row in index.table.rows([name]):
        is_whole = row.num_units == 1 or row.page is not None
        as_asked = (row.page, span_s, row.kind == "video") == (page, None, isinstance(medium, Video))
        if is_whole and as_asked and _is_unchanged(medium.source, row):
            return index.search(row.vector, k)
    return None


def _is_unchanged(path: Path, row: Row) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    look = file_look(status)
    return look[:2] == (row.size, row.mtime_ns) and (row.ctime_ns, row.inode) in (look[2:], (UNKNOWN, UNKNOWN))


def search_ready(
    medium: Image | Video, k: int = 10, *, folder: Path | None = None, path: Path | None = None
) -> tuple[Index, list[Hit]] | None:
    """`search_near` without a model, in the index of a folder; None if it has no sound one that is up to date.

    Args:
        folder, path: as for `open_index`.
    """
    if not Index.exists(path if path is not None else (folder or Path()) / DEFAULT_NAME):
        return None
    try:
        index = Index.open(folder if path is not None else folder or Path(), path=path)
        # LanceDB reads vectors without holding Python's lock, so that the folder is looked through meanwhile.
        with ThreadPoolExecutor(1) as pool:
            searching = pool.submit(search_near, index, medium, k)
            hits = searching.result() if is_current(index) else None
        return None if hits is None else (index, hits)
    except IndexFolderError:
        # Who makes it anew, or says what is wrong with it, is `open_index`.
        return None


def open_index(
    folder: Path | None = None, *, path: Path | None = None, model: str | None = None, rebuild: bool = False
) -> tuple[Index, Embedder]:
    """Open the index of a folder with its model loaded; make an empty one if there is none.

    Args:
        folder: whose files are indexed; else that of the index at `path`, else the current one.
        path: of the index; else `.vlm2vec` in the folder.
        model: name for `Embedder.load`; else the one that made the index, else "bundled".
        rebuild: start with an empty index in any case.

    Raises:
        IndexFolderError: no such folder, or an index that is damaged or was made by another model.
        ModelError: the model cannot be loaded.
    """
    from vlm2vec.model.checkpoint import BUNDLED, BUNDLED_NAMES

    if folder is None and not (path is not None and Index.exists(path)):
        folder = Path()
    if folder is not None:
        check_folder(folder)
    place = path if path is not None else (folder or Path()) / DEFAULT_NAME
    existing = _open_existing(folder, path, place, rebuild)
    name = model or (existing.model if existing else BUNDLED)
    # The index outlives the current directory, against which a model's folder may have been given.
    resolved = str(Path(name).resolve()) if name not in BUNDLED_NAMES and Path(name).is_dir() else name
    # An index that was made on a GPU is searched with the same numbers on a CPU.
    embedder = _load(resolved, None if existing is None or rebuild else existing.dtype)
    if existing is not None and not rebuild:
        existing.check_model(embedder)
        return existing, embedder
    of = folder or (existing.folder if existing else Path())
    return Index.create(of, embedder=embedder, path=path, replace=rebuild), embedder


def _open_existing(folder: Path | None, path: Path | None, place: Path, rebuild: bool) -> Index | None:
    if not Index.exists(place):
        return None
    try:
        return Index.open(folder, path=path)
    except IndexFolderError:
        # To be made anew, it need not be sound; if it is, it still tells its model.
        if rebuild and folder is not None:
            return None
        raise


def _load(name: str, dtype: str | None) -> Embedder:
    from vlm2vec.model.embedder import Embedder

    return Embedder.load(name, dtype=dtype or "auto")  # type: ignore[arg-type]  # load checks it.
