"""From the rows of a step to packed batches, in a loader's worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vlm2vec.data.mixture import Schedule
from vlm2vec.data.records import Pair
from vlm2vec.errors import ConfigError, VLM2VecError

Batch = TypeVar("Batch")


class HasLength(Protocol):
    @property
    def length(self) -> int: ...


Input = TypeVar("Input", bound=HasLength)


@dataclass(frozen=True, slots=True)
class PairBatch(Generic[Batch]):
    """Queries and positives of one step, packed.

    Args:
        queries, positives: packed in order of length, so that equal lengths are attended to together.
        query_order, positive_order: int64 [B]; row i of the step is row `order[i]` of the pack.
        same_label: bool [B, B], True where positive j must not be a negative of query i.
        sources: name of the source of each row.
    """

    queries: Batch
    positives: Batch
    query_order: Tensor
    positive_order: Tensor
    same_label: Tensor
    sources: tuple[str, ...]


class PairSteps(Dataset["PairBatch[Batch] | ConfigError"], Generic[Input, Batch]):
    """Batches by step number: element n is step n, whoever asks and whatever was read before.

    A row that cannot be read makes its step a ConfigError that names it: returned, because an error that a worker
    process raises reaches the parent only as a printed traceback.

    Args:
        schedule: says which rows make a step.
        pairs: rows of each source.
        prepare_query, prepare_positive: from a pair to a model input (they run here, in the worker).
        pack: from inputs to a batch.
    """

    def __init__(
        self,
        schedule: Schedule,
        pairs: Mapping[str, Sequence[Pair]],
        prepare_query: Callable[[Pair], Input],
        prepare_positive: Callable[[Pair], Input],
        pack: Callable[[Sequence[Input]], Batch],
    ) -> None:
        self.schedule = schedule
        self.pairs = pairs
        self.prepare_query = prepare_query
        self.prepare_positive = prepare_positive
        self.pack = pack

    def __getitem__(self, step: int) -> PairBatch[Batch] | ConfigError:
        try:
            return self._batch(step)
        except ConfigError as error:
            return error

    def _batch(self, step: int) -> PairBatch[Batch]:
        sources, rows = self.schedule.rows(step)
        names = tuple(self.schedule.sources[source] for source in sources)
        pairs = [self.pairs[name][row] for name, row in zip(names, rows, strict=True)]
        queries, query_order = self._packed(pairs, self.prepare_query)
        positives, positive_order = self._packed(pairs, self.prepare_positive)
        return PairBatch(queries, positives, query_order, positive_order, same_label(pairs), names)

    def _packed(self, pairs: Sequence[Pair], prepare: Callable[[Pair], Input]) -> tuple[Batch, Tensor]:
        inputs = []
        for pair in pairs:
            try:
                inputs.append(prepare(pair))
            except VLM2VecError as error:
                raise ConfigError(f"{pair.origin}: {error}") from error
        by_length = np.argsort([one.length for one in inputs], kind="stable")
        return self.pack([inputs[i] for i in by_length]), torch.from_numpy(np.argsort(by_length))


def same_label(pairs: Sequence[Pair]) -> Tensor:
    """bool [B, B]: rows i and j are different but share a label or have the same positive text."""
    keys = [_key(pair) for pair in pairs]
    ids = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    numbers = torch.tensor([ids[key] for key in keys])
    same = numbers[:, None] == numbers[None, :]
    return same.fill_diagonal_(False)


def _key(pair: Pair) -> tuple[str, object]:
    if pair.label is not None:
        return "label", pair.label
    return ("text", pair.positive.text) if not pair.positive.media else ("row", pair.origin)
