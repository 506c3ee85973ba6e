"""Which words does a document that is no PDF hold: a text, a web page, an Office file, a book?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from vlm2vec.errors import InputError
from vlm2vec.media.documents.docx import read_docx
from vlm2vec.media.documents.epub import read_epub
from vlm2vec.media.documents.html import read_html, read_mhtml
from vlm2vec.media.documents.opendocument import read_odp, read_ods, read_odt
from vlm2vec.media.documents.plain import read_marked, read_plain, read_table
from vlm2vec.media.documents.pptx import read_pptx
from vlm2vec.media.documents.xlsx import read_xlsx
from vlm2vec.media.plain_text import joined, plain
from vlm2vec.media.source import DEFAULT_LIMITS, Limits, decoding
from vlm2vec.media.words import FileWords, PartWords

READERS: Mapping[str, Callable[[Path, Limits], FileWords]] = {
    **dict.fromkeys((".txt", ".text", ".tex"), read_plain),
    **dict.fromkeys((".md", ".markdown", ".rst", ".adoc", ".org"), read_marked),
    **dict.fromkeys((".csv", ".tsv"), read_table),
    **dict.fromkeys((".html", ".htm", ".xhtml"), read_html),
    **dict.fromkeys((".mhtml", ".mht"), read_mhtml),
    **dict.fromkeys((".docx", ".docm", ".dotx"), read_docx),
    **dict.fromkeys((".pptx", ".pptm", ".ppsx", ".potx"), read_pptx),
    **dict.fromkeys((".xlsx", ".xlsm", ".xltx"), read_xlsx),
    **dict.fromkeys((".odt", ".ott"), read_odt),
    **dict.fromkeys((".odp", ".otp"), read_odp),
    **dict.fromkeys((".ods", ".ots"), read_ods),
    ".epub": read_epub,
}
"""How words are read, by the ending; the keys are `items.DOCUMENT_SUFFIXES`."""


def read_document(path: Path, limits: Limits = DEFAULT_LIMITS) -> FileWords:
    """Read the words of a document by its ending. Nothing outside of the file is read or fetched.

    Texts, web pages and books are divided into sections of at most 400 words, at their headings first; slides and
    sheets are a part each. Parts are numbered from 1. Words beyond `Limits.text_chars` are left out, with a note.

    Raises:
        InputError: the ending is none of `READERS`.
        MediaError: missing, empty, damaged, encrypted, or not what its ending says.
        LimitError: more bytes, text, sections, slides or sheets than `limits` allow.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: the ending {path.suffix!r} is none of a document; known are {', '.join(READERS)}")
    with decoding(str(path), "a document"):
        words = reader(path, limits)
    return _bounded(words, limits)


def _bounded(words: FileWords, limits: Limits) -> FileWords:
    """Words made plain, as many as `limits` allow; a note tells what is left out."""
    parts: list[PartWords] = []
    left = limits.text_chars
    for part in words.parts:
        made = part._replace(text=plain(part.text), about=joined(*part.about.split("\n")))
        left -= len(made.text) + len(made.about)
        if left < 0:
            note = f"the words from section {part.page} on are left out: {limits.said_of_text()}"
            return FileWords(joined(*words.about.split("\n")), tuple(parts), (*words.notes, note))
        parts.append(made)
    return FileWords(joined(*words.about.split("\n")), tuple(parts), words.notes)
