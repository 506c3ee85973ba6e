"""How are words spelled in the full-text indexes, so that they are found however they are written?"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence

from vlm2vec.search.names import name_words

UNSTEMMED = "unicode61 remove_diacritics 2"
"""FTS5's tokenizer for names: it takes runs of letters and digits, without case and accents."""

STEMMED = f"porter {UNSTEMMED}"
"""FTS5's tokenizer for text, which takes English endings away too."""

# The signs of C++ and C#, which FTS5 would leave out, as letters of their own: those of the private use area, which
# are left out of the texts.
_SIGNS = {"+": "\ue000", "#": "\ue001"}
# Scripts without blanks between words, or, as Korean, with endings written at them: each character is a word, and what
# is looked for a phrase, so that any part of a run is found. Pairs of first and last: Thai and Lao, Burmese, Khmer,
# Chinese radicals, signs, kana and bopomofo, small kana, ideographs, Hangul, and ideographs of later planes.
_RUNS_ON = [
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3040, 0x312F)),
    *((0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF), (0x20000, 0x323AF)),
]
# Words of a name as they stand there, with the signs of C++ and C#.
_WRITTEN = re.compile(r"[^\W_]+[+#]*")
_SOFT_HYPHEN, _ZERO_WIDTH_SPACE = "\u00ad", "\u200b"


class _Spellings(dict[int, str]):
    """How each character is spelled; filled with those that come."""

    def __missing__(self, code: int) -> str:
        self[code] = _spelling_of(chr(code))
        return self[code]


_SPELLINGS = _Spellings()


def composed(text: str) -> str:
    """The text with letters and their accents as one character each (NFC); places in it are those of `Spelled`."""
    return unicodedata.normalize("NFC", text)


def spelled(text: str) -> str:
    """A text as the indexes get it.

    Ligatures, wide and other compatible forms become plain (NFKC), "ß" becomes "ss", soft hyphens go. It must stay as
    it is: rows leave an index only by the words by which they came, so a change of it needs a new format of the file.
    """
    return composed(text).translate(_SPELLINGS)


def plain_name(text: str) -> str:
    """A file's name as its parts are looked for: without case and accents."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in letters if unicodedata.category(letter)[0] not in "MC")


def indexed_name(name: str) -> str:
    """The words of a name, then the name as it is written if that differs, so that all of it is found as a phrase."""
    words, written = name_words(name), " ".join(_WRITTEN.findall(composed(name)))
    return words if words == written.lower() else f"{words} {written}"


def is_word(text: str) -> bool:
    """Whether there is a letter or digit in it, so that it can be found."""
    return any(letter.isalnum() for letter in text)


def quoted(text: str) -> str:
    """A term of FTS5's query language that finds these words side by side, and in which nothing is an operator."""
    return '"' + text.replace('"', " ").replace("\0", " ") + '"'


class Origins:
    """Where the characters of a spelled text come from.

    Args:
        text: `composed`.
    """

    def __init__(self, text: str) -> None:
        self._starts = [0]
        for letter in text:
            self._starts.append(self._starts[-1] + len(_SPELLINGS[ord(letter)]))

    def __getitem__(self, place: int) -> int:
        """Place in the text of the character that stands at this place when it is spelled."""
        return bisect_right(self._starts, place) - 1


def marked(highlighted: str, marks: Sequence[str]) -> list[tuple[int, int]]:
    """Starts and ends, in the spelled text, of what FTS5's `highlight` has put between two marks."""
    found, place = [], 0
    for number, piece in enumerate(highlighted.replace(marks[1], marks[0]).split(marks[0])):
        if number % 2:
            found.append((place, place + len(piece)))
        place += len(piece)
    return found


def _spelling_of(letter: str) -> str:
    if letter in _SIGNS:
        return f" {_SIGNS[letter]} "
    category = unicodedata.category(letter)
    if category == "Cf" and letter != _ZERO_WIDTH_SPACE:
        # Soft hyphens, joiners and directions stand inside words.
        return ""
    if category[0] == "C":
        return " "
    if any(first <= ord(letter) <= last for first, last in _RUNS_ON):
        return f" {unicodedata.normalize('NFKC', letter)} "
    folded = letter.casefold()
    return unicodedata.normalize("NFKC", folded if len(folded) > 1 else letter)
