"""Which words are drawn in a picture? Recognised by PP-OCR, whose weights `rapidocr` brings along."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlm2vec.errors import MediaError
from vlm2vec.extras import require
from vlm2vec.items import IMAGE_SUFFIXES, PDF_SUFFIXES, Image
from vlm2vec.media.image import on_white
from vlm2vec.media.plain_text import plain
from vlm2vec.media.words import FileWords, PartWords

if TYPE_CHECKING:
    import PIL.Image
    from rapidocr import RapidOCR

_lock = threading.Lock()  # Of the recogniser, which keeps what it is told to do in itself.


def require_ocr() -> None:
    """Raise MissingError unless words in pictures can be recognised."""
    require("ocr", "rapidocr")


def with_recognised(words: FileWords, path: Path, draw: Callable[[Image], PIL.Image.Image]) -> FileWords:
    """Add the words in a picture file, and in those pages of a PDF that have no text.

    Chinese and Latin letters are recognised, those with accents too; of Greek ones few, Cyrillic ones not. A page of
    300 words took 3.2 s of one core. A page that cannot be drawn has no words, and a note.

    Args:
        draw: gives the picture of a page or of a file.
    """
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return words._replace(parts=(PartWords(_recognised(draw(Image(path)))),))
    if suffix not in PDF_SUFFIXES:
        return words
    parts, notes = list[PartWords](), list(words.notes)
    for part in words.parts:
        if not part.text:
            try:
                part = part._replace(text=_recognised(draw(Image(path, page=part.page))))
            except MediaError as error:
                notes.append(f"the words on page {part.page} are not recognised: {error.message}")
        parts.append(part)
    return words._replace(parts=tuple(parts), notes=tuple(notes))


def _recognised(picture: PIL.Image.Image) -> str:
    """The lines of text in a picture, from top to bottom."""
    pixels = np.asarray(on_white(picture).convert("RGB"))
    with _lock:
        # Blue, green, red, as in OpenCV.
        found = _recogniser()(pixels[..., ::-1])
    return plain("\n".join(found.txts or ()))


@cache
def _recogniser() -> RapidOCR:
    require_ocr()
    from rapidocr import RapidOCR

    threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    return RapidOCR(params={"Global.log_level": "error", **threads})
