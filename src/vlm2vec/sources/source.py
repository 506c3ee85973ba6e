"""What does every source of training rows say of itself, and how does it become a sequence of pairs?"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, field_validator, model_validator

from vlm2vec.data.records import Pair, PairRows, Row
from vlm2vec.data.rows import Columns, check_inside
from vlm2vec.data.tables import FetchTable, Table, TableName, open_table
from vlm2vec.errors import DataError, VLM2VecError
from vlm2vec.items import Image

_LOG = logging.getLogger("vlm2vec")

ORIGINS = ("path", "dataset", "annotation_file")
"""Fields that say where rows are; a source has one of them."""

OPTIONS = ("image_dir", "frame_dir", "num_frames", "mode", "query_to_page", "placeholder_first")
"""Fields that some forms have and others have not."""


class SourceFields(BaseModel, ABC):
    """One source of a mixture.

    Args:
        weight: share of the mixture, in any unit; with stages one for each.
        path: own data, as `open_table` takes them.
        dataset, config, split: data as on the hub, from the mirror in data_root. `split` is "train" if left out; with
            `path` it names a split of a saved `DatasetDict`.
        annotation_file: a file in data_root.
        download: get `dataset` from the hub if the mirror does not have it.
        max_rows: take the first so many rows.
        allow_outside: rows may name files outside of the folders that their paths are relative to: by absolute paths,
            by "..", or by links.
        temperature: of the loss for rows of this source; None: the loss's own.
        max_pixels: of a picture or frame of this source, where that is less than what `inputs` allow: large ones only
            where they must be read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float | tuple[float, ...] = 1.0
    path: Path | None = None
    dataset: str | None = None
    config: str | None = None
    split: str | None = None
    annotation_file: Path | None = None
    download: bool = False
    max_rows: PositiveInt | None = None
    allow_outside: bool = False
    temperature: PositiveFloat | None = None
    max_pixels: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_idle(cls, values: object) -> object:
        """Fields at rest say nothing: a run's saved configuration may hold those of all forms."""
        if not isinstance(values, dict):
            return values
        return {field: value for field, value in values.items() if field not in OPTIONS or value not in (None, False)}

    @field_validator("weight")
    @classmethod
    def _some_weight(cls, weight: float | tuple[float, ...]) -> float | tuple[float, ...]:
        stages = weight if isinstance(weight, tuple) else (weight,)
        if not all(0 <= one < math.inf for one in stages) or not any(stages):
            raise ValueError("a weight must be above 0, and of the weights of stages at least one")
        return weight

    @model_validator(mode="after")
    def _has_one_origin(self) -> SourceFields:
        given = [field for field in ORIGINS if getattr(self, field) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of path, dataset and annotation_file, not {' and '.join(given) or 'none'}")
        if self.dataset is None and (self.config is not None or self.download):
            raise ValueError("'config' and 'download' belong to 'dataset', which is not given")
        if self.annotation_file is not None and self.split is not None:
            raise ValueError("'split' does not belong to 'annotation_file', which is one file")
        return self

    def open(self, name: str, root: Path | None, *, fetch: FetchTable | None = None) -> Sequence[Pair]:
        """Open the rows; of a form that has rows which are no pairs, those are looked for at once.

        Paths must be absolute, as `read_sources` makes them.

        Args:
            name: of the source, for messages.
            root: data_root, where the mirror lies.
            fetch: opens a table that the mirror lacks, if `download` is set.

        Returns:
            Pairs, each read when it is asked for; a row that cannot be read is a DataError then.

        Raises:
            DataError: the data are missing or empty, or of another form.
            ConfigError: an option has no effect for rows of this form.
        """
        try:
            table, folder = self._table(root, fetch)
            if not len(table):
                raise DataError("the data hold no row")
            form = self.form(table)
            return PairRows(table, partial(form.parse, folder=folder), form.pairs_in(table, name))
        except VLM2VecError as error:
            raise error.of(f"source {name!r}") from None

    @abstractmethod
    def form(self, table: Table) -> RowSource:
        """The source as of the form that its rows have."""

    def _table(self, root: Path | None, fetch: FetchTable | None) -> tuple[Table, Path]:
        """The table, and the folder that paths in it are relative to."""
        if self.dataset is not None:
            table = TableName(self.dataset, self.config, self.split or "train")
            remedy = "put it there (docs/data.md says how) or set download: true to ask the hub"
            return table.open(root, fetch=fetch if self.download else None, remedy=remedy), root or Path()
        path = self.path or self.annotation_file or Path()
        return open_table(path, self.split), path if path.is_dir() else path.parent


class RowSource(SourceFields):
    """A source of a known form."""

    columns: ClassVar[tuple[str, ...]]
    """A row must have them."""

    selects: ClassVar[bool] = False
    """Some rows are no pairs: those that `keeps` refuses."""

    def keeps(self, row: Row) -> bool:
        """Whether a row is a pair at all, by `columns` alone."""
        return True

    @abstractmethod
    def parse(self, row: Columns, name: str, *, folder: Path) -> Pair:
        """Make a pair of a row.

        Args:
            name: of the row.
            folder: where the data lie.

        Raises:
            DataError, InputError: the row is malformed, or names a file that it may not name.
            MediaError: a video has no frames.
        """

    def form(self, table: Table) -> RowSource:
        return self

    def pairs_in(self, table: Table, name: str) -> range | NDArray[np.int64]:
        """Numbers of the rows that are pairs.

        Args:
            name: of the source, for messages.

        Raises:
            DataError: a column is missing, or no row is a pair.
        """
        missing = [column for column in self.columns if table.columns is not None and column not in table.columns]
        if missing:
            raise DataError(f"the rows have no column {missing[0]!r}, only {', '.join(table.columns or ())}")
        count = min(len(table), self.max_rows or len(table))
        if not self.selects:
            return range(count)
        rows = islice(table.scan(self.columns), count)
        # A row that cannot be judged is kept, to be told when it is read.
        kept = np.flatnonzero([not row or not set(row) >= set(self.columns) or self.keeps(row) for row in rows])
        if not len(kept):
            raise DataError(f"none of {count} rows has a text or a picture on both sides")
        if left_out := count - len(kept):
            _LOG.warning(
                "source %r: %s of %s rows have nothing on one side and are left out, as published",
                name,
                f"{left_out:,}",
                f"{count:,}",
            )
        return kept

    def place(self, folder: Path) -> Path:
        """The folder that paths in rows are relative to."""
        return folder

    def check(self, path: Path, folder: Path) -> Path:
        """The same path, unless a row may not name it."""
        if not self.allow_outside:
            folders = dict.fromkeys((folder, self.place(folder)))
            check_inside(path, folders, remedy="set allow_outside: true for the source")
        return path

    def picture(self, row: Columns, column: str, folder: Path, *, as_stored: bool) -> Image:
        """The picture in a column."""
        stored = row.picture(column)
        source = stored if isinstance(stored, bytes) else self.check(self.place(folder) / stored, folder)
        return Image(source, as_stored=as_stored)
