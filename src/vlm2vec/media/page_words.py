"""Which words stand on the pages of a PDF and in its forms, and what does it say of itself?"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from ctypes import Array, c_ushort
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from vlm2vec.errors import MediaError
from vlm2vec.media.document import open_document
from vlm2vec.media.plain_text import joined, plain
from vlm2vec.media.source import DEFAULT_LIMITS, Limits, decoding, describe
from vlm2vec.media.words import FileWords, PartWords

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage

# An outline may be a circle that is not seen as one; the index of a book has some thousand entries.
_MOST_HEADINGS = 20_000
# PDFium marks a hyphen that ends a line in the middle of a word, and leaves the line end out.
_HYPHEN = re.compile("(.?)[\x02\ufffe](?:\r?\n)?(.?)")


def read_page_words(source: Path | bytes, limits: Limits = DEFAULT_LIMITS) -> FileWords:
    """Take the text layer of each page and what is filled in there; title, author and keywords of the document.

    Every page is a part, with an empty text if it has no text layer. Words that a line end divides are joined. Only
    what lies inside the visible part of a page is taken. The headings of the outline that lead to a page, and the
    comments on it, are `about` it.

    Raises:
        MediaError: missing, empty, damaged, encrypted or no PDF. LimitError: more bytes or pages than `limits` allow.
    """
    name = describe(source)
    notes: list[str] = []
    with open_document(source, limits) as document:
        limits.check_pages(len(document), name)
        with decoding(name, "a PDF"):
            about = joined(*(document.get_metadata_value(key) for key in ("Title", "Author", "Subject", "Keywords")))
            headings = _headings(document)
        parts, left, is_full = list[PartWords](), limits.text_chars, False
        for number in range(1, len(document) + 1):
            text, comments = ("", []) if is_full else _words_on(document, number, name, notes)
            if len(text) > left:
                is_full = True
                notes.append(f"the words from page {number} on are left out: {limits.said_of_text()}")
            parts.append(PartWords(text[:left], joined(*headings.get(number, ()), *comments), page=number))
            left -= len(parts[-1].text)
    return FileWords(about, tuple(parts), tuple(notes))


def _words_on(document: PdfDocument, number: int, name: str, notes: list[str]) -> tuple[str, list[str]]:
    """The text on one page and the comments on it; a page that cannot be read has none, and a note."""
    try:
        with (
            decoding(name, f"a PDF at page {number}"),
            closing(document[number - 1]) as sheet,
            closing(sheet.get_textpage()) as layer,
        ):
            # Of a CropBox beside the MediaBox PDFium shows the MediaBox (see `document`).
            is_whole = 0.0 in sheet.get_size()
            text: str = layer.get_text_range() if is_whole else layer.get_text_bounded()
            filled_in, comments = _annotations(document, sheet)
    except MediaError as error:
        notes.append(f"page {number} has no words: {error.message}")
        return "", []
    return plain("\n".join([_HYPHEN.sub(_rejoined, text), *filled_in])), comments


def _annotations(document: PdfDocument, sheet: PdfPage) -> tuple[list[str], list[str]]:
    """What is filled into the fields of a form on a page, and the comments there."""
    from pypdfium2 import raw

    filled_in, comments = list[str](), list[str]()
    for index in range(raw.FPDFPage_GetAnnotCount(sheet)):
        note = raw.FPDFPage_GetAnnot(sheet, index)
        if not note:
            continue
        try:
            form = document.formenv
            if form and raw.FPDFAnnot_GetFormFieldType(form, note) in (
                *(raw.FPDF_FORMFIELD_TEXTFIELD, raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX),
            ):
                filled_in.append(_string(partial(raw.FPDFAnnot_GetFormFieldValue, form, note)))
            else:
                comments.append(_string(partial(raw.FPDFAnnot_GetStringValue, note, b"Contents")))
        finally:
            raw.FPDFPage_CloseAnnot(note)
    return filled_in, comments


def _string(call: Callable[[Array[c_ushort] | None, int], int]) -> str:
    """A string of PDFium, whose functions tell its bytes first, with a zero at its end."""
    size = call(None, 0)
    buffer = (c_ushort * (size // 2))()
    call(buffer, size)
    return bytes(buffer).decode("utf-16-le", "replace").removesuffix("\0")


def _rejoined(found: re.Match[str]) -> str:
    """Both ends of a word that a line end has divided; "Jean-Paul" and "COVID-19" keep their hyphen."""
    before, after = found.groups()
    is_own = after.isdigit() or (after.isupper() and before.islower())
    return f"{before}-{after}" if is_own else before + after


def _headings(document: PdfDocument) -> dict[int, list[str]]:
    """The entries of the outline by the page that they lead to, counted from 1."""
    headings: dict[int, list[str]] = {}
    for entry in islice(document.get_toc(), _MOST_HEADINGS):
        place = entry.get_dest()
        index = None if place is None else place.get_index()
        if index is not None:
            headings.setdefault(index + 1, []).append(entry.get_title())
    return headings
