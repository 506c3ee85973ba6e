"""How does each item get its vector, made once and kept?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

from vlm2vec.errors import InputError, VLM2VecError
from vlm2vec.items import ItemLike, as_item
from vlm2vec.vectors.keys import Role, Target, item_key, naming, number
from vlm2vec.vectors.store import Vectors, VectorStore

# What a kill may cost at most, against one file for each write.
_ROWS_PER_SHARD = 1024
_WRITE_EVERY_S = 20.0


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

    Vectors are whole, and scaled as the checkpoint says; truncate and scale them afterwards. They are written as they
    come, so a killed run loses at most the last 20 seconds or 1,024 vectors.

    Args:
        role, target, prompt: as for `Embedder.stream`: role "query" is `encode_query`, "document" `encode_document`,
            None is `encode`.
        origins: what each item is called if something is wrong with it; else by its position.
        on_progress: called with (items done, all items), those that were stored before included.

    Returns:
        float32 [N, dim] in the order of the items.

    Raises:
        InputError, MediaError: an item cannot be embedded; the message begins with its origin.
        ConfigError: the store cannot be read or written.
    """
    if store.dim != embedder.dim:
        raise InputError(
            f"the store {store.folder} was opened for {store.dim} dimensions, the model has {embedder.dim}"
        )

    def origin(position: int) -> str:
        return origins[position] if origins is not None else f"item {position} of {len(items)}"

    keys = []
    for position, item in enumerate(items):
        with naming(origin(position)):
            key = item_key(as_item(item), fingerprint=embedder.fingerprint, role=role, target=target, prompt=prompt)
        keys.append(key)
    number_of, first_at = number(keys)
    found, vectors = store.get([keys[position] for position in first_at])
    times = np.bincount(number_of, minlength=len(first_at))
    num_done = int(times[found].sum())
    report = on_progress or (lambda done, total: None)
    report(num_done, len(items))

    missing = np.flatnonzero(~found)
    waiting: list[int] = []

    def write() -> None:
        store.put([keys[first_at[one]] for one in waiting], vectors[waiting])
        waiting.clear()

    written_at_s = time.monotonic()
    try:
        results = embedder.stream((items[first_at[one]] for one in missing), role=role, target=target, prompt=prompt)
        for position, result in results:
            one = int(missing[position])
            with naming(origin(int(first_at[one]))):
                vectors[one] = _checked(result)
            waiting.append(one)
            num_done += int(times[one])
            report(num_done, len(items))
            if len(waiting) >= _ROWS_PER_SHARD or time.monotonic() - written_at_s >= _WRITE_EVERY_S:
                write()
                written_at_s = time.monotonic()
    finally:
        # Most of all after Ctrl-C: what is done is kept.
        write()
    return vectors if len(vectors) == len(items) else vectors[number_of]


def _checked(result: Vectors | VLM2VecError) -> Vectors:
    if isinstance(result, VLM2VecError):
        raise result
    if not np.isfinite(result).all():
        raise InputError("the vector that the model makes of it is not finite; look for nan in the model's weights")
    return result
