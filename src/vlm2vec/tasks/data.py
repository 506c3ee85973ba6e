"""What is a benchmark task, and what does it become when it is read?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from vlm2vec.data.tables import TableName
from vlm2vec.items import Item

if TYPE_CHECKING:
    from vlm2vec.tasks.reading import TaskReader

Modality: TypeAlias = Literal["image", "video", "visdoc"]


class TaskParser(ABC):
    """A known form of annotations: a class that reads it, with the options of a task as fields."""

    min_frames: ClassVar[int] = 1
    """A video of fewer frames is missing."""

    def tables(self, own: TableName) -> list[TableName]:
        """The annotations that `parse` opens, by the task's own."""
        return [own]

    @abstractmethod
    def parse(self, reader: TaskReader) -> TaskData:
        """Read a task.

        Raises:
            DataError: a row is malformed; MediaError: a picture or frames are missing.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """One row of a benchmark's table.

    Args:
        name: as in published scores.
        benchmark: the table that it is in.
        modality: which of the three averages it counts for.
        group: which of the finer averages, such as "I-CLS".
        source: where its annotations are.
        media_dir: folder under the data root that paths in the annotations are relative to.
        pool: "local" ranks the row's own candidates, "global" all candidates of the task.
        metric: the score that counts, such as "hit@1".
        instruction: of the query; "" where each row brings its own.
        max_rows: only the first so many rows belong to the task.
        control: it shows what a model must not be able to do, and counts for no average.
    """

    name: str
    benchmark: str
    modality: Modality
    group: str
    parser: TaskParser
    source: TableName
    media_dir: str = ""
    pool: Literal["global", "local"]
    metric: str
    instruction: str = ""
    max_rows: int | None = None
    control: bool = False


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
