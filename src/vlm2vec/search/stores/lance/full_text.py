"""Which units have the words of a question, by the full-text indexes of LanceDB?

Terms are indexed as the store in one file makes them (`terms`), and LanceDB divides at blanks alone: its own tokenizers
find no parts of Chinese runs, and no C++. Its BM25 counts each column apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlm2vec.search.store import Wanted
from vlm2vec.search.stores.candidates import SHORTEST_PART, Candidates, TermFinds, terms_of
from vlm2vec.search.stores.lance.rows import quoted
from vlm2vec.search.stores.lance.terms import apart, stemmed_terms, unstemmed_terms
from vlm2vec.search.stores.spelling import plain_name

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.query import FullTextQuery
    from lancedb.table import Table

_WORDS, _NAMES = "word_terms", "name_terms"
# Of a term itself, and of the same as one of a description or a folder: title, headings and keywords say more than one
# word of a page; a file's own name more than its folders'.
_WEIGHTS = {_WORDS: (1.0, 2.0), _NAMES: (3.0, 1.0)}
# So many rows that no index has are read anew for every term, which takes 5 ms.
_FEW = 1000
# Beyond so many terms, several are asked for together first, because few of them are anywhere.
_TERMS_AT_ONCE = 8
_PARTS_AT_ONCE = 32
_NO_ROWS: NDArray[np.float64] = np.empty((0, 3))


@dataclass(frozen=True, slots=True)
class TermIndex:
    """The full-text indexes of one version of a table."""

    table: Table

    @property
    def is_whole(self) -> bool:
        """Whether there are indexes of all columns."""
        return {_index_of(column) for column in _WEIGHTS} <= {index.name for index in self.table.list_indices()}

    def is_off(self, most: float) -> bool:
        """Whether more than this share of the rows are in no index yet, and they are not few."""
        stats = self.table.index_stats(_index_of(_WORDS))
        return stats is not None and stats.num_unindexed_rows > max(_FEW, most * self.table.count_rows())

    def make(self) -> None:
        """Make the indexes; 200,000 rows of 60 words take 12 s on one core."""
        from lancedb.index import FTS

        for column in _WEIGHTS:
            config = FTS(
                base_tokenizer="whitespace", lower_case=False, stem=False, remove_stop_words=False,
                ascii_folding=False, max_token_length=None, with_position=True,
            )  # fmt: skip
            self.table.create_index(column, config=config, name=_index_of(column), replace=True)

    def candidates(self, wanted: Wanted, clause: str, *, names_only: bool) -> Candidates:
        """All units that a filter lets through and have a word or phrase, and none of those that they must not have.

        Args:
            clause: of the filter in SQL; "": all.
            names_only: look for words and phrases in names alone.
        """
        words = terms_of((*wanted.words, *wanted.phrases))
        finds = self._finds(words, parts=True, names_only=names_only)
        found = Candidates.of(finds, self._finds(terms_of(wanted.without), parts=False, names_only=False))
        if clause and len(found.units):
            allowed = self.table.search().where(clause).select(["number"]).limit(None).to_arrow()
            found = found.where(np.isin(found.units, allowed.column("number").to_numpy()))
        return found.one_a_name()

    def _finds(self, texts: Sequence[str], *, parts: bool, names_only: bool) -> list[TermFinds]:
        """Where each of the terms stands that stand anywhere, in no order."""
        num_rows = int(self.table.count_rows())
        if not num_rows or not texts:
            return []
        terms = list(map(_Term, texts, stemmed_terms(texts), unstemmed_terms(texts)))
        in_parts = self._in_parts([term for term in terms if len(term.part) >= SHORTEST_PART]) if parts else {}
        present = self._present([term for term in terms if term.stemmed])
        finds = []
        for term in terms:
            words = names = _NO_ROWS
            if term in present:
                names = self._rows(_NAMES, term, num_rows)
                if not names_only:
                    words = self._rows(_WORDS, term, num_rows)
            if term in in_parts:
                more = in_parts[term]
                names = np.concatenate([names, more[~np.isin(more[:, 0], names[:, 0])]])
                names = names[np.argsort(names[:, 0])]
            firsts = names[:, 0].astype(np.int64)
            ends = firsts + names[:, 1].astype(np.int64)
            finds.append(TermFinds(words[:, 0].astype(np.int64), words[:, 2], firsts, ends, names[:, 2]))
        return finds

    def _present(self, terms: Sequence[_Term]) -> Sequence[_Term]:
        """Terms that may stand anywhere. Of a text as a question, most do not, and each costs 20 ms."""
        from lancedb.query import BooleanQuery, Occur

        if len(terms) <= _TERMS_AT_ONCE:
            return terms
        queries = [query for term in terms for column in _WEIGHTS for query in term.queries(column)]
        query = BooleanQuery([(Occur.SHOULD, query) for query in queries])
        if not self.table.search(query, query_type="fts").select(["number"]).limit(1).to_arrow().num_rows:
            return []
        half = len(terms) // 2
        return [*self._present(terms[:half]), *self._present(terms[half:])]

    def _rows(self, column: str, term: _Term, num_rows: int) -> NDArray[np.float64]:
        """[N, 3]: in the order of their numbers, number, units of the file, and BM25 of the rows that have a term."""
        wanted = ["number", "num_stored", "_score"]
        found = []
        for query, weight in zip(term.queries(column), _WEIGHTS[column], strict=True):
            search = self.table.search(query, query_type="fts").select(wanted)
            # A limit below the number of rows may lose some of them.
            found.append(_as_numbers(search.limit(num_rows).to_arrow(), wanted) * [1, 1, weight])
        values = np.concatenate(found)
        numbers, firsts, places = np.unique(values[:, 0], return_index=True, return_inverse=True)
        return np.stack([numbers, values[firsts, 1], np.bincount(places, values[:, 2], len(numbers))], axis=1)

    def _in_parts(self, terms: Sequence[_Term]) -> dict[_Term, NDArray[np.float64]]:
        """For each term [N, 3] of the files in whose names it is a part, like `_rows`; they have no BM25."""
        found = {}
        for start in range(0, len(terms), _PARTS_AT_ONCE):
            some = terms[start : start + _PARTS_AT_ONCE]
            conditions = [f"contains(name_part, {quoted(term.part)})" for term in some]
            columns = {"number": "number", "num_stored": "num_stored", "score": "0.0"}
            columns |= {f"has_{place}": condition for place, condition in enumerate(conditions)}
            rows = self.table.search().where(" OR ".join(conditions)).select(columns).limit(None).to_arrow()
            values = _as_numbers(rows, ["number", "num_stored", "score"])
            for place, term in enumerate(some):
                found[term] = values[rows.column(f"has_{place}").to_numpy()]
        return found


class _Term(NamedTuple):
    """A word or phrase as `terms_of` gives it, and its terms in words and in names, "" if it has none."""

    text: str
    stemmed: str
    unstemmed: str

    @property
    def part(self) -> str:
        """As it may be a part of a name."""
        return plain_name(self.text.strip())

    def queries(self, column: str) -> list[FullTextQuery]:
        """For the term itself in a column, and for the same as one of a description or a folder."""
        from lancedb.query import MatchQuery, PhraseQuery

        terms = self.stemmed if column == _WORDS else self.unstemmed
        kind = PhraseQuery if " " in terms else MatchQuery
        return [kind(terms, column), kind(apart(terms), column)]


def _as_numbers(rows: pa.Table, columns: Sequence[str]) -> NDArray[np.float64]:
    return np.stack([rows.column(name).to_numpy().astype(np.float64) for name in columns], axis=1)


def _index_of(column: str) -> str:
    return f"{column}_idx"
