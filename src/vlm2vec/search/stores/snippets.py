"""Where do found words stand in a text, and what stands around them?"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Mapping, Sequence, Set
from contextlib import closing
from typing import NamedTuple

from vlm2vec.search.store import Field, Words
from vlm2vec.search.stores.spelling import STEMMED, Origins, composed, marked, plain_name, quoted, spelled

# So many words, and at most so many characters where there are no blanks, before and behind the first find.
_WORDS_BEFORE, _WORDS_BEHIND = 6, 14
_LETTERS_BEFORE, _LETTERS_BEHIND = 80, 160
_MARKS = "\x02", "\x03"
_FIND = re.compile("{}([^{}]*){}".format(_MARKS[0], *_MARKS))
_WORD = re.compile(r"\S+")


class Shown(NamedTuple):
    """The fields of a unit in which terms stand, what is shown of the first find, and how many stand as typed."""

    fields: frozenset[Field]
    snippet: str
    num_as_typed: int


def shown_in(words: Mapping[int, Words], terms: Sequence[str]) -> dict[int, Shown]:
    """What is shown of each of some units that have one of the terms in their words.

    The words are few, and the index cannot say where they stand: it has them without their texts. So they are indexed
    again, in memory.

    Args:
        terms: as `terms_of` gives them.
    """
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE VIRTUAL TABLE shown USING fts5(text, about, tokenize='{STEMMED}')")
        rows = [(number, spelled(some.text), spelled(some.about)) for number, some in words.items()]
        connection.executemany("INSERT INTO shown (rowid, text, about) VALUES (?, ?, ?)", rows)
        found = connection.execute(
            "SELECT rowid, highlight(shown, 0, ?, ?), highlight(shown, 1, ?, ?) FROM shown WHERE shown MATCH ?",
            (*_MARKS, *_MARKS, " OR ".join(map(quoted, terms))),
        ).fetchall()
    typed = {plain_name(term) for term in terms}
    return {number: _shown(words[number], typed, *highlighted) for number, *highlighted in found}


def _shown(words: Words, typed: Set[str], text: str, about: str) -> Shown:
    in_text, in_about = marked(text, _MARKS), marked(about, _MARKS)
    finds = {plain_name(find) for highlighted in (text, about) for find in _FIND.findall(highlighted)}
    fields: set[Field] = set()
    if in_text:
        fields.add("text")
    if in_about:
        fields.add("about")
    snippet = _snippet(composed(words.text), in_text) if in_text else _snippet(composed(words.about), in_about)
    return Shown(frozenset(fields), snippet, len(typed & finds))


def _snippet(text: str, finds: Sequence[tuple[int, int]]) -> str:
    """Around the first of the finds, places in the text as it is spelled."""
    origins = Origins(text)
    places = [(origins[first], origins[end - 1] + 1) for first, end in finds]
    first, end = places[0]
    before = [match.start() for match in _WORD.finditer(text, max(0, first - _LETTERS_BEFORE), first)]
    behind = [match.end() for match in _WORD.finditer(text, end, end + _LETTERS_BEHIND)]
    start = before[-_WORDS_BEFORE:][0] if before else first
    stop = behind[:_WORDS_BEHIND][-1] if behind else end
    pieces = []
    at = start
    for first, end in places:
        if end > stop:
            break
        pieces += [_printable(text[at:first]), _MARKS[0], _printable(text[first:end]), _MARKS[1]]
        at = end
    pieces.append(_printable(text[at:stop]))
    return " ".join("".join(pieces).split())


def _printable(text: str) -> str:
    return "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text)
