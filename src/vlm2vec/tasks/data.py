"""What is a benchmark task, and what does it become when it is read?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from vlm2vec.items import Item

Modality: TypeAlias = Literal["image", "video", "visdoc"]
PoolKind: TypeAlias = Literal["global", "local"]


class TaskSource(NamedTuple):
    """Annotations by the names that the hub gives them; `config` None is the default configuration."""

    dataset: str
    config: str | None
    split: str


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One row of a benchmark's table.

    Args:
        name: as in published scores.
        benchmark: the table that it is in.
        modality: which of the three averages it counts for.
        group: which of the finer averages, such as "I-CLS".
        parser: name of the function that reads it.
        source: where its annotations are.
        media_dir: folder under the data root that paths in the annotations are relative to.
        pool: "local" ranks the row's own candidates, "global" all candidates of the task.
        metric: the score that counts, such as "hit@1".
        instruction: of the query; None where each row brings its own.
        max_rows: only the first so many rows belong to the task.
        control: it shows what a model must not be able to do, and counts for no average.
        options: an object of the parser's own options class.
    """

    name: str
    benchmark: str
    modality: Modality
    group: str
    parser: str
    source: TaskSource
    media_dir: str
    pool: PoolKind
    metric: str
    instruction: str | None
    max_rows: int | None
    control: bool
    options: object


@dataclass(frozen=True, slots=True)
class DataWarning:
    """An oddity that is no error: how often a task has it, in which column, if it is of one, and where first."""

    task: str
    problem: str
    column: str
    row: str
    count: int

    def __str__(self) -> str:
        column = f"column {self.column!r}, " if self.column else ""
        return f"{self.task}: {self.problem} ({column}{self.count} times, first in {self.row})"


@dataclass(frozen=True, slots=True)
class TaskData:
    """A task that was read: what to embed, and what belongs together.

    Args:
        query_ids, queries: parallel. Ids are unique.
        candidate_names, candidates: parallel, each name once, in the published order of encoding. Items may be read
            from disk each time they are asked for, so go through them once.
        relevant: grades above 0 by candidate name, by query id. A name may be missing among the candidates.
        empty: names of candidates in which there is nothing to embed; they rank last.
        pools: names that are ranked for each query, as published: in their order, with those listed twice; None: all
            candidates are ranked for every query.
        warnings: oddities that were read as published, and rows that were left out.
    """

    query_ids: tuple[str, ...]
    queries: tuple[Item, ...]
    candidate_names: tuple[str, ...]
    candidates: Sequence[Item]
    empty: frozenset[str]
    relevant: Mapping[str, Mapping[str, int]]
    pools: tuple[tuple[str, ...], ...] | None
    warnings: tuple[DataWarning, ...]
