"""Which terms stand in a text, by the tokenizers of the store in one file, so that both find the same words?"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing

from vlm2vec.search.stores.spelling import STEMMED, UNSTEMMED

# Of the private use area, which is left out of texts (`spelling`).
_APART = "\ue002"
_TEXTS_AT_ONCE = 64


def stemmed_terms(texts: Sequence[str]) -> list[str]:
    """The terms of each text that is `spelled`, in order, with blanks between them; 500 words take 1 ms."""
    return list(_terms(texts, STEMMED))


def unstemmed_terms(texts: Sequence[str]) -> list[str]:
    """The same with the endings of words as they are."""
    return list(_terms(texts, UNSTEMMED))


def apart(terms: str) -> str:
    """The same terms as others, which stand beside the first in one column: of a description, or of folders."""
    return " ".join(_APART + term for term in terms.split())


def _terms(texts: Sequence[str], tokenizer: str) -> Iterator[str]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE VIRTUAL TABLE texts USING fts5(text, tokenize='{tokenizer}', content='')")
        connection.execute("CREATE VIRTUAL TABLE terms USING fts5vocab('texts', 'instance')")
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            some = texts[start : start + _TEXTS_AT_ONCE]
            connection.execute("INSERT INTO texts (texts) VALUES ('delete-all')")
            connection.executemany("INSERT INTO texts (rowid, text) VALUES (?, ?)", enumerate(some))
            terms: list[list[str]] = [[] for _ in some]
            for number, term in connection.execute("SELECT doc, term FROM terms ORDER BY doc, offset"):
                terms[number].append(term)
            yield from map(" ".join, terms)
