"""How does an index become one that SQLite keeps, if LanceDB keeps it from the time when there was no other store?"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from vlm2vec.errors import BusyError, IndexFolderError, StorageError
from vlm2vec.search.store import Store
from vlm2vec.search.stores.lance import LanceStore
from vlm2vec.search.stores.place import DATABASE, DRAFT, clear_table, has_database, hold
from vlm2vec.search.stores.sqlite import SqliteStore

_LOG = logging.getLogger("vlm2vec")
# Beyond, comparing all vectors takes too long, and too much memory.
_MOST_VECTORS = 300_000
# So long another process may take to convert the index.
_PATIENCE_S = 60.0
_PAUSE_S = 0.05


def convert(place: Path, *, most_vectors: int = _MOST_VECTORS, patience_s: float = _PATIENCE_S) -> Store:
    """Let SQLite keep an index of LanceDB's, with all its vectors, and open it.

    A kill in between leaves the old index, or the new one whole. An index that may not be written, is being written or
    has more than `most_vectors` stays with LanceDB.

    Raises:
        IndexFolderError: it is damaged.
        MissingError: LanceDB is not installed.
    """
    try:
        old = LanceStore(place)
    except IndexFolderError:
        if not has_database(place):
            raise
        # Another process has converted it at this moment.
        return SqliteStore(place)
    if old.count() > most_vectors:
        return old
    deadline_s = time.monotonic() + patience_s
    while not has_database(place):
        try:
            with hold(place):
                if not has_database(place):
                    _convert(old)
        except StorageError:
            return old
        except BusyError:
            is_converting = (place / (DATABASE + DRAFT)).exists()
            if not is_converting or time.monotonic() > deadline_s:
                return old
            time.sleep(_PAUSE_S)
    return SqliteStore(place)


def _convert(old: LanceStore) -> None:
    old.refresh()
    SqliteStore.create(old.place, old.info, old.all_files(), old.failures()).close()
    clear_table(old.place)
    _LOG.warning("the index %s is now one file, with its %d vectors as they were", old.place, old.count())
