"""What do the rows of a table say of files and units?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vlm2vec.search.store import WORDS, FileRows, StoredFile, Unit, Words
from vlm2vec.search.stores.lance.rows import (
    LOOK,
    PATHS_PER_STATEMENT,
    UNIT,
    parse_files,
    parse_stored,
    path_filters,
    unescape,
    unit_of,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.table import Table

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Reading:
    """The rows of a table of vectors of this size, in the version that it has at the moment."""

    table: Table
    dim: int

    @property
    def has_words(self) -> bool:
        """Whether the table has the columns of this release; False: those of an earlier one."""
        return "number" in self.table.schema.names

    def files(self) -> dict[str, StoredFile]:
        """What is known of all files."""
        return parse_stored(self._columns("path", "content_hash", "num_units", *LOOK))

    def some(self, paths: Sequence[str]) -> list[FileRows]:
        """Some files, in this order; those that are not stored are left out."""
        files: dict[str, FileRows] = {}
        for where in path_filters(paths):
            files |= parse_files(self.table.search().where(where).limit(None).to_arrow(), self.dim)
        return [files[path] for path in paths if path in files]

    def all(self) -> Iterator[list[FileRows]]:
        """All files with their vectors and words, some thousand rows at a time."""
        import pyarrow as pa

        stored = self.files()
        begun: dict[str, FileRows] = {}
        for batch in self.table.search().limit(None).to_batches(_ROWS_AT_ONCE):
            whole = []
            for path, file in parse_files(pa.Table.from_batches([batch]), self.dim).items():
                if path in begun:
                    file = replace(file, units=begun.pop(path).units + file.units)
                if len(file.units) < stored[path].num_stored:
                    begun[path] = file
                else:
                    whole.append(file)
            yield whole

    def lacking_words(self) -> list[str]:
        """Paths of the files whose words were not read as this release does, in order."""
        rows = self._columns("path", "reading")
        if self.has_words:
            rows = rows.filter(np.less(rows.column("reading").to_numpy(), WORDS))
        return sorted(set(map(unescape, rows.column("path").to_pylist())))

    def first_free(self) -> int:
        """The smallest number above those of all units."""
        numbers = self._columns("number").column("number").to_numpy()
        return int(numbers.max()) + 1 if len(numbers) else 1

    def twice_numbered(self) -> list[int]:
        """Numbers that several units have, of which there should be none."""
        if not self.has_words:
            return []
        numbers, counts = np.unique(self._columns("number").column("number").to_numpy(), return_counts=True)
        twice: list[int] = numbers[counts > 1].tolist()
        return twice

    def units(self, numbers: Sequence[int]) -> dict[int, Unit]:
        """Units by their numbers."""
        return {row["number"]: unit_of(row) for row in self._rows_of(numbers, ["number", *UNIT])}

    def words(self, numbers: Set[int]) -> dict[int, Words]:
        """Words of units by their numbers."""
        rows = self._rows_of(sorted(numbers), ["number", "text", "about"])
        return {row["number"]: Words(row["text"], row["about"]) for row in rows}

    def ranks(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """[N], places of the files of units in the order of their paths."""
        rows = self._columns("number", "path")
        numbers = rows.column("number").to_numpy()
        order = np.argsort(numbers)
        places = order[np.searchsorted(numbers[order], units)]
        paths = list(map(unescape, rows.column("path").take(places).to_pylist()))
        ranks = {path: rank for rank, path in enumerate(sorted(set(paths)))}
        return np.array([ranks[path] for path in paths], np.int64)

    def _columns(self, *names: str) -> pa.Table:
        """Those of these columns that the table has, of all rows."""
        there = [name for name in names if name in self.table.schema.names]
        return self.table.search().select(there).limit(None).to_arrow()

    def _rows_of(self, numbers: Sequence[int], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Rows of units, in no order."""
        for start in range(0, len(numbers), PATHS_PER_STATEMENT):
            some = ", ".join(map(str, numbers[start : start + PATHS_PER_STATEMENT]))
            search = self.table.search().where(f"number IN ({some})")
            yield from search.select(list(columns)).limit(None).to_arrow().to_pylist()
