"""How does a source become a sequence of pairs, each read when it is asked for?"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlm2vec.data.records import Pair, PairRows, Row
from vlm2vec.data.rows import Columns
from vlm2vec.data.tables import FetchTable, Table, TableName, open_table
from vlm2vec.errors import ConfigError, DataError, VLM2VecError
from vlm2vec.sources.forms import FORMS, ColumnSource, OwnSource, PairSource, SourceConfig
from vlm2vec.sources.source import RowSource

_LOG = logging.getLogger("vlm2vec")


def open_source(
    name: str, source: SourceConfig, root: Path | None, *, fetch: FetchTable | None = None
) -> Sequence[Pair]:
    """Open the rows of a source; of a form that has rows which are no pairs, those are looked for at once.

    Args:
        name: for messages.
        source: with absolute paths, as `read_sources` gives them.
        root: data_root, where the mirror lies.
        fetch: opens a table that the mirror lacks, of a source with `download`.

    Returns:
        Pairs, each read when it is asked for; a row that cannot be read is a DataError then.

    Raises:
        DataError: the data are missing or empty, or of another form than the source's.
        ConfigError: an option of the source has no effect for rows of this form.
    """
    try:
        table, folder = _table(source, root, fetch)
        if not len(table):
            raise DataError("the data hold no row")
        form = _own_form(source, table) if isinstance(source, OwnSource) else source
        return PairRows(table, partial(_pair, form=form, folder=folder), _rows(name, table, form))
    except VLM2VecError as error:
        raise error.of(f"source {name!r}") from None


def _pair(row: Row, name: str, form: RowSource, folder: Path) -> Pair:
    return form.parse(Columns(row), name, folder=folder)


def _table(source: SourceConfig, root: Path | None, fetch: FetchTable | None) -> tuple[Table, Path]:
    """The table, and the folder that paths in it are relative to."""
    if source.dataset is not None:
        table = TableName(source.dataset, source.config, source.split or "train")
        remedy = "put it there (docs/data.md says how) or set download: true to ask the hub"
        return table.open(root, fetch=fetch if source.download else None, remedy=remedy), root or Path()
    path = source.path or source.annotation_file or Path()
    return open_table(path, source.split), path if path.is_dir() else path.parent


def _own_form(source: OwnSource, table: Table) -> RowSource:
    """The same source as of the form that its rows say they have."""
    columns = set(table.columns or table[0])
    fields = source.model_dump(exclude_unset=True, exclude={"parser"})
    if columns.issuperset(PairSource.columns):
        if source.image_dir is not None:
            raise ConfigError("'image_dir' has no effect with parser 'pairs', which has no options; leave it out")
        return PairSource.model_validate(fields)
    if columns.issuperset(ColumnSource.columns):
        return ColumnSource.model_validate(fields)
    raise DataError(
        f"the rows hold {', '.join(table.columns or table[0]) or 'nothing'}: they need 'query' and 'positive', or "
        f"'anchor' and 'positive', or a 'parser', one of {', '.join(FORMS)}"
    )


def _rows(name: str, table: Table, form: RowSource) -> range | NDArray[np.int64]:
    """Numbers of the rows that are pairs."""
    missing = [column for column in form.columns if table.columns is not None and column not in table.columns]
    if missing:
        raise DataError(f"the rows have no column {missing[0]!r}, only {', '.join(table.columns or ())}")
    count = min(len(table), form.max_rows or len(table))
    if not form.selects:
        return range(count)
    rows = islice(table.scan(form.columns), count)
    # A row that cannot be judged is kept, to be told when it is read.
    kept = np.flatnonzero([not row or not set(row) >= set(form.columns) or form.keeps(row) for row in rows])
    if not len(kept):
        raise DataError(f"none of {count} rows has a text or a picture on both sides")
    if len(kept) < count:
        _LOG.warning(
            "source %r: %s of %s rows have nothing on one side and are left out, as published",
            name,
            f"{count - len(kept):,}",
            f"{count:,}",
        )
    return kept
