"""Into which pieces is a text divided so that a model can take in the meaning of each?"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import islice

PASSAGE_WORDS = 200
"""Words of a piece at most. The text towers of small models read some 256 word pieces at once."""

MOST_PASSAGES = 50
"""Pieces of a text at most: 10,000 words. The rest is found by its words, not by its meaning."""

# Scripts that are written without blanks: each letter counts as a word (Thai to Khmer, kana, Han).
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\s{_UNSPACED}]+")
# What ends a sentence, with the quotes and brackets behind it, or a line.
_END = re.compile(r"""[.!?…]["'”’»)\]]*(?=\s)|[。！？][」』”）]*|(?=\n)""")
# Two letters that follow each other, or one that is a word by itself.
_MEANS = re.compile(f"[^\\W\\d_]{{2}}|[{_UNSPACED}]")


def split_passages(text: str, about: str = "") -> list[str]:
    """Divide a text into pieces of at most `PASSAGE_WORDS` words, of about equal length, in order.

    A piece ends with a sentence or a line where one ends in its last half, otherwise between two words. Pieces without
    two letters in a row (tables of numbers, page numbers) are left out.

    Args:
        about: a title and the like, which comes before the text in the first piece.
    """
    whole = "\n".join(filter(None, [about.strip(), text.strip()]))
    return list(islice((piece for piece in _pieces(whole) if _MEANS.search(piece)), MOST_PASSAGES))


def _pieces(text: str) -> Iterator[str]:
    """All pieces of a text that does not end with a blank."""
    words = [found.span() for found in _WORD.finditer(text)]
    ends = {len(text), *(found.end() for found in _END.finditer(text))}
    first = 0
    while first < len(words):
        num_left = len(words) - first
        # As many as the pieces to come have each, so that none is left with a few words.
        wanted = math.ceil(num_left / math.ceil(num_left / PASSAGE_WORDS))
        last = min(first + PASSAGE_WORDS, len(words))
        nearest = min(
            (place for place in range(first + wanted // 2 + 1, last + 1) if words[place - 1][1] in ends),
            key=lambda place: abs(place - first - wanted),
            default=first + wanted,
        )
        yield text[words[first][0] : words[nearest - 1][1]]
        first = nearest
