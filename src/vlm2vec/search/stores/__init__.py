"""Which store keeps the index in a folder, and how is one opened, made, or converted from one kind to the other?"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from vlm2vec.errors import BusyError, IndexFolderError, InputError, MissingError, StorageError
from vlm2vec.extras import require
from vlm2vec.search.store import Background, IndexInfo, Store
from vlm2vec.search.stores.place import DATABASE, DRAFT, Place
from vlm2vec.search.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from vlm2vec.search.stores.lance import LanceStore

StoreKind: TypeAlias = Literal["sqlite", "lance"]

_LOG = logging.getLogger("vlm2vec")
# Another process that makes the index holds the lock for so long before there is one; to convert it takes longer.
_PATIENCE_S = 30.0
_CONVERTING_S = 60.0
_PAUSE_S = 0.05
# Beyond, comparing all vectors takes too long, and too much memory.
_MOST_VECTORS = 300_000


def store_exists(path: Path) -> bool:
    """Whether an index, sound or not, lies at `path`; True as well where nobody may look."""
    return Place(path).has_database or Place(path).has_info


def open_store(path: Path, *, most_vectors: int = _MOST_VECTORS) -> Store:
    """Open the index in the folder `path`; one that LanceDB keeps unasked becomes one that SQLite keeps.

    A kill while it is converted leaves the old index, or the new one whole.

    Args:
        most_vectors: an index of more stays with LanceDB, as does one that may not be written or is being written.

    Raises:
        IndexFolderError: there is none, it is damaged, of a newer format, or of another program.
        MissingError: LanceDB keeps it, and is not installed.
    """
    place = Place(path)
    if not place.has_info:
        return SqliteStore(path)
    if place.has_database:
        # Converting was stopped before its last step.
        with suppress(BusyError, StorageError), place.hold(), place.explained("write"):
            place.clear_table()
        return SqliteStore(path)
    # Here, because LanceDB takes longer to import than most searches.
    from vlm2vec.search.stores.lance import LanceStore

    try:
        old = LanceStore(path)
    except IndexFolderError:
        if not place.has_database:
            raise
        # Another process has converted it at this moment.
        return SqliteStore(path)
    if old.was_chosen or old.count() > most_vectors:
        return old
    return _converted(old, place)


def create_store(
    path: Path,
    info: IndexInfo,
    *,
    kind: StoreKind | None = None,
    background: Background | None = None,
    replace: bool = True,
    patience_s: float = _PATIENCE_S,
) -> Store:
    """Make an empty index in the folder `path`.

    Args:
        kind: None: that of the index that is there, as far as it says so and LanceDB is installed; else "sqlite".
        background: by which its scores are calibrated.
        replace: in place of any index there, sound or not; False: one that is there is opened, whatever `info` says.
        patience_s: how long to wait, unless `replace`, for another process that is making it.

    Raises:
        IndexFolderError: the folder cannot be made, or holds other things than an index; or what is there and is not
            to be replaced cannot be opened.
        BusyError: another process is writing it.
        StorageError: it cannot be written.
        MissingError: the store is not installed.
        InputError: there is no store of this kind.
    """
    place = Place(path)
    make = _maker(kind or _kind_at(place))
    place.make()
    deadline_s = time.monotonic() + patience_s
    while replace or not store_exists(path):
        try:
            with place.hold():
                if replace or not store_exists(path):
                    with place.explained("write"):
                        place.clear()
                    return make(path, info, background)
        except BusyError:
            # Its writer may be about to make the index.
            if replace or time.monotonic() > deadline_s:
                raise
            time.sleep(_PAUSE_S)
    return open_store(path)


def _kind_at(place: Place) -> StoreKind:
    if place.has_info and not place.has_database:
        from vlm2vec.search.stores.lance import NEEDED
        from vlm2vec.search.stores.lance.seal import LanceInfo

        with suppress(IndexFolderError, MissingError):
            require(*NEEDED)
            return LanceInfo.read(place).store or "sqlite"
    return "sqlite"


def _maker(kind: StoreKind) -> Callable[[Path, IndexInfo, Background | None], Store]:
    if kind == "sqlite":
        return lambda path, info, background: SqliteStore.create(path, info, background=background)
    if kind != "lance":
        raise InputError(f"no store {kind!r}: use {', '.join(get_args(StoreKind))}")
    from vlm2vec.search.stores.lance import NEEDED, LanceStore

    require(*NEEDED)
    return lambda path, info, background: LanceStore.create(path, info, background=background)


def _converted(old: LanceStore, place: Place) -> Store:
    deadline_s = time.monotonic() + _CONVERTING_S
    while not place.has_database:
        try:
            with place.hold():
                if not place.has_database:
                    old.refresh()
                    SqliteStore.create(
                        place.path, old.info, old.all_files(), old.failures(),
                        unread=old.lacking_words(), background=old.background,
                    ).close()  # fmt: skip
                    place.clear_table()
                    _LOG.warning(
                        "the index %s is now one file, with its %d parts as they were", place.path, old.count()
                    )
        except StorageError:
            return old
        except BusyError:
            is_converting = (place.path / (DATABASE + DRAFT)).exists()
            if not is_converting or time.monotonic() > deadline_s:
                return old
            time.sleep(_PAUSE_S)
    return SqliteStore(place.path)
