"""Which rows will a run read? Share, epochs and tokens of each source, before any model is loaded."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from vlm2vec.data.collate import Rows
from vlm2vec.data.mixture import Mixture, Schedule
from vlm2vec.data.records import Pair
from vlm2vec.errors import ConfigError, InputError, VLM2VecError
from vlm2vec.fetching.annotations import fetch_table
from vlm2vec.items import Item
from vlm2vec.model.backbone import Ask
from vlm2vec.model.families.qwen_inputs import QwenVLInput, QwenVLProcessor
from vlm2vec.training.config import TrainConfig
from vlm2vec.training.trainee import build_training_processor

_SAMPLE = 24
"""Rows of a source whose tokens are counted to estimate the others'."""


class _PlanRow(NamedTuple):
    """The part of a source that a run reads.

    Args:
        name: of the source.
        rows: that it has.
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


def build_schedule(config: TrainConfig, rows: dict[str, Rows]) -> Schedule:
    """The rows of every step."""
    mixture = Mixture(
        sizes={name: len(source) for name, source in rows.items()},
        weights={name: source.weight for name, source in config.data.items()},
        batch_size=config.batch_size,
        sub_batch=config.sub_batch,
        seed=config.seed,
        draw=config.draw,
        stage_starts=config.stage_starts,
    )
    return mixture.schedule(config.steps)


def plan_run(config: TrainConfig) -> list[_PlanRow]:
    """The part of each source that the run reads, in the order of the configuration."""
    rows = open_rows(config)
    counts = build_schedule(config, rows).counts()
    inputs = RowInputs(config, build_training_processor(config))
    total = sum(counts.values())
    plan = []
    for name, count in counts.items():
        size = len(rows[name])
        per_pair = _tokens_per_pair(name, rows[name], inputs)
        tokens = None if per_pair is None else round(per_pair * count)
        plan.append(_PlanRow(name, size, count / total, count, count / size, tokens))
    return plan


class RowInputs:
    """The model inputs of a run's rows, each source within its own limit of pixels.

    Raises:
        ConfigError: a limit is below one token or below `min_pixels`; the message names the source.
    """

    def __init__(self, config: TrainConfig, processor: QwenVLProcessor) -> None:
        self._processors: dict[str, QwenVLProcessor] = {}
        for name, source in config.data.items():
            limit = min(source.max_pixels or processor.max_pixels, processor.max_pixels)
            try:
                self._processors[name] = replace(processor, max_pixels=limit)
            except InputError as error:
                raise ConfigError(f"source {name!r}: {error}") from None

    def query(self, source: str, pair: Pair) -> QwenVLInput:
        """The input of the query of a source's pair."""
        return self._processors[source].prepare(pair.query, Ask("query", pair.target))

    def document(self, source: str, document: Item) -> QwenVLInput:
        """The input of a positive or a hard negative of a source."""
        return self._processors[source].prepare(document, Ask("document"))


def _tokens_per_pair(name: str, rows: Rows, inputs: RowInputs) -> float | None:
    lengths = []
    for number in range(min(_SAMPLE, len(rows))):
        # The run counts and replaces rows that cannot be read; a plan only estimates.
        with suppress(VLM2VecError):
            pair = rows[number * len(rows) // min(_SAMPLE, len(rows))]
            documents = [inputs.document(name, item) for item in (pair.positive, *pair.negatives)]
            lengths.append(inputs.query(name, pair).cost + sum(one.cost for one in documents))
    return sum(lengths) / len(lengths) if lengths else None
