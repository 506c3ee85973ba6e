"""Which reader takes the words of a file? A table by endings."""

from __future__ import annotations

import logging
from pathlib import Path

from vlm2vec.errors import MediaError
from vlm2vec.items import DOCUMENT_SUFFIXES, IMAGE_SUFFIXES, PDF_SUFFIXES, SVG_SUFFIXES, VIDEO_SUFFIXES
from vlm2vec.media.frames import load_frames
from vlm2vec.media.ocr import require_ocr, with_recognised
from vlm2vec.media.source import DEFAULT_LIMITS, Limits
from vlm2vec.media.words import FileWords

_LOG = logging.getLogger("vlm2vec")


def read_words(path: Path, limits: Limits = DEFAULT_LIMITS, *, ocr: bool = False) -> FileWords:
    """Take the words of a file: text layers, metadata, subtitles, by its ending. What is left out of them is logged.

    Args:
        ocr: recognise words also in pictures, and in pages that have no text (the extra `ocr`).

    Raises:
        MediaError: the file is not what its ending says, or has an ending whose words are not read.
        LimitError: it is larger than `limits` allow.
        MissingError: with `ocr`, if its packages are not installed.
    """
    if ocr:
        require_ocr()
    words = stored_words(path, limits)
    if ocr:
        words = with_recognised(words, path, lambda image: load_frames(image, num_frames=1, limits=limits).images[0])
    return logged(words, path)


def stored_words(path: Path, limits: Limits) -> FileWords:
    """The words that a file holds as text. Raises as `read_words`."""
    # Imported where they are needed: most files need one of them.
    suffix = path.suffix.lower()
    if suffix in PDF_SUFFIXES:
        from vlm2vec.media.page_words import read_page_words

        return read_page_words(path, limits)
    if suffix in VIDEO_SUFFIXES:
        from vlm2vec.media.film_words import read_film_words

        return read_film_words(path, limits)
    if suffix in SVG_SUFFIXES:
        from vlm2vec.media.svg import read_svg_words

        return read_svg_words(path, limits)
    if suffix in IMAGE_SUFFIXES:
        from vlm2vec.media.picture_words import read_picture_words

        return read_picture_words(path, limits)
    if suffix in DOCUMENT_SUFFIXES:
        from vlm2vec.media.documents import read_document

        return read_document(path, limits)
    raise MediaError(
        f"{path} holds no words that can be read: the ending {suffix!r} is that of no picture, film or document"
    )


def logged(words: FileWords, path: Path) -> FileWords:
    """Words as they are, after what is left out of them has been told."""
    for note in words.notes:
        _LOG.warning("%s: %s", path, note)
    return words
