"""Which units have the vectors nearest to a query, of those in a table?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vlm2vec.search.store import Background, Near, Vector
from vlm2vec.search.stores.lance.rows import UNIT, unit_of, vectors_of

if TYPE_CHECKING:
    from lancedb.table import Table

Of: TypeAlias = Literal["look", "words"]

PARTITIONS = 4
"""Of an approximate index. All are searched: leaving some out loses more than it saves, and many small graphs take
longer than few large ones. The graph holds vectors in 8 bits; what it finds is ordered by its true scores."""

_SEARCH_WIDTH = 32
# LanceDB asks for ten times as many vectors as units are wanted.
_VECTORS_A_ROW = 10
# More than are wanted, for ties; and so many times more where the order is to be another than LanceDB's.
_SPARE, _TIMES = 16, 8
_ROWS_AT_ONCE = 4096
_EPS = float(np.finfo(np.float32).eps)


class _Column(NamedTuple):
    """Vectors of one sort, and the columns of their smallest and largest spread in a row."""

    name: str
    least_spread: str
    most_spread: str
    index_name: str


COLUMNS: dict[Of, _Column] = {
    "look": _Column("vector", "look_spread", "look_spread", "vector_idx"),
    "words": _Column("passages", "least_spread", "most_spread", "passages_idx"),
}
"""Where vectors stand."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """Searches the vectors of one version of a table.

    A calibrated score is (query - mean question) · vector / spread, by which LanceDB finds candidates as by any other
    query, and no row beyond them can exceed the last one's product divided by the smallest spread.

    Args:
        background: of the index.
        calibrated: whether the largest calibrated scores are wanted.
    """

    table: Table
    dim: int
    of: Of
    background: Background | None
    calibrated: bool

    def find(self, query: Vector, limit: int, clause: str) -> list[Near]:
        """The `limit` nearest units; exact unless the table has an approximate index, and ties are in order.

        Args:
            clause: of a filter in SQL; "": all.
        """
        num_rows = int(self.table.count_rows(clause or None))
        limit = min(limit, num_rows)
        if limit < 1:
            return []
        direction = self._direction(query)
        error = _EPS * self.dim * (1 + float(np.linalg.norm(direction)))
        num = min((limit * _TIMES if self._by_spread else limit) + _SPARE, num_rows)
        is_approximate = self.table.index_stats(COLUMNS[self.of].index_name) is not None
        while True:
            rows = self._ask(direction, num, clause, is_exact=not is_approximate or num == num_rows)
            low, high = rows.bounds(error)
            enough = np.partition(low, -limit)[-limit] if len(low) >= limit else -np.inf
            if len(low) < num or num == num_rows or (is_approximate and self._by_spread):
                break
            if self._most_beyond(rows, error) < enough:
                break
            num = min(num * 4, num_rows)
        near = list(self._scored(rows.ids[high >= enough], query))
        near.sort(key=lambda one: (-(one.calibrated if self.calibrated else one.score), *one.unit.order))
        return near[:limit]

    @property
    def _by_spread(self) -> bool:
        """Whether LanceDB's order is not the one that is wanted."""
        return self.calibrated and self.background is not None

    def _direction(self, query: Vector) -> Vector:
        if not self.calibrated or self.background is None:
            return query
        direction: Vector = query - self.background.vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        return direction

    def _ask(self, direction: Vector, num: int, clause: str, *, is_exact: bool) -> _Rows:
        """The rows with the largest products with a vector."""
        column = COLUMNS[self.of]
        search = self.table.search(direction, vector_column_name=column.name).limit(num).with_row_id(True)
        scale = 1.0
        if is_exact:
            search = search.distance_type("dot").bypass_vector_index()
        elif self.of == "look":
            search = search.distance_type("dot").nprobes(PARTITIONS).ef(max(_SEARCH_WIDTH, num)).refine_factor(1)
        else:
            # LanceDB has indexes of several vectors a row for the cosine alone.
            width = _VECTORS_A_ROW * max(_SEARCH_WIDTH, num)
            search = search.distance_type("cosine").nprobes(PARTITIONS).ef(width).refine_factor(1)
            scale = float(np.linalg.norm(direction))
        if clause:
            search = search.where(clause, prefilter=True)
        spreads = [column.least_spread, column.most_spread] if self._by_spread else []
        rows = search.select(["_distance", *dict.fromkeys(spreads)]).to_arrow()
        # Both distances are 1 less what is looked for.
        products = scale * (1.0 - rows.column("_distance").to_numpy().astype(np.float64))
        least = most = np.ones(len(products))
        if spreads:
            least, most = (rows.column(name).to_numpy().astype(np.float64) for name in spreads)
        return _Rows(rows.column("_rowid").to_numpy(), products, least, most)

    def _most_beyond(self, rows: _Rows, error: float) -> float:
        """As much as the score of any row that is not among these can be at most."""
        import pyarrow.compute as pc

        last = float(rows.products.min()) + error
        if not self._by_spread:
            return last
        column = COLUMNS[self.of].most_spread if last < 0 else COLUMNS[self.of].least_spread
        spreads = self.table.search().select([column]).limit(None).to_arrow().column(column)
        return last / float((pc.max if last < 0 else pc.min)(spreads).as_py())

    def _scored(self, ids: NDArray[np.uint64], query: Vector) -> Iterator[Near]:
        """The units of rows, by their best vectors.

        A score depends on the two vectors alone: in float64, sums of products of float32 do not differ by their order.
        """
        name = COLUMNS[self.of].name
        for start in range(0, len(ids), _ROWS_AT_ONCE):
            some = ids[start : start + _ROWS_AT_ONCE].tolist()
            rows = self.table.take_row_ids(some).select([*UNIT, name]).to_arrow()
            vectors, nums = vectors_of(rows, name, self.dim)
            scores = np.minimum((vectors.astype(np.float64) * query.astype(np.float64)).sum(axis=1), 1.0)
            calibrated = scores
            if self.background is not None:
                mean, spread = self.background.mean_and_spread(vectors)
                calibrated = (scores - mean.astype(np.float64)) / spread.astype(np.float64)
            firsts = (np.cumsum(nums) - nums).tolist()
            wanted = calibrated if self.calibrated else scores
            for row, first, num in zip(rows.select(UNIT).to_pylist(), firsts, nums.tolist(), strict=True):
                best = first + int(np.argmax(wanted[first : first + num]))
                yield Near(unit_of(row), float(scores[best]), float(calibrated[best]))


class _Rows(NamedTuple):
    """Rows that LanceDB has found.

    Args:
        products: the largest with one of the vectors of each row.
        least, most: the smallest and the largest spread of its vectors; 1 where they do not matter.
    """

    ids: NDArray[np.uint64]
    products: NDArray[np.float64]
    least: NDArray[np.float64]
    most: NDArray[np.float64]

    def bounds(self, error: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Between which two numbers the score of each lies, if products are right up to an error."""
        low, high = self.products - error, self.products + error
        return (
            np.where(low < 0, low / self.least, low / self.most),
            np.where(high < 0, high / self.most, high / self.least),
        )
