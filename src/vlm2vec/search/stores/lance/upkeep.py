"""When are the many small files of a table merged, and its indexes made?"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from vlm2vec.search.store import Building
from vlm2vec.search.stores.lance.full_text import TermIndex
from vlm2vec.search.stores.lance.nearest import COLUMNS, PARTITIONS, Of
from vlm2vec.search.stores.lance.seal import Seal

if TYPE_CHECKING:
    from lancedb.table import Table

LINKS, BUILD_WIDTH = 20, 150
"""Of an approximate index: neighbours a vector is linked with, and how many are looked at to choose them."""

# A query reads every fragment, and each commit makes one: this many cost nothing measurable.
_MAX_FRAGMENTS = 24
# Each keeps the rows that were replaced in it, and a commit takes longer the more there are.
_MAX_VERSIONS = 64
# A reader that has just opened the table may still need the files of its version, and so many commits later where they
# come fast.
_KEPT_VERSIONS = 16
_MOST_UNINDEXED = 1 / 8


@dataclass(frozen=True, slots=True)
class Upkeep:
    """Of a table whose files have checksums.

    Args:
        exact_up_to: so many vectors need no approximate index.
        keep_old: versions of the table that are younger stay for their readers.
    """

    table: Table
    seal: Seal
    exact_up_to: int
    keep_old: timedelta

    def is_due(self) -> bool:
        """Whether there is something to do."""
        return self._is_scattered() or self._lacks_full_text() or any(map(self._is_index_off, COLUMNS))

    def do(self, building: Building) -> None:
        """Merge small files, take rows into the full text, and make approximate indexes where they are needed."""
        if self._lacks_full_text():
            TermIndex(self.table).make()
        if self._is_scattered():
            self.seal.write(int(self.table.version), settled=False)
            self.table.optimize(cleanup_older_than=self._age_to_keep())
        for of, column in COLUMNS.items():
            if not self._is_index_off(of):
                continue
            num_vectors = self._num_vectors(of)
            if num_vectors <= self.exact_up_to:
                self.table.drop_index(column.index_name)
            else:
                with building(num_vectors):
                    self._make_index(of)

    def num_indexed(self, of: Of) -> int:
        """Rows in the approximate index of vectors of one sort; 0 if there is none."""
        known = self.table.index_stats(COLUMNS[of].index_name)
        return 0 if known is None else int(known.num_indexed_rows)

    def _is_scattered(self) -> bool:
        # Merging rewrites all rows: too much for the one commit of one changed file, cheap against many of them.
        many = self.table.stats()["fragment_stats"]["num_fragments"] > _MAX_FRAGMENTS
        # Replacing the same rows again and again leaves few fragments and many versions.
        return many or len(self._version_times_s()) > _MAX_VERSIONS or TermIndex(self.table).is_off(_MOST_UNINDEXED)

    def _lacks_full_text(self) -> bool:
        """Whether a writer that made all rows anew was stopped before its end."""
        return "word_terms" in self.table.schema.names and not TermIndex(self.table).is_whole

    def _is_index_off(self, of: Of) -> bool:
        """Whether there is an approximate index that is not needed, or too much is not in one that is."""
        num_indexed = self.num_indexed(of)
        if self._num_vectors(of) <= self.exact_up_to:
            return bool(num_indexed)
        # Rows without a vector count as indexed.
        num_rows = int(self.table.count_rows())
        return num_rows - num_indexed > _MOST_UNINDEXED * num_rows

    def _num_vectors(self, of: Of) -> int:
        if of == "look":
            return int(self.table.count_rows("vector IS NOT NULL"))
        if "num_passages" not in self.table.schema.names:
            return 0
        nums = self.table.search().select(["num_passages"]).limit(None).to_arrow().column("num_passages")
        return int(np.sum(nums.to_numpy(), dtype=np.int64))

    def _make_index(self, of: Of) -> None:
        from lancedb.index import HnswSq

        column = COLUMNS[of]
        config = HnswSq(
            distance_type="dot" if of == "look" else "cosine",
            num_partitions=PARTITIONS, m=LINKS, ef_construction=BUILD_WIDTH,
        )  # fmt: skip
        self.table.create_index(column.name, config=config, name=column.index_name, replace=True)

    def _age_to_keep(self) -> timedelta:
        """How old a version is that must go."""
        times_s = self._version_times_s()
        if len(times_s) <= _MAX_VERSIONS:
            return self.keep_old
        return min(self.keep_old, timedelta(seconds=max(0.0, time.time() - times_s[-_KEPT_VERSIONS])))

    def _version_times_s(self) -> list[float]:
        """When the versions were written, oldest first. Lance would read each of their files."""
        with os.scandir(self.seal.folder / "_versions") as versions:
            return sorted(entry.stat().st_mtime for entry in versions)
