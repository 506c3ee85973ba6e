"""Which words does an EPUB hold?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vlm2vec.errors import MediaError
from vlm2vec.media.documents.archive import Archive, inner_path, open_archive
from vlm2vec.media.documents.html import parse_html
from vlm2vec.media.documents.markup import Start, text_of
from vlm2vec.media.documents.sections import Block, sections
from vlm2vec.media.plain_text import date_words
from vlm2vec.media.source import Limits
from vlm2vec.media.words import FileWords

_CONTAINER = "META-INF/container.xml"
_DESCRIBING = frozenset({"title", "creator", "subject", "description", "date"})


class _Book(NamedTuple):
    """What the package of a book says: its title, what describes it, its chapters in order."""

    title: str
    about: str
    chapters: list[str]


def read_epub(path: Path, limits: Limits) -> FileWords:
    """Sections by chapters and headings, in the order of reading, without the table of contents.

    Raises:
        MediaError: missing, no EPUB, protected or damaged. LimitError: larger than `limits` allow.
    """
    with open_archive(path, limits) as archive:
        book = _read_package(archive)
        return FileWords(book.about, sections(_blocks(archive, book), limits, str(path), book.title))


def _blocks(archive: Archive, book: _Book) -> Iterator[Block]:
    for chapter in book.chapters:
        blocks = parse_html(archive.read(chapter), f"{archive.name}: {chapter}").blocks
        if blocks and not blocks[0].level:
            # Where no heading begins a chapter, the one before it must not continue.
            yield Block("", level=1)
        yield from blocks


def _read_package(archive: Archive) -> _Book:
    names = [
        event.attributes.get("full-path", "")
        for event in (archive.events(_CONTAINER) if _CONTAINER in archive else ())
        if isinstance(event, Start) and event.name == "rootfile"
    ]
    if not names:
        raise MediaError(
            f"{archive.name} cannot be read as a document: it is no EPUB; check that it is what its name says"
        )
    title, about = "", dict[str, None]()
    items: dict[str, str] = {}
    spine: list[str] = []
    events = archive.events(names[0])
    for event in events:
        if not isinstance(event, Start):
            continue
        if event.name in _DESCRIBING:
            text = " ".join(text_of(events).split())
            title = title or (text if event.name == "title" else "")
            about[(date_words(text) or text) if event.name == "date" else text] = None
        elif event.name == "item" and _is_chapter(event.attributes):
            items[event.attributes.get("id", "")] = inner_path(names[0], event.attributes.get("href", ""))
        elif event.name == "itemref":
            spine.append(event.attributes.get("idref", ""))
    return _Book(title, "\n".join(filter(None, about)), [items[name] for name in spine if name in items])


def _is_chapter(item: dict[str, str]) -> bool:
    is_page = item.get("media-type") in ("application/xhtml+xml", "text/html")
    return is_page and "nav" not in item.get("properties", "").split()
