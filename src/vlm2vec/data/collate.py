"""How do the rows of a step become packed batches, in a loader's worker?"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vlm2vec.data.mixture import Schedule
from vlm2vec.data.records import Pair
from vlm2vec.errors import DataError, VLM2VecError
from vlm2vec.items import Item

_TRIES = 100
"""Rows that are tried in place of one that cannot be read."""


class _Measured(Protocol):
    """A model input, of some cost."""

    @property
    def cost(self) -> int: ...


class _Teacher(Protocol):
    """The vectors that a teacher has given items, by the keys of their content."""

    def of(self, keys: Sequence[bytes], /) -> Tensor: ...


class Rows(Protocol):
    """Rows of a source, read one by one."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Pair: ...


_Input = TypeVar("_Input", bound=_Measured)
_Batch = TypeVar("_Batch")


@dataclass(frozen=True, slots=True)
class PairBatch(Generic[_Batch]):
    """Queries and documents of one process in one step, in packs.

    The N documents are the positives of the B queries in their order, then the hard negatives of all rows.

    Args:
        queries, documents: packs in the order of a plan.
        query_order, document_order: int64 [B] and [N]; item i is item `order[i]` of the packs laid end to end.
        labels: int64 [B], equal for rows of equal label; a row without label has a number of its own.
        rows: int64 [B], equal where the very same row stands twice.
        sources: int64 [B], index of the source in the schedule.
        origins: file and line of each row.
        replaced: a message for each row that was drawn and could not be read, in whose place another stands.
        taught: for each teacher its vectors of the queries, float32 [B, E], and of the documents, [N, E]; zeros where
            it has none.
        contents: int64 [B] and [N], equal for queries and documents of equal keys.
    """

    queries: tuple[_Batch, ...]
    documents: tuple[_Batch, ...]
    query_order: Tensor
    document_order: Tensor
    labels: Tensor
    rows: Tensor
    sources: Tensor
    origins: tuple[str, ...]
    replaced: tuple[str, ...]
    contents: tuple[Tensor, Tensor]
    taught: tuple[tuple[Tensor, Tensor], ...] = ()


@dataclass(frozen=True, eq=False)
class PairSteps(Dataset["PairBatch[_Batch] | VLM2VecError"], Generic[_Input, _Batch]):
    """Batches by step number: element n is step n, whichever process asks, and independent of earlier steps.

    A row that cannot be read is replaced by another of its source, which depends on the row alone; not by the next row,
    because bad rows often stand together and would all get the same. If none can be read the step is the error:
    returned, because an error that a worker process raises reaches the parent only as a printed traceback.

    Args:
        schedule: which rows make a step.
        rows: of each source.
        prepare_query, prepare_document: from the name of a source and a pair of it, or a document of that, to a model
            input (here, in the worker).
        plan: from the costs of the inputs of one side to the members of each pack.
        pack: from the members to a pack.
        key: of an item's content without its instruction. Documents of equal keys are equal, and have the same vectors
            of teachers.
        teachers: their vectors of the items go with them.
        rank, world: which part of the batch this process takes.
    """

    schedule: Schedule
    rows: Mapping[str, Rows]
    prepare_query: Callable[[str, Pair], _Input]
    prepare_document: Callable[[str, Item], _Input]
    plan: Callable[[Sequence[int]], Sequence[Sequence[int]]]
    pack: Callable[[Sequence[_Input]], _Batch]
    _: KW_ONLY
    key: Callable[[Item], bytes]
    teachers: Sequence[_Teacher] = ()
    rank: int = 0
    world: int = 1

    def __getitem__(self, step: int) -> PairBatch[_Batch] | VLM2VecError:
        try:
            return self._batch(step)
        except VLM2VecError as error:
            return error

    def _batch(self, step: int) -> PairBatch[_Batch]:
        sources, rows = self.schedule.rows(step, rank=self.rank, world=self.world)
        replaced: list[str] = []
        names = [self.schedule.sources[source] for source in sources]
        ready = [self._ready(name, int(row), replaced) for name, row in zip(names, rows, strict=True)]
        pairs = [one.pair for one in ready]
        documents = [one.positive for one in ready] + [negative for one in ready for negative in one.negatives]
        asked = [one.keys[0] for one in ready]
        given = [one.keys[1] for one in ready] + [key for one in ready for key in one.keys[2:]]
        queries, query_order = self._packed([one.query for one in ready])
        packs, document_order = self._packed(documents)
        return PairBatch(
            queries=queries,
            documents=packs,
            query_order=query_order,
            document_order=document_order,
            labels=_hashed([f"row {one.origin}" if one.label is None else f"label {one.label}" for one in pairs]),
            rows=_hashed([f"row {one.origin}" for one in pairs]),
            sources=torch.from_numpy(sources),
            origins=tuple(one.origin for one in pairs),
            replaced=tuple(replaced),
            taught=tuple((teacher.of(asked), teacher.of(given)) for teacher in self.teachers),
            contents=(_numbers(asked), _numbers(given)),
        )

    def _ready(self, name: str, row: int, replaced: list[str]) -> _Ready[_Input]:
        """The row, or another of its source that can be read; then a message is added to `replaced`."""
        rows, failures = self.rows[name], list[str]()
        # In an order that depends on the row alone.
        drawn = random.Random(row).sample(range(len(rows)), min(_TRIES + 1, len(rows)))
        for candidate in (row, *(other for other in drawn if other != row)):
            try:
                pair = rows[candidate]
            except VLM2VecError as error:
                failures.append(str(error))
                continue
            try:
                ready = _Ready(
                    pair,
                    self.prepare_query(name, pair),
                    self.prepare_document(name, pair.positive),
                    tuple(self.prepare_document(name, negative) for negative in pair.negatives),
                    # All of a folder's frames are read for its key, not only those that are looked at.
                    [self.key(item) for item in (pair.query, pair.positive, *pair.negatives)],
                )
            except VLM2VecError as error:
                failures.append(str(error.of(pair.origin)))
                continue
            # The others are told when they are drawn themselves.
            replaced += failures[:1]
            return ready
        last = "; ".join(failures[-3:])
        raise DataError(f"source {name!r}: none of {len(failures)} rows can be read; the last: {last}")

    def _packed(self, inputs: Sequence[_Input]) -> tuple[tuple[_Batch, ...], Tensor]:
        members = self.plan([one.cost for one in inputs])
        packs = tuple(self.pack([inputs[i] for i in pack]) for pack in members)
        return packs, torch.from_numpy(np.argsort(np.concatenate([np.asarray(pack) for pack in members])))


class _Ready(NamedTuple, Generic[_Input]):
    pair: Pair
    query: _Input
    positive: _Input
    negatives: tuple[_Input, ...]
    keys: list[bytes]


def _numbers(keys: Sequence[bytes]) -> Tensor:
    """63 bits of each, equal on all processes for equal keys."""
    return torch.tensor([int.from_bytes(key[:8]) >> 1 for key in keys], dtype=torch.int64)


def _hashed(names: Sequence[str]) -> Tensor:
    """`_numbers` of names, which may hold half a surrogate pair as JSON may."""
    return _numbers([hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in names])
