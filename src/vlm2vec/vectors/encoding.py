"""How does each item get its vector, made once and kept?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np

from vlm2vec.errors import ConfigError, InputError, VLM2VecError
from vlm2vec.items import ItemLike, as_item
from vlm2vec.vectors.keys import Role, Target, item_key, naming, number
from vlm2vec.vectors.store import Vectors, VectorStore

# What a kill may cost at most, against one file for each write.
_ROWS_PER_SHARD = 1024
_WRITE_EVERY_S = 20.0

T = TypeVar("T")


class Encoder(Protocol):
    """What is asked of a model here; `Embedder` has it."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def stream(
        self,
        items: Iterable[ItemLike],
        *,
        role: Role | None = None,
        target: Target | None = None,
        prompt: str | None = None,
    ) -> Iterator[tuple[int, Vectors | VLM2VecError]]: ...


class Processes(Protocol):
    """Those that share the work, each with the same items."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def gather(self, value: T) -> list[T]:
        """What every process gave, in the order of their ranks; all must call it."""
        ...


class Alone:
    """One process that does all the work."""

    rank = 0
    size = 1

    def gather(self, value: T) -> list[T]:
        return [value]


def encode_with_store(
    embedder: Encoder,
    items: Sequence[ItemLike],
    *,
    store: VectorStore,
    role: Role | None = None,
    target: Target | None = None,
    prompt: str | None = None,
    origins: Sequence[str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Vectors:
    """Embed items, each different one once, and only those that the store lacks.

    Vectors are whole, and scaled as the checkpoint says; truncate and scale them afterwards.

    Args:
        role, target, prompt, origins, on_progress: as for `store_vectors`.

    Returns:
        float32 [N, dim] in the order of the items.

    Raises:
        InputError, MediaError: an item cannot be embedded; the message begins with its origin.
        ConfigError: the store cannot be read or written.
    """
    keys = store_vectors(
        embedder, items, store=store, role=role, target=target, prompt=prompt, origins=origins, on_progress=on_progress
    )
    return store.get(keys)[1]


def store_vectors(
    embedder: Encoder,
    items: Sequence[ItemLike],
    *,
    store: VectorStore,
    role: Role | None = None,
    target: Target | None = None,
    prompt: str | None = None,
    origins: Sequence[str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    processes: Processes | None = None,
) -> list[bytes]:
    """Make and store the vectors that are not in the store yet.

    Each different item is embedded once, by one of the processes. Vectors are written as they come, so a killed run
    loses at most the last 20 seconds or 1,024 vectors of each process.

    Args:
        embedder: the model.
        items: the same in all processes; those to embed are asked for twice, for their keys and for their vectors.
        store: in a folder that all processes share.
        role, target, prompt: as for `Embedder.stream`: role "query" is `encode_query`, "document" `encode_document`,
            None is `encode`.
        origins: what each item is called if something is wrong with it; else by its position.
        on_progress: called with (items done, all items), those that were stored before included. What other processes
            have done is taken to be what this one has.
        processes: those that share the work; None: there is one.

    Returns:
        the key of each item, under which the store has its vector.

    Raises:
        InputError, MediaError: an item cannot be embedded; the message begins with its origin.
        ConfigError: the store cannot be read or written, or is not shared.
    """
    processes = processes or Alone()
    if store.dim != embedder.dim:
        raise InputError(
            f"the store {store.folder} was opened for {store.dim} dimensions, the model has {embedder.dim}"
        )

    def origin(position: int) -> str:
        return origins[position] if origins is not None else f"item {position} of {len(items)}"

    def key_of(position: int) -> bytes:
        with naming(origin(position)):
            return item_key(
                as_item(items[position]),
                fingerprint=embedder.fingerprint,
                role=role,
                target=target,
                prompt=prompt,
            )

    keys = _all_keys(key_of, len(items), processes)
    number_of, first_at = number(keys)
    times = np.bincount(number_of, minlength=len(first_at))
    # What the first process finds holds for all: each may have looked into the folder at another time.
    found = processes.gather(np.array([keys[position] in store for position in first_at], dtype=np.bool_))[0]
    missing = np.flatnonzero(~found)
    # In turn, so that items of one kind and size are spread over the processes.
    mine = missing[processes.rank :: processes.size]
    done = int(times[found].sum())
    report = on_progress or (lambda done, total: None)
    report(done, len(items))
    waiting: list[bytes] = []
    vectors: list[Vectors] = []

    def write() -> None:
        if waiting:
            store.put(waiting, np.stack(vectors))
        waiting.clear()
        vectors.clear()

    failed: VLM2VecError | None = None
    written_at_s = time.monotonic()
    try:
        results = embedder.stream((items[first_at[one]] for one in mine), role=role, target=target, prompt=prompt)
        for place, result in results:
            one = int(mine[place])
            with naming(origin(int(first_at[one]))):
                vectors.append(_checked(result))
            waiting.append(keys[first_at[one]])
            done += int(times[one]) * processes.size
            report(min(done, len(items)), len(items))
            if len(waiting) >= _ROWS_PER_SHARD or time.monotonic() - written_at_s >= _WRITE_EVERY_S:
                write()
                written_at_s = time.monotonic()
    except VLM2VecError as error:
        failed = error
    finally:
        # Most of all after Ctrl-C: what is done is kept.
        write()
    raise_first(failed, processes)
    store.refresh()
    lacking = sum(keys[position] not in store for position in first_at)
    if lacking:
        raise ConfigError(
            f"{lacking} vectors that another process has made are not in {store.folder}: "
            "give a folder that all processes share"
        )
    if done < len(items):
        report(len(items), len(items))
    return keys


def raise_first(error: VLM2VecError | None, processes: Processes) -> None:
    """Raise in every process what went wrong in the first of those in which something did.

    Raises:
        VLM2VecError: something went wrong in one of them.
    """
    errors = [one for one in processes.gather(error) if one is not None]
    if errors:
        raise errors[0]


def _all_keys(key_of: Callable[[int], bytes], count: int, processes: Processes) -> list[bytes]:
    """A key for each position; each process reads its share of the media."""
    found: list[bytes] = []
    failed: VLM2VecError | None = None
    try:
        found = [key_of(position) for position in range(processes.rank, count, processes.size)]
    except VLM2VecError as error:
        failed = error
    raise_first(failed, processes)
    keys = [b""] * count
    for rank, share in enumerate(processes.gather(found)):
        keys[rank :: processes.size] = share
    return keys


def _checked(result: Vectors | VLM2VecError) -> Vectors:
    if isinstance(result, VLM2VecError):
        raise result
    if not np.isfinite(result).all():
        raise InputError("the vector that the model makes of it is not finite; look for nan in the model's weights")
    return result
