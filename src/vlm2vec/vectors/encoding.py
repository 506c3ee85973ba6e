"""How does each item get its vector, made once and kept?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

from vlm2vec.errors import ConfigError, InputError, MediaError, VLM2VecError
from vlm2vec.items import Item, ItemLike, as_item
from vlm2vec.model.backbone import Ask, Output
from vlm2vec.processes import Alone, Processes, agree
from vlm2vec.vectors.keys import item_key, naming, number
from vlm2vec.vectors.store import Store, Vectors, VectorStore

# What a kill may cost at most, against one file for each write.
_ROWS_PER_SHARD = 1024
_WRITE_EVERY_S = 20.0
# Those of a page's tokens may take a megabyte.
_BYTES_PER_SHARD = 1 << 26
# A shared file system may list a file some time after another machine has written it; NFS, unless it is told otherwise,
# within 60 seconds (acdirmax of nfs(5)).
_LISTED_WITHIN_S = 90.0
# In place of the key of an item whose medium cannot be read.
_UNREADABLE = b""


class Encoder(Protocol):
    """What is asked of a model here; `Embedder` has it, and `TokenVectors` for the vectors of tokens."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def stream(
        self,
        items: Iterable[ItemLike],
        ask: Ask = Ask(),
    ) -> Iterator[tuple[int, Vectors | VLM2VecError]]: ...


class TokenEncoder(Encoder, Protocol):
    """A model that gives a vector for every token too."""

    @property
    def token_dim(self) -> int: ...

    def stream(
        self, items: Iterable[ItemLike], ask: Ask = Ask(), *, output: Output = "pooled"
    ) -> Iterator[tuple[int, Vectors | VLM2VecError]]: ...


class TokenVectors:
    """The token vectors of a model, asked for as single ones are; for a `TokenStore`.

    Raises:
        ModelError: the model has no token head.
    """

    def __init__(self, embedder: TokenEncoder) -> None:
        self.dim = embedder.token_dim
        # Never the key of a single vector.
        self.fingerprint = f"{embedder.fingerprint} tokens"
        self._embedder = embedder

    def stream(self, items: Iterable[ItemLike], ask: Ask = Ask()) -> Iterator[tuple[int, Vectors | VLM2VecError]]:
        return self._embedder.stream(items, ask, output="tokens")


def encode_with_store(
    embedder: Encoder,
    items: Sequence[ItemLike],
    *,
    store: VectorStore,
    ask: Ask = Ask(),
    origins: Sequence[str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Vectors:
    """Embed items, each different one once, and only those that the store lacks.

    Vectors are whole, and scaled as the checkpoint says; truncate and scale them afterwards.

    Args:
        ask, origins, on_progress: as for `store_vectors`.

    Returns:
        float32 [N, dim] in the order of the items.

    Raises:
        InputError, MediaError: an item cannot be embedded; the message begins with its origin.
        ConfigError: the store cannot be read or written.
    """
    keys = store_vectors(embedder, items, store=store, ask=ask, origins=origins, on_progress=on_progress)
    return store.get(keys)[1]


def store_vectors(
    embedder: Encoder,
    items: Sequence[ItemLike],
    *,
    store: Store,
    ask: Ask = Ask(),
    origins: Sequence[str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    processes: Processes | None = None,
    mend: Callable[[Item], Item | None] | None = None,
) -> list[bytes]:
    """Make and store the vectors that are not in the store yet.

    Each different item is embedded once, by one of the processes. Vectors are written as they come, so a killed run
    loses at most the last 20 seconds or 1,024 vectors of each process.

    Args:
        embedder: the model, or its `TokenVectors`.
        items: the same in all processes; those to embed are asked for twice, for their keys and for their vectors.
        store: in a folder that all processes share; a `VectorStore`, or for `TokenVectors` a `TokenStore`.
        ask: how items are put to the model: role "query" is `encode_query`, "document" `encode_document`, none `encode`.
        origins: what each item is called if something is wrong with it; else by its position.
        on_progress: called with (items done, all items), those that were stored before included. What other processes
            have done is taken to be what this one has.
        processes: those that share the work; None: there is one.
        mend: what is embedded in place of an item whose medium cannot be read; where that is None, or nothing is given,
            it is an error. It is called in every process for every such item, and must find the same in all.

    Returns:
        the key of each item, under which the store has its vector; of a mended one the key of what it became.

    Raises:
        InputError, MediaError: an item cannot be embedded; the message begins with its origin.
        ConfigError: the store cannot be read or written, or is not shared. Of several processes all raise it.
    """
    processes = processes or Alone()
    if store.dim != embedder.dim:
        raise InputError(
            f"the store {store.folder} was opened for {store.dim} dimensions, the model has {embedder.dim}"
        )

    def origin(position: int) -> str:
        return origins[position] if origins is not None else f"item {position} of {len(items)}"

    def key_of(position: int) -> bytes:
        item = as_item(items[position])
        try:
            with naming(origin(position)):
                return item_key(item, fingerprint=embedder.fingerprint, ask=ask)
        except MediaError:
            if mend is None or mend(item) is None:
                raise
            return _UNREADABLE

    keys = _all_keys(key_of, len(items), processes)
    number_of, first_at = number(keys)
    times = np.bincount(number_of, minlength=len(first_at))
    # What the first process finds holds for all: each may have looked into the folder at another time.
    found = processes.gather(
        np.array([keys[first] == _UNREADABLE or keys[first] in store for first in first_at], dtype=np.bool_)
    )[0]
    broken = [int(one) for one, first in enumerate(first_at) if keys[first] == _UNREADABLE]
    missing = np.flatnonzero(~found)
    # In turn, so that items of one kind and size are spread over the processes.
    mine = missing[processes.rank :: processes.size]
    done = int(times[found].sum())
    report = on_progress or (lambda done, total: None)
    report(done, len(items))
    unwritten = Unwritten(store)

    def embed() -> None:
        nonlocal done
        results = embedder.stream((items[first_at[one]] for one in mine), ask)
        for place, result in results:
            one = int(mine[place])
            first = int(first_at[one])
            if mend is not None and isinstance(result, MediaError) and mend(as_item(items[first])) is not None:
                broken.append(one)
            else:
                with naming(origin(first)):
                    vectors = checked(result)
                unwritten.add(keys[first], vectors)
            done += int(times[one]) * processes.size
            report(min(done, len(items)), len(items))

    def check_stored() -> None:
        whole = [keys[first] for one, first in enumerate(first_at) if one not in mended]
        _await(store, whole, 0.0 if processes.size == 1 else _LISTED_WITHIN_S)

    # Whatever becomes of the store in one process, all meet at the same places and go the same way.
    agree(embed, processes, always=unwritten.write)
    mended = {one for of_process in processes.gather(broken) for one in of_process}
    agree(check_stored, processes)
    if mend is not None and mended:
        places = [position for position, one in enumerate(number_of) if int(one) in mended]
        others = agree(lambda: list(_mended(items, places, mend, origin)), processes)
        found_keys = store_vectors(
            embedder,
            others,
            store=store,
            ask=ask,
            origins=[origin(place) for place in places],
            processes=processes,
        )
        for place, key in zip(places, found_keys, strict=True):
            keys[place] = key
    if done < len(items):
        report(len(items), len(items))
    return keys


def _mended(
    items: Sequence[ItemLike], places: Sequence[int], mend: Callable[[Item], Item | None], origin: Callable[[int], str]
) -> Iterator[Item]:
    """What some items become that could not be read.

    Raises:
        MediaError: one can be read after all.
    """
    for place in places:
        other = mend(as_item(items[place]))
        if other is None:
            raise MediaError(f"{origin(place)}: could not be read at first, and then could; start the run again")
        yield other


class Unwritten:
    """Vectors on their way into a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys: list[bytes] = []
        self._vectors: list[Vectors] = []
        self._num_bytes = 0
        self._written_at_s = time.monotonic()

    def add(self, key: bytes, vectors: Vectors) -> None:
        """Take in what belongs to a key, and write all if it is time."""
        self._keys.append(key)
        self._vectors.append(vectors)
        self._num_bytes += vectors.nbytes
        late = time.monotonic() - self._written_at_s >= _WRITE_EVERY_S
        if late or len(self._keys) >= _ROWS_PER_SHARD or self._num_bytes >= _BYTES_PER_SHARD:
            self.write()

    def write(self) -> None:
        """Write all. What cannot be written is given up, so that it is not tried, and does not fail, again.

        Raises:
            ConfigError: the store cannot be written.
        """
        keys, vectors = self._keys, self._vectors
        self._keys, self._vectors, self._num_bytes = [], [], 0
        if keys:
            self._store.put(keys, vectors)
        self._written_at_s = time.monotonic()


def _await(store: Store, keys: Sequence[bytes], patience_s: float) -> None:
    """See that a store has all of some keys, which other processes may just have written.

    Raises:
        ConfigError: some are missing after so many seconds, or the store cannot be read.
    """
    until_s = time.monotonic() + patience_s
    while True:
        store.refresh()
        lacking = sum(key not in store for key in keys)
        if not lacking:
            return
        if time.monotonic() >= until_s:
            raise ConfigError(
                f"{lacking} vectors that another process has made are not in {store.folder}: "
                "give a folder that all processes share"
            )
        time.sleep(0.1)


def _all_keys(key_of: Callable[[int], bytes], count: int, processes: Processes) -> list[bytes]:
    """A key for each position; each process reads its share of the media."""
    found = agree(lambda: [key_of(position) for position in range(processes.rank, count, processes.size)], processes)
    keys = [b""] * count
    for rank, share in enumerate(processes.gather(found)):
        keys[rank :: processes.size] = share
    return keys


def checked(result: Vectors | VLM2VecError) -> Vectors:
    """The vector of an item. Raises the error that stands in its place, or InputError if it is not finite."""
    if isinstance(result, VLM2VecError):
        raise result
    if not np.isfinite(result).all():
        raise InputError("the vector that the model makes of it is not finite; look for nan in the model's weights")
    return result
