"""Which store keeps the index in a folder, and how is one opened or made?"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from vlm2vec.errors import BusyError, InputError, StorageError
from vlm2vec.extras import require
from vlm2vec.search.store import IndexInfo, Store
from vlm2vec.search.stores.explaining import explained
from vlm2vec.search.stores.place import clear, clear_table, has_database, has_info, hold, make_place
from vlm2vec.search.stores.sqlite import SqliteStore

StoreKind: TypeAlias = Literal["sqlite", "lance"]

# Another process that makes the index holds the lock for so long before there is one.
_PATIENCE_S = 30.0
_PAUSE_S = 0.05


def store_exists(place: Path) -> bool:
    """Whether an index, sound or not, lies at `place`; True as well where nobody may look."""
    return has_database(place) or has_info(place)


def open_store(place: Path) -> Store:
    """Open the index in the folder `place`; one that LanceDB keeps unasked becomes one that SQLite keeps.

    Raises:
        IndexFolderError: there is none, it is damaged, of a newer format, or of another program.
        MissingError: LanceDB keeps it, and is not installed.
    """
    if not has_info(place):
        return SqliteStore(place)
    if has_database(place):
        # Converting was stopped before its last step.
        with suppress(BusyError, StorageError), hold(place), explained(place, "write"):
            clear_table(place)
        return SqliteStore(place)
    # Here, because LanceDB takes longer to import than most searches.
    from vlm2vec.search.stores.lance import LanceStore
    from vlm2vec.search.stores.lance.converting import convert
    from vlm2vec.search.stores.lance.info import read_info

    return LanceStore(place) if read_info(place).store == "lance" else convert(place)


def create_store(
    place: Path, info: IndexInfo, *, kind: StoreKind = "sqlite", replace: bool = True, patience_s: float = _PATIENCE_S
) -> Store:
    """Make an empty index in the folder `place`.

    Args:
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
    make = _maker(kind)
    make_place(place)
    deadline_s = time.monotonic() + patience_s
    while replace or not store_exists(place):
        try:
            with hold(place):
                if replace or not store_exists(place):
                    with explained(place, "write"):
                        clear(place)
                    return make(place, info)
        except BusyError:
            # Its writer may be about to make the index.
            if replace or time.monotonic() > deadline_s:
                raise
            time.sleep(_PAUSE_S)
    return open_store(place)


def _maker(kind: StoreKind) -> Callable[[Path, IndexInfo], Store]:
    if kind == "sqlite":
        return SqliteStore.create
    if kind != "lance":
        raise InputError(f"no store {kind!r}: use {', '.join(get_args(StoreKind))}")
    from vlm2vec.search.stores.lance import NEEDED, LanceStore

    require(*NEEDED)
    return LanceStore.create
