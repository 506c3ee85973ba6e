"""How is a drawing in SVG drawn, with nothing from outside of its file?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from vlm2vec.errors import LimitError
from vlm2vec.media.source import Limits

SIDE_PX = 1024
"""The longer side of a drawing; it has no pixels of its own."""

# As Inkscape had it when most of what is on the web was drawn; without it resvg refuses lengths in mm and pt.
_DPI = 90
_HEAD_BYTES = 4096
_INSIDE = re.compile(r"\s*(#|data:image/(png|jpe?g|gif|webp)\s*[;,])", re.IGNORECASE)
_CHUNK_BYTES = 1 << 16


def is_svg(head: bytes) -> bool:
    """Whether a file that begins so is a drawing in SVG."""
    head = head[:_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    return head.startswith((b"<svg", b"<?xml", b"<!DOCTYPE svg", b"<!--")) and b"<svg" in head


def draw_svg(data: bytes, limits: Limits, name: str) -> bytes:
    """Draw an SVG as a PNG with transparency, its longer side `SIDE_PX`; texts in the fonts of this machine.

    Pictures, drawings and styles outside of the file are left out, on the disk as well as on a network.

    Raises:
        LimitError: it is larger than `Limits.text_bytes`, or becomes so by its entities.
        ValueError, expat.ExpatError: it is damaged, or has no size.
    """
    import resvg_py

    inside = "".join(_without_references(data, limits.text_bytes, name))
    return bytes(resvg_py.svg_to_bytes(svg_string=inside, width=SIDE_PX, height=SIDE_PX, dpi=_DPI))


def _without_references(data: bytes, max_letters: int, name: str) -> Iterator[str]:
    """The drawing written anew, without references to other files, document type, comments and instructions.

    resvg reads pictures from paths, relative and absolute; that cannot be switched off.
    """
    pieces: list[str] = []
    length = 0

    def add(piece: str) -> None:
        # Here and not at the end: entities may make a few bytes into gigabytes.
        nonlocal length
        length += len(piece)
        if length > max_letters:
            raise LimitError(f"{name} has more than the {max_letters:,} bytes of text allowed; simplify the drawing")
        pieces.append(piece)

    def begin(element: str, attributes: dict[str, str]) -> None:
        kept = (
            f" {key}={quoteattr(value)}"
            for key, value in attributes.items()
            if key.rpartition(":")[2].lower() != "href" or _INSIDE.match(value)
        )
        add(f"<{element}{''.join(kept)}>")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = begin
    parser.EndElementHandler = lambda element: add(f"</{element}>")
    parser.CharacterDataHandler = lambda text: add(escape(text))
    for start in range(0, len(data), _CHUNK_BYTES):
        parser.Parse(data[start : start + _CHUNK_BYTES], False)
    parser.Parse(b"", True)
    yield from pieces
