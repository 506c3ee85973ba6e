"""How are the words of a document divided into sections?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vlm2vec.errors import LimitError
from vlm2vec.media.source import Limits
from vlm2vec.media.words import PartWords

SECTION_WORDS = 400
SECTION_LETTERS = 3_200
"""Of a section at most, so that scripts without blanks between words are divided too: eight letters a word."""

# Of a paragraph that is too long for a section: two pieces with a short paragraph between them make two sections.
_PIECE_WORDS, _PIECE_LETTERS = 300, 2_400
# Ends of sentences and lines, where a long paragraph is cut first.
_ENDS = re.compile(r"(?<=[.!?…])[\"'”’)]*\s+|(?<=[。！？])|\n+")


class Block(NamedTuple):
    """A paragraph or a heading, in the order in which a reader meets it.

    Args:
        level: 0 for a paragraph; 1 for the highest heading, and more below it. A heading without text ends what is
            before it.
    """

    text: str
    level: int = 0


def sections(blocks: Iterable[Block], limits: Limits, name: str, title: str = "") -> tuple[PartWords, ...]:
    """Divide a document into parts of at most 400 words, numbered from 1; a heading begins one.

    Headings stand in `about` of the parts below them, with the title and the headings above. A paragraph that does not
    fit into a part any more begins another one; one that fits into none is cut, at the end of a sentence or line if
    there is one. A heading with nothing below it is a part without text.

    Args:
        name: of the document, for messages.
        title: of the document.

    Raises:
        LimitError: more parts than `limits` allow.
    """
    parts: list[PartWords] = []
    for text, about in _divided(blocks, title):
        parts.append(PartWords(text, about, page=len(parts) + 1))
        if len(parts) > limits.sections:
            raise LimitError(f"{name} has more than the {limits.sections:,} sections allowed; split it into parts")
    return tuple(parts)


def _divided(blocks: Iterable[Block], title: str) -> Iterator[tuple[str, str]]:
    """Text and about of each section."""
    headings: list[Block] = []
    texts: list[str] = []
    # Whether a section has begun that must come out, even without text.
    is_open = False
    num_words = num_letters = 0
    for block in blocks:
        text = block.text.strip()
        if block.level:
            is_child = bool(text and headings) and block.level > headings[-1].level
            if texts or (is_open and not is_child):
                yield "\n".join(texts), _about(title, headings)
            headings = [one for one in headings if one.level < block.level]
            headings += [Block(" ".join(text.split()), block.level)] if text else []
            texts, is_open, num_words, num_letters = [], bool(text), 0, 0
            continue
        for piece in _pieces(text) if text else ():
            words, letters = len(piece.split()), len(piece)
            if texts and (num_words + words > SECTION_WORDS or num_letters + letters > SECTION_LETTERS):
                yield "\n".join(texts), _about(title, headings)
                texts, num_words, num_letters = [], 0, 0
            texts.append(piece)
            is_open = True
            num_words, num_letters = num_words + words, num_letters + letters
    if is_open:
        yield "\n".join(texts), _about(title, headings)


def _about(title: str, headings: list[Block]) -> str:
    # A document often has its title as its first heading, too.
    names = [one.text for one in headings if one.text != title]
    return "\n".join([title, *names] if title else names)


def _pieces(text: str) -> list[str]:
    """A paragraph whole if it fits into a section, or else in pieces."""
    if len(text) <= SECTION_LETTERS and len(text.split()) <= SECTION_WORDS:
        return [text]
    pieces, start = [], 0
    while start < len(text):
        end = _piece_end(text, start)
        if piece := text[start:end].strip():
            pieces.append(piece)
        start = end
    return pieces


def _piece_end(text: str, start: int) -> int:
    """Where a piece that begins here ends: at the last end of a sentence or line in reach, of a word, or anywhere."""
    end = min(len(text), start + _PIECE_LETTERS)
    words = list(re.finditer(r"\s+", text[start:end].lstrip()))
    if len(words) >= _PIECE_WORDS:
        end = start + (end - start - len(text[start:end].lstrip())) + words[_PIECE_WORDS - 1].end()
    elif end == len(text):
        return end
    ends = [match.end() for match in _ENDS.finditer(text, start, end) if match.end() > start]
    if ends:
        return ends[-1]
    blank = max(text.rfind(mark, start, end) for mark in " \t\n")
    return blank + 1 if blank > start else end
