"""Is all of an index as it was written?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

from vlm2vec.items import Target
from vlm2vec.search.explaining import explained
from vlm2vec.search.index import Index
from vlm2vec.search.info import DECODING, read_info
from vlm2vec.search.rows import Row
from vlm2vec.search.seal import check
from vlm2vec.search.table import TABLE_FOLDER

# Vectors are stored with length 1, and were perhaps made in half precision.
_MOST_OFF = 0.01


class Verdict(NamedTuple):
    """What a look through all of an index has found.

    Args:
        model: that made the index.
        num_files, num_rows: indexed files, and their pictures, pages and spans.
        num_sealed: files of the table whose checksums hold; None: it has no checksums, because it was made before there
            were any and has not been updated since.
        problems: one sentence each; with some of them, the numbers may be 0.
    """

    model: str
    num_files: int
    num_rows: int
    num_sealed: int | None
    problems: list[str]


def verify(place: Path) -> Verdict:
    """Read the whole index at `place` and compare it with its checksums.

    Raises:
        IndexFolderError: there is none, or it cannot even be opened.
    """
    info = read_info(place)
    with explained(place, "read"):
        report = check(place / TABLE_FOLDER, expected=info.decoding >= DECODING, wholly=True)
    if report is not None and report.problems:
        return Verdict(info.model, 0, 0, report.num_files - len(report.problems), report.problems)
    table = Index.open(path=place).table
    stored = table.files()
    num_rows: Counter[str] = Counter()
    problems: list[str] = []
    for rows in table.all_rows():
        num_rows.update(row.path for row in rows)
        problems += _problems_of(rows)
    problems += [
        f"{path} has {num_rows[path]} rows for {file.num_units} parts"
        for path, file in stored.items()
        if num_rows[path] > file.num_units
    ]
    num_sealed = None if report is None else report.num_files
    return Verdict(info.model, len(stored), num_rows.total(), num_sealed, problems)


def _problems_of(rows: list[Row]) -> Iterator[str]:
    lengths = np.linalg.norm(np.stack([row.vector for row in rows]), axis=1) if rows else ()
    for row, length in zip(rows, lengths, strict=True):
        if not abs(length - 1) < _MOST_OFF:
            yield f"a vector of {row.path} has the length {length:.3g}, not 1"
        if row.kind not in get_args(Target):
            yield f"{row.path} is of the unknown kind {row.kind!r}"
