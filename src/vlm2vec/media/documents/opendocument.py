"""Which words does an OpenDocument file (ODT, ODP, ODS) hold?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vlm2vec.errors import LimitError, MediaError
from vlm2vec.media.documents.archive import Archive, open_archive
from vlm2vec.media.documents.markup import End, Event, Start, skip, text_of
from vlm2vec.media.documents.office import Properties, titled
from vlm2vec.media.documents.sections import Block, sections
from vlm2vec.media.plain_text import date_words
from vlm2vec.media.source import Limits
from vlm2vec.media.words import FileWords, PartWords

_CONTENT, _META, _MANIFEST = "content.xml", "meta.xml", "META-INF/manifest.xml"
_DESCRIBING = ("title", "subject", "keyword", "description", "initial-creator", "creator")
# Paragraphs, and comments, whose own text (who wrote it and when) is left out.
_HOLDERS = frozenset({"p", "h", "annotation"})
# Deleted text, and numbers of footnotes.
_NO_TEXT = frozenset({"tracked-changes", "note-citation"})
# The style of a title, whatever the language of the program.
_TITLE = "Title"
_SHAPES = frozenset({"frame", "custom-shape", "g", "rect", "ellipse", "circle", "line", "connector", "polygon", "path"})
# Of frames that are the same on all slides, or numbers of slides.
_FURNITURE = frozenset({"page", "page-number", "header", "footer", "date-time"})


def read_odt(path: Path, limits: Limits) -> FileWords:
    """Sections by headings, with footnotes and comments where they stand.

    Raises:
        MediaError: missing, no OpenDocument file, encrypted or damaged. LimitError: larger than `limits` allow.
    """
    with open_archive(path, limits) as archive:
        properties = _properties(archive)
        blocks = list(_paragraphs(_content(archive)))
    title, about = titled(properties, blocks)
    return FileWords(about, sections(blocks, limits, str(path), title))


def read_odp(path: Path, limits: Limits) -> FileWords:
    """A part for each slide, hidden ones too; its title and the speaker's notes describe it. Raises as `read_odt`."""
    with open_archive(path, limits) as archive:
        title, about = _properties(archive)
        parts: list[PartWords] = []
        events = _content(archive)
        for event in events:
            if isinstance(event, Start) and event.name == "page":
                parts.append(_slide(events, len(parts) + 1, title))
                _check(len(parts), "slides", path, limits)
    return FileWords(about, tuple(parts))


def read_ods(path: Path, limits: Limits) -> FileWords:
    """A part for each sheet: a line for each row, cells as they are shown, parted by tabs. Raises as `read_odt`."""
    with open_archive(path, limits) as archive:
        title, about = _properties(archive)
        parts: list[PartWords] = []
        events = _content(archive)
        for event in events:
            if isinstance(event, Start) and event.name == "table":
                named = "\n".join(filter(None, (title, event.attributes.get("name", ""))))
                parts.append(PartWords("\n".join(_rows(events)), named, page=len(parts) + 1))
                _check(len(parts), "sheets", path, limits)
    return FileWords(about, tuple(parts))


def _check(count: int, noun: str, path: Path, limits: Limits) -> None:
    if count > limits.pages:
        raise LimitError(f"{path} has more than the {limits.pages:,} {noun} allowed; split it into parts")


def _content(archive: Archive) -> Iterator[Event]:
    if _MANIFEST in archive and b"encryption-data" in archive.read(_MANIFEST):
        raise MediaError(f"{archive.name} is encrypted; save a copy without a password")
    return archive.events(_CONTENT)


def _properties(archive: Archive) -> Properties:
    told: dict[str, list[str]] = {}
    events = archive.events(_META) if _META in archive else iter(())
    for event in events:
        if isinstance(event, Start) and event.name in (*_DESCRIBING, "creation-date"):
            told.setdefault(event.name, []).append(" ".join(text_of(events).split()))
    # The first author and the last are mostly one.
    texts = dict.fromkeys(text for name in _DESCRIBING for text in told.get(name, []) if text)
    days = [date_words(text) for text in told.get("creation-date", [])]
    return Properties(" ".join(told.get("title", [])), "\n".join([*texts, *days]))


def _paragraphs(events: Iterator[Event]) -> Iterator[Block]:
    """Paragraphs and headings up to the end of the element that has just begun, or of the file.

    One inside another (a footnote, a text box) comes before it. What a file remembers as deleted is left out.
    """
    open_ones: list[tuple[list[str], int]] = []
    titles = {_TITLE}
    depth = 0
    for event in events:
        if isinstance(event, str):
            if open_ones:
                open_ones[-1][0].append(event)
        elif isinstance(event, End):
            depth -= 1
            if depth < 0:
                return
            if event.name in _HOLDERS and open_ones:
                texts, level = open_ones.pop()
                if event.name != "annotation":
                    # As many blanks in a row are one; a line break is marked by an element, and by a NUL until here.
                    lines = (" ".join(line.split()) for line in "".join(texts).split("\0"))
                    yield Block("\n".join(lines), level)
        elif event.name in _NO_TEXT:
            skip(events)
        else:
            depth += 1
            if event.name in _HOLDERS:
                open_ones.append(([], _level(event, titles)))
            elif open_ones:
                open_ones[-1][0].append({"s": " ", "tab": " ", "line-break": "\0"}.get(event.name, ""))
            elif event.name == "style" and event.attributes.get("parent-style-name") == _TITLE:
                titles.add(event.attributes.get("name", ""))


def _level(event: Start, titles: set[str]) -> int:
    """Of a paragraph or heading; the title stands above all."""
    if event.name == "h":
        outline = event.attributes.get("outline-level", "1")
        return int(outline) + 1 if outline.isdecimal() else 2
    return int(event.name == "p" and event.attributes.get("style-name") in titles)


def _slide(events: Iterator[Event], number: int, deck: str) -> PartWords:
    """The slide that has just begun."""
    titles: list[str] = []
    texts: list[str] = []
    notes: list[str] = []
    into, depth = texts, 0
    for event in events:
        if isinstance(event, Start) and event.name in _SHAPES:
            kind = event.attributes.get("class", "")
            found = [block.text for block in _paragraphs(events)]
            if kind == "title" and into is texts:
                titles.append(" ".join(found))
            elif kind not in _FURNITURE:
                into += found
        elif isinstance(event, Start):
            depth += 1
            into = notes if event.name == "notes" else into
        elif isinstance(event, End):
            depth -= 1
            into = texts if event.name == "notes" else into
            if depth < 0:
                break
    about = [deck, *(title for title in titles if title != deck), *notes]
    return PartWords("\n".join(filter(None, [*titles, *texts])), "\n".join(filter(None, about)), page=number)


def _rows(events: Iterator[Event]) -> Iterator[str]:
    """The rows of the table that has just begun."""
    cells: list[str] = []
    depth = 0
    for event in events:
        if isinstance(event, Start) and event.name in ("table-cell", "covered-table-cell"):
            cells.append(" ".join(" ".join(block.text for block in _paragraphs(events)).split()))
        elif isinstance(event, Start):
            depth += 1
        elif isinstance(event, End):
            depth -= 1
            if depth < 0:
                return
            if event.name == "table-row":
                if row := "\t".join(filter(None, cells)):
                    yield row
                cells = []
