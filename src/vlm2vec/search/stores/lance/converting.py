"""How does an index become one that SQLite keeps, if LanceDB keeps it from the time when there was no other store?"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from vlm2vec.errors import BusyError, StorageError
from vlm2vec.search.store import Store
from vlm2vec.search.stores.lance import LanceStore
from vlm2vec.search.stores.place import clear_table, has_database, hold
from vlm2vec.search.stores.sqlite import SqliteStore

_LOG = logging.getLogger("vlm2vec")
# Beyond, comparing all vectors takes too long, and too much memory.
_MOST_VECTORS = 300_000


def convert(place: Path, *, most_vectors: int = _MOST_VECTORS) -> Store:
    """Let SQLite keep an index of LanceDB's, with all its vectors, and open it.

    A kill in between leaves the old index, or the new one whole. An index that may not be written, is being written or
    has more than `most_vectors` stays with LanceDB.

    Raises:
        IndexFolderError: it is damaged.
        MissingError: LanceDB is not installed.
    """
    old = LanceStore(place)
    if old.count() > most_vectors:
        return old
    with suppress(BusyError, StorageError), hold(place):
        if not has_database(place):
            old.refresh()
            SqliteStore.create(place, old.info, old.all_files(), old.failures()).close()
            clear_table(place)
            _LOG.warning("the index %s is now one file, with its %d vectors as they were", place, old.count())
    return SqliteStore(place) if has_database(place) else old
