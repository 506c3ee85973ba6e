"""How is a page of a PDF drawn, or of a document of which a program makes a PDF?"""

from __future__ import annotations

import atexit
import ctypes
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import PIL.Image

from vlm2vec.errors import MediaError
from vlm2vec.items import Image, Item, Source
from vlm2vec.media.image import from_pixels
from vlm2vec.media.source import DEFAULT_LIMITS, Limits, check_file, decoding, describe, open_source

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

SCALE = 2.0
"""Pixels a point: 144 dots per inch, where 10-point print stays legible."""

PAGE_PX = 4_000_000
"""A page larger than this at `SCALE` is drawn smaller: a poster, an engineering drawing."""


def read_pages(path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> list[Item]:
    """Take a PDF as items, one a page, in order. Nothing is drawn yet. Raises as `page_count`."""
    path = Path(path)
    return [Item(media=(Image(path, page=number),)) for number in range(1, page_count(path, limits) + 1)]


def page_count(source: Source, limits: Limits = DEFAULT_LIMITS) -> int:
    """Count the pages of a PDF, or of a document of which a program makes one (`as_pdf`).

    Raises:
        MediaError: missing, empty, damaged, encrypted or no PDF, or the program for it is not installed.
        LimitError: more bytes or pages than `limits` allow.
    """
    with open_document(source, limits) as document:
        count = len(document)
    limits.check_pages(count, describe(source))
    return count


def render_page(source: Source, page: int, limits: Limits = DEFAULT_LIMITS) -> PIL.Image.Image:
    """Draw one page on white, in RGB, with its annotations and filled-in form fields.

    Args:
        page: its number, counted from 1.
        limits: larger files are refused, whatever their number of pages.

    Raises:
        MediaError: no such page, or the PDF is missing, empty, damaged or encrypted.
        LimitError: more bytes than `limits` allow.
    """
    with drawn_page(source, page, limits) as drawing:
        return from_pixels("RGB", drawing.size, drawing.pixels, "BGR", drawing.stride)


class _Drawing(NamedTuple):
    """A drawn page as PDFium keeps it: blue, green, red, in rows of `stride` bytes."""

    size: tuple[int, int]
    stride: int
    pixels: memoryview


@contextmanager
def drawn_page(
    source: Source, page: int, limits: Limits, allocate: Callable[[int], mmap | bytearray] = bytearray
) -> Iterator[_Drawing]:
    """Draw one page as `render_page` does; the pixels are there inside the block.

    Args:
        allocate: gives the memory to draw on, at least so many bytes.
    """
    from pypdfium2 import PdfBitmap

    def bitmap(width: int, height: int, format: int, rev_byteorder: bool) -> PdfBitmap:
        size = width * height * 3
        buffer = (ctypes.c_ubyte * size).from_buffer(allocate(size))
        return PdfBitmap.new_native(width, height, format, rev_byteorder, buffer)

    name = describe(source)
    with open_document(source, limits) as document:
        if not 1 <= page <= len(document):
            raise MediaError(f"{name} has no page {page}: its pages count from 1 to {len(document)}")
        with decoding(name, f"a PDF at page {page}"), closing(document[page - 1]) as sheet:
            if 0.0 in sheet.get_size():
                # PDFium shows the part of the MediaBox that the CropBox covers, and takes the whole MediaBox only for
                # an empty CropBox. Of a CropBox beside the MediaBox it would show nothing.
                sheet.set_cropbox(0, 0, 0, 0)
            scale = min(SCALE, math.sqrt(PAGE_PX / max(1.0, math.prod(sheet.get_size()))))
            with closing(sheet.render(scale=scale, bitmap_maker=bitmap)) as drawn:
                yield _Drawing((drawn.width, drawn.height), drawn.stride, memoryview(drawn.buffer).cast("B"))


def shown_otherwise(source: Path, limits: Limits = DEFAULT_LIMITS) -> bool:
    """Whether a page of a PDF looks otherwise than in an index of version 0.1: its CropBox lies beside its MediaBox.

    No page is drawn. True also for a file that cannot be read.
    """
    try:
        # Anew, because drawing such a page changes the document that is open.
        with open_document(source, limits, anew=True) as document, decoding(describe(source), "a PDF"):
            return any(0.0 in document.get_page_size(index) for index in range(len(document)))
    except MediaError:
        return True


def as_pdf(source: Path, limits: Limits = DEFAULT_LIMITS) -> Path:
    """The file that PDFium opens: of an Office file or a web page the PDF that a program makes of it, or else itself.

    Raises:
        MediaError: the program is not installed, or cannot read it. LimitError: it takes too long.
    """
    # Not at the top: a PDF needs none of it.
    from vlm2vec.media.documents.render import is_rendered, render_document

    return render_document(source, limits) if is_rendered(source) else source


class _LastOpened:
    """The document opened last, so that 500 pages of one file do not open it 500 times."""

    key: object = None
    document: PdfDocument | None = None

    def close(self) -> None:
        if self.document is not None:
            self.document.close()
        self.key = self.document = None


_last = _LastOpened()
_lock = threading.Lock()  # PDFium allows one call at a time in a process.


@contextmanager
def open_document(source: Source, limits: Limits, *, anew: bool = False) -> Iterator[PdfDocument]:
    """Have a PDF open inside the block, where no other thread of this process has one.

    Args:
        anew: open it again also if it is the one that was opened last, which a page that is drawn may have changed.

    Raises:
        MediaError: missing, empty, damaged, encrypted, without pages or no PDF. LimitError: more bytes than allowed.
    """
    name = describe(source)
    if isinstance(source, PIL.Image.Image):
        raise MediaError(f"{name} has no pages; pass the path or the bytes of a PDF")
    key: object
    if isinstance(source, bytes):
        with open_source(source, "a PDF", limits):
            key = source
    else:
        source = as_pdf(source, limits)
        status = check_file(source, "a PDF", limits)
        key = (source.absolute(), status.st_size, status.st_mtime_ns)
    with _lock:
        if anew or _last.key != key or _last.document is None:
            _last.close()
            # The key comes first: it keeps the bytes that the document reads.
            _last.key, _last.document = key, _open_pdfium(source, name)
        yield _last.document


def _open_pdfium(source: Path | bytes, name: str) -> PdfDocument:
    """Open a document; bytes must be kept for as long as it is open."""
    import pypdfium2
    from pypdfium2 import raw

    # PDFium has an exit of its own; a document left open until then would be closed after its library.
    atexit.unregister(_close_at_exit)
    atexit.register(_close_at_exit)
    with decoding(name, "a PDF"):
        if isinstance(source, Path):
            with source.open("rb"):  # PDFium says no more than "file access error"; this says why.
                pass
            handle = raw.FPDF_LoadDocument(os.fsencode(source) + b"\0", None)
        else:
            handle = raw.FPDF_LoadMemDocument64(source, len(source), None)
        if not handle:
            # PDFium keeps its last error for ever: only after a failure it is that of this file.
            error = raw.FPDF_GetLastError()
            if error == raw.FPDF_ERR_PASSWORD:
                raise MediaError(f"{name} is encrypted; save a copy without a password")
            raise ValueError(_REASONS.get(error, f"PDFium fails with error {error}"))
        document = pypdfium2.PdfDocument(handle)
        if not len(document):
            document.close()
            raise MediaError(f"{name} has no pages")
        document.init_forms()
        return document


# By the error numbers of PDFium.
_REASONS = {
    2: "the file cannot be opened",
    3: "its content is no PDF or damaged",
    5: "it is protected in a way that PDFium does not know",
}


def _close_at_exit() -> None:
    with _lock:
        _last.close()
