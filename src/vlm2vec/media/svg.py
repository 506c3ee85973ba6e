"""How is a drawing in SVG drawn, with nothing from outside of its file, and which words are in it?"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from vlm2vec.errors import LimitError
from vlm2vec.media.plain_text import joined
from vlm2vec.media.source import Limits, decoding, open_source
from vlm2vec.media.words import FileWords, PartWords

SIDE_PX = 1024
"""The longer side of a drawing; it has no pixels of its own."""

# As Inkscape had it when most of what is on the web was drawn; without it resvg refuses lengths in mm and pt.
_DPI = 90
_HEAD_BYTES = 4096
_INSIDE = re.compile(r"\s*(#|data:image/(png|jpe?g|gif|webp)\s*[;,])", re.IGNORECASE)
_SHOWN = frozenset({"text"})
# Of the drawing and its parts, and of its metadata by Dublin Core.
_DESCRIBING = frozenset({"title", "desc", "description", "subject", "creator"})


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

    inside = _without_references(data, limits.text_bytes, name)
    return bytes(resvg_py.svg_to_bytes(svg_string=inside, width=SIDE_PX, height=SIDE_PX, dpi=_DPI))


def read_svg_words(path: Path, limits: Limits) -> FileWords:
    """The texts that a drawing shows, in one part without a number; its titles and descriptions are in `about`.

    Raises:
        MediaError: missing, empty or damaged. LimitError: as `draw_svg`.
    """
    about: list[str] = []
    shown: list[str] = []
    open_ones: list[tuple[str, list[str]]] = []

    def begin(element: str, _: dict[str, str]) -> None:
        if (name := element.rpartition(":")[2]) in (*_SHOWN, *_DESCRIBING):
            open_ones.append((name, []))

    def end(element: str) -> None:
        if open_ones and element.rpartition(":")[2] == open_ones[-1][0]:
            name, texts = open_ones.pop()
            (shown if name in _SHOWN else about).append(" ".join("".join(texts).split()))

    def take(text: str) -> None:
        if open_ones:
            open_ones[-1][1].append(text)

    with open_source(path, "an image", limits) as stream:
        data = stream.read(limits.text_bytes + 1)
    with decoding(str(path), "an image"):
        _parse(data, begin, end, take, _Bound(limits.text_bytes, str(path)))
    text = joined(*shown)
    return FileWords(joined(*about), (PartWords(text),) if text else ())


class _Bound:
    """How much a drawing may become: entities may make a few bytes into gigabytes."""

    def __init__(self, max_letters: int, name: str) -> None:
        self._left = max_letters
        self._message = f"{name} has more than the {max_letters:,} bytes of text allowed; simplify the drawing"

    def check(self, data: bytes) -> None:
        if len(data) > self._left:
            raise LimitError(self._message)

    def take(self, num_letters: int) -> None:
        self._left -= num_letters
        if self._left < 0:
            raise LimitError(self._message)


def _without_references(data: bytes, max_letters: int, name: str) -> str:
    """The drawing written anew, without references to other files, document type, comments and instructions.

    resvg reads pictures from paths, relative and absolute; that cannot be switched off.
    """
    pieces: list[str] = []

    def begin(element: str, attributes: dict[str, str]) -> None:
        kept = (
            f" {key}={quoteattr(value)}"
            for key, value in attributes.items()
            if key.rpartition(":")[2].lower() != "href" or _INSIDE.match(value)
        )
        pieces.append(f"<{element}{''.join(kept)}>")

    def end(element: str) -> None:
        pieces.append(f"</{element}>")

    def take(text: str) -> None:
        pieces.append(escape(text))

    _parse(data, begin, end, take, _Bound(max_letters, name))
    return "".join(pieces)


def _parse(
    data: bytes,
    begin: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None],
    take: Callable[[str], None],
    bound: _Bound,
) -> None:
    """Go through a drawing; nothing outside of it is read, and its own entities count towards the bound."""
    bound.check(data)

    def bounded_begin(element: str, attributes: dict[str, str]) -> None:
        bound.take(len(element) + sum(len(key) + len(value) for key, value in attributes.items()))
        begin(element, attributes)

    def bounded_take(text: str) -> None:
        bound.take(len(text))
        take(text)

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = bounded_begin
    parser.EndElementHandler = end
    parser.CharacterDataHandler = bounded_take
    parser.Parse(data, True)
