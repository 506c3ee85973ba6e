"""Which units have the words of a question, by the full-text indexes of SQLite?

Of FTS5, BM25 and the positions of words are used; nothing that a person types is its query language. Three indexes hold
the words of units, the words of names, and the letters of names. They have no checksums of their own, so that all of
their rows have one together (`checksum`).
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from vlm2vec.search.store import Wanted
from vlm2vec.search.stores.candidates import SHORTEST_PART, Candidates, TermFinds, terms_of
from vlm2vec.search.stores.spelling import plain_name, quoted, spelled
from vlm2vec.search.stores.sqlite.database import INDEXES, Database, Index
from vlm2vec.search.stores.sqlite.rows import FileRow, NameRow, Values

# Title, headings and keywords say more than one word of a page; a file's own name more than its folders'.
_SCORES: dict[Index, str] = {
    "text_index": "bm25(text_index, 1.0, 2.0)",
    "name_index": "bm25(name_index, 3.0, 1.0)",
    # A word of which a name has only a part is found, and ranks behind all whole ones.
    "part_index": "0.0",
}
# FTS5 gives a word that more than half of all rows have next to no weight, and needs 0.15 s to tell so of 100,000.
_COMMON = 5000
_OF_UNITS = "SELECT rowid, rowid, {score} FROM {index}"
_OF_FILES = "SELECT first_unit, first_unit + num_units, {score} FROM {index} CROSS JOIN names ON id = {index}.rowid"


class FullText:
    """The full-text indexes of a database. Their rows come and go in the transactions of their caller."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, file: FileRow, name: NameRow, words: Sequence[Values]) -> None:
        """Take in the words of a file's units and of its name."""
        put = self._database.put
        put("INSERT INTO text_index (rowid, text, about) VALUES (?, ?, ?)", map(_spelled_words, words))
        put("INSERT INTO name_index (rowid, name, folders) VALUES (?, ?, ?)", [_spelled_names(name)])
        put("INSERT INTO part_index (rowid, name) VALUES (?, ?)", [_plain_name(file)])

    def remove(self, file: FileRow, name: NameRow, words: Sequence[Values]) -> None:
        """Let go what was taken in by the same values."""
        put = self._database.put
        put(
            "INSERT INTO text_index (text_index, rowid, text, about) VALUES ('delete', ?, ?, ?)",
            map(_spelled_words, words),
        )
        put(
            "INSERT INTO name_index (name_index, rowid, name, folders) VALUES ('delete', ?, ?, ?)",
            [_spelled_names(name)],
        )
        put("INSERT INTO part_index (part_index, rowid, name) VALUES ('delete', ?, ?)", [_plain_name(file)])

    def checksum(self) -> int:
        """Of all rows of the indexes, and of which units have which name; 100,000 units take 0.1 s.

        Rows that this transaction has written are among them.
        """
        # FTS5 keeps new rows to itself until they may have to be undone apart from others.
        self._database.execute("SAVEPOINT flush")
        self._database.execute("RELEASE flush")
        checksum = 0
        for index in INDEXES:
            for number, block in self._database.execute(f"SELECT id, block FROM {index}_data ORDER BY id"):
                checksum = crc32(block, crc32(b"%d" % number, checksum))
            rows = self._database.execute(f"SELECT segid, term, pgno FROM {index}_idx ORDER BY segid, term").fetchall()
            rows += self._database.execute(f"SELECT k, v FROM {index}_config ORDER BY k").fetchall()
            if index != "part_index":
                # One by one they would take four times as long.
                rows += self._joined(f"SELECT id || ' ' || hex(sz) AS row FROM {index}_docsize ORDER BY id")
            checksum = crc32(ascii(rows).encode(), checksum)
        names = self._joined("SELECT id || ' ' || first_unit || ' ' || num_units AS row FROM names ORDER BY id")
        return crc32(ascii(names).encode(), checksum)

    def _joined(self, select: str) -> list[Values]:
        return self._database.execute(f"SELECT group_concat(row, ' ') FROM ({select})").fetchall()

    def candidates(self, wanted: Wanted, num_words: int, num_names: int, *, names_only: bool = False) -> Candidates:
        """All units that have a word or phrase and none of those that they must not have.

        Args:
            num_words, num_names: how many rows the indexes have.
            names_only: look for words and phrases in names alone.
        """
        nums: dict[Index, int] = {"text_index": num_words, "name_index": num_names, "part_index": num_names}
        finds = [self._find(term, nums) for term in terms_of((*wanted.words, *wanted.phrases))]
        if names_only:
            finds = [found.in_names() for found in finds]
        without = [self._find(term, nums, parts=False) for term in terms_of(wanted.without)]
        return Candidates.of(finds, without)

    def _find(self, term: str, nums: dict[Index, int], *, parts: bool = True) -> TermFinds:
        words = self._rows("text_index", term, nums, _OF_UNITS)
        names = self._rows("name_index", term, nums, _OF_FILES)
        part = plain_name(term.strip())
        if parts and len(part) >= SHORTEST_PART:
            more = self._rows("part_index", part, nums, _OF_FILES)
            names = np.concatenate([names, more[~np.isin(more[:, 0], names[:, 0])]])
            names = names[np.argsort(names[:, 0])]
        firsts, ends = names[:, 0].astype(np.int64), names[:, 1].astype(np.int64)
        return TermFinds(words[:, 0].astype(np.int64), words[:, 2], firsts, ends, names[:, 2])

    def _rows(self, index: Index, term: str, nums: dict[Index, int], select: str) -> NDArray[np.float64]:
        """Two numbers and the BM25 of each row in which a term stands, in the order of rows."""
        clause, values = f"WHERE {index} MATCH ?", (quoted(term),)
        ((num,),) = self._database.execute(f"SELECT count(*) FROM {index} {clause}", values)
        is_common = num > max(_COMMON, nums[index] // 2)
        score = "0.0" if is_common else _SCORES[index]
        rows = self._database.execute(f"{select.format(index=index, score=score)} {clause}", values).fetchall()
        # FTS5's is smaller for better.
        return np.array(rows, np.float64).reshape(-1, 3) * [1, 1, -1]


def _spelled_words(row: Values) -> Values:
    number, text, about, _ = row
    return number, spelled(text), spelled(about)


def _spelled_names(name: NameRow) -> Values:
    return name.id, spelled(name.name), spelled(name.folders)


def _plain_name(file: FileRow) -> Values:
    return file.id, plain_name(file.path.rpartition("/")[2])
