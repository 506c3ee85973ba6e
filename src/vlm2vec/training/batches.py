"""Which rows does a run read, and how do they become packed batches, read ahead by worker processes?"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.utils.data import DataLoader

from vlm2vec.data.collate import PairBatch, PairSteps, Rows
from vlm2vec.data.mixture import Mixture
from vlm2vec.data.records import Pair
from vlm2vec.errors import ConfigError, InputError, VLM2VecError
from vlm2vec.fetching.annotations import fetch_table
from vlm2vec.items import Item
from vlm2vec.model.backbone import Ask, Prepared, plan_packs
from vlm2vec.model.families.trainable import Processor, TrainingPack
from vlm2vec.training.config import TrainConfig
from vlm2vec.training.trainee import Trainee
from vlm2vec.vectors.keys import uninstructed_key, written_key

if TYPE_CHECKING:
    from vlm2vec.training.teachers import TeacherVectors

_SAMPLE = 24
"""Rows of a source whose tokens are counted to estimate the others'."""


class _PlanRow(NamedTuple):
    """The part of a source that a run reads.

    Args:
        share: of all pairs.
        pairs: drawn over the whole run.
        epochs: how often each row comes.
        tokens: of all its pairs, from the mean of a sample; None if no row of the sample can be read.
    """

    name: str
    rows: int
    share: float
    pairs: int
    epochs: float
    tokens: int | None


def open_rows(config: TrainConfig) -> dict[str, Rows]:
    """The rows of every source.

    Raises:
        ConfigError: one cannot be opened.
    """
    fetch = partial(fetch_table, root=config.data_root)
    return {name: source.open(name, config.data_root, fetch=fetch) for name, source in config.data.items()}


class RunRows:
    """The sources of a run and the order of their rows.

    Attributes:
        rows, sizes: of each source, and their number.
        schedule: the rows of every step.
        counts: pairs of each source over the whole run.

    Raises:
        ConfigError: a source cannot be opened, or the mixture does not fit the sources.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.rows = open_rows(config)
        self.sizes = {name: len(source) for name, source in self.rows.items()}
        mixture = Mixture(
            sizes=self.sizes,
            weights={name: source.weight for name, source in config.data.items()},
            batch_size=config.batch_size,
            sub_batch=config.sub_batch,
            seed=config.seed,
            draw=config.draw,
            stage_starts=config.stage_starts,
        )
        self.schedule = mixture.schedule(config.steps)
        self.counts = self.schedule.counts()

    def batches(
        self,
        first_step: int,
        processor: Processor,
        teachers: Sequence[TeacherVectors],
        *,
        rank: int,
        world: int,
    ) -> Iterator[PairBatch[TrainingPack]]:
        """The batches of this process from a step to the last.

        Raises:
            VLM2VecError: no row of a source can be read.
        """
        config, workers = self.config, self.config.loader_workers
        inputs = _RowInputs(config, processor)
        dataset: PairSteps[Prepared, TrainingPack] = PairSteps(
            self.schedule,
            self.rows,
            inputs.query,
            inputs.document,
            partial(plan_packs, budget=config.token_budget or 2**62),
            processor.pack,
            # Files are read for their content only where the loss compares contents.
            key=uninstructed_key if teachers or config.loss.mask_same_content else written_key,
            teachers=teachers,
            rank=rank,
            world=world,
        )
        if workers:
            _allow_open_files()
        loader: DataLoader[PairBatch[TrainingPack] | VLM2VecError] = DataLoader(
            dataset,
            sampler=range(first_step, config.steps),
            batch_size=None,
            num_workers=workers,
            # A prepared batch of pages may take a gigabyte.
            prefetch_factor=max(1, 4 // workers) if workers else None,
            worker_init_fn=_one_thread,
        )
        for batch in loader:
            if isinstance(batch, VLM2VecError):
                raise batch
            yield batch

    def plan(self) -> list[_PlanRow]:
        """The part of each source that the run reads, in the order of the configuration; no model is loaded."""
        inputs = _RowInputs(self.config, Trainee.build_processor(self.config))
        total = sum(self.counts.values())
        plan = []
        for name, count in self.counts.items():
            size = self.sizes[name]
            per_pair = _tokens_per_pair(name, self.rows[name], inputs)
            tokens = None if per_pair is None else round(per_pair * count)
            plan.append(_PlanRow(name, size, count / total, count, count / size, tokens))
        return plan


class _RowInputs:
    """The model inputs of a run's rows, each source within its own limit of pixels.

    Raises:
        ConfigError: a limit is below one token or below `min_pixels`, or the model takes none; the message names the
            source.
    """

    def __init__(self, config: TrainConfig, processor: Processor) -> None:
        self._processors: dict[str, Processor] = {}
        for name, source in config.data.items():
            try:
                self._processors[name] = processor.within(source.max_pixels)
            except InputError as error:
                raise ConfigError(f"source {name!r}: {error}") from None

    def query(self, source: str, pair: Pair) -> Prepared:
        return self._processors[source].prepare(pair.query, Ask("query", pair.target))

    def document(self, source: str, document: Item) -> Prepared:
        return self._processors[source].prepare(document, Ask("document"))


def _tokens_per_pair(name: str, rows: Rows, inputs: _RowInputs) -> float | None:
    lengths = []
    sample = min(_SAMPLE, len(rows))
    for number in range(sample):
        # The run counts and replaces rows that cannot be read; a plan only estimates.
        with suppress(VLM2VecError):
            pair = rows[number * len(rows) // sample]
            documents = [inputs.document(name, item) for item in (pair.positive, *pair.negatives)]
            lengths.append(inputs.query(name, pair).cost + sum(one.cost for one in documents))
    return sum(lengths) / len(lengths) if lengths else None


def _one_thread(worker: int) -> None:
    # Two processes with several threads each on few cores take turns at slowing each other down.
    torch.set_num_threads(1)


def _allow_open_files() -> None:
    """Let this process hold as many files open as the system allows: each tensor from a worker is one until it is used.

    Four batches of some hundred packs pass the usual 1,024, and the loader would wait without end for a worker that
    cannot send.
    """
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
