"""How does text out of a file become plain: decoded, composed, without marks that nobody reads?"""

from __future__ import annotations

import codecs
import re
import unicodedata

# Longest first: the mark of UTF-16 begins that of UTF-32.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Ligatures of Latin, Armenian and Hebrew, and the forms that Arabic letters take in a word.
_PRESENTED = re.compile("[\ufb00-\ufdff\ufe70-\ufefc]+")
# Soft hyphens, blanks of no width and marks that only say in which direction to write; joiners are part of words.
_UNSEEN = dict.fromkeys(
    map(ord, "\u00ad\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff")
)
_BLANKS = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r"\n{3,}")

_DATE = re.compile(r"(?<!\d)(\d{4})([-:/.]?)(\d\d)\2(\d\d)(?!\d)")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)


def decoded_text(data: bytes) -> str:
    """The text of a file: by its byte order mark, otherwise as UTF-8, otherwise as Windows-1252."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        # Five bytes have no meaning there, but one in Latin-1.
        return data.decode("cp1252", "replace") if not _HOLES.intersection(data) else data.decode("latin-1")


_HOLES = frozenset(b"\x81\x8d\x8f\x90\x9d")


def plain(text: str) -> str:
    """Text as it is searched and shown: letters composed (NFC), ligatures apart, one blank between words.

    Line ends become "\\n", at most one empty line stays between two others. Control characters, halves of surrogate
    pairs and marks that are not seen are left out.
    """
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n").replace("\v", "\n")
    text = text.replace("\u2028", "\n").replace("\u2029", "\n\n").translate(_UNSEEN)
    text = _PRESENTED.sub(lambda found: unicodedata.normalize("NFKC", found[0]), unicodedata.normalize("NFC", text))
    lines = (_BLANKS.sub(" ", line if line.isprintable() else _readable(line)).strip() for line in text.split("\n"))
    return _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip()


def date_words(text: str) -> str:
    """The first day in a time stamp as words: "2024-03-15 March 2024"; "" if there is none.

    Read are "2024-03-15", "2024:03:15 10:30:00" (EXIF), "20240315" and the like, the year first.
    """
    for year, _, month, day in _DATE.findall(text):
        if int(year) and 1 <= int(month) <= 12 and 1 <= int(day) <= 31:
            return f"{year}-{month}-{day} {_MONTHS[int(month) - 1]} {int(year)}"
    return ""


def joined(*texts: str) -> str:
    """Texts made plain, a line or several each; empty ones and repetitions are left out."""
    return "\n".join(dict.fromkeys(filter(None, map(plain, texts))))


def _readable(line: str) -> str:
    """A line without what is no letter, mark, sign or joiner; a blank stands in its place."""
    # Private characters, which stand for pictures in the fonts of a page, would become parts of words.
    return "".join(one if one.isprintable() or unicodedata.category(one) == "Cf" else " " for one in line)
