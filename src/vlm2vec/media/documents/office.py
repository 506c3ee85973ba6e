"""What do all Office Open XML files (DOCX, PPTX, XLSX) share: parts that refer to each other, and properties?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vlm2vec.errors import MediaError
from vlm2vec.media.documents.archive import Archive, inner_path
from vlm2vec.media.documents.markup import End, Event, Start, skip, text_of
from vlm2vec.media.documents.sections import Block
from vlm2vec.media.plain_text import date_words

_PROPERTIES = "docProps/core.xml"
_DESCRIBING = ("title", "subject", "keywords", "description", "creator", "category")
# PowerPoint writes it when nobody has given one.
_NO_TITLES = frozenset({"PowerPoint Presentation"})


class Relation(NamedTuple):
    """One part of a file refers to another.

    Args:
        kind: the last word of its type, such as "slide" or "notesSlide".
        path: of the part that is referred to.
    """

    kind: str
    path: str


class Properties(NamedTuple):
    """What a document says of itself: its title, and all of it in lines."""

    title: str
    about: str


def main_part(archive: Archive) -> str:
    """The part with which a file begins.

    Raises:
        MediaError: no part is named, so that it is no Office file.
    """
    for relation in relations(archive, "").values():
        if relation.kind == "officeDocument":
            return relation.path
    raise MediaError(
        f"{archive.name} cannot be read as a document: it is no Office file; check that it is what its name says"
    )


def relations(archive: Archive, path: str) -> dict[str, Relation]:
    """What a part refers to inside of the file, by the names it uses; "" stands for the file itself."""
    folder, _, name = path.rpartition("/")
    where = f"{folder}/_rels/{name}.rels".lstrip("/")
    found: dict[str, Relation] = {}
    for event in archive.events(where) if where in archive else ():
        if isinstance(event, Start) and event.name == "Relationship":
            told = event.attributes
            if told.get("TargetMode") != "External":
                kind = told.get("Type", "").rpartition("/")[2]
                found[told.get("Id", "")] = Relation(kind, inner_path(path, told.get("Target", "")))
    return found


def read_properties(archive: Archive) -> Properties:
    """Title, subject, keywords and so on, with the day on which the file was made."""
    told = _texts(archive.events(_PROPERTIES)) if _PROPERTIES in archive else {}
    if told.get("title") in _NO_TITLES:
        del told["title"]
    lines = [*(told.get(name, "") for name in _DESCRIBING), date_words(told.get("created", ""))]
    return Properties(told.get("title", ""), "\n".join(filter(None, lines)))


def titled(properties: Properties, blocks: list[Block]) -> Properties:
    """What a document says of itself, with its first heading of level 1, which stands for its title, if it has none."""
    title = next((block.text.strip() for block in blocks if block.level == 1), "")
    if properties.title or not title:
        return properties
    return Properties(title, "\n".join(filter(None, (title, properties.about))))


def paragraphs(events: Iterator[Event]) -> Iterator[tuple[str, dict[str, str]]]:
    """The paragraphs of the element that has just begun, or of a whole part: text, and what is set for each.

    Set are `pStyle` and `outlineLvl` of DOCX. A paragraph inside another (a text box) comes before it. Deleted text and
    the second form of what is there for old programs are left out.
    """
    open_ones: list[tuple[list[str], dict[str, str]]] = []
    depth = 0
    for event in events:
        if isinstance(event, str):
            continue
        if isinstance(event, End):
            depth -= 1
            if event.name == "p" and open_ones:
                texts, settings = open_ones.pop()
                yield "".join(texts), settings
            if depth < 0:
                return
            continue
        depth += 1
        if event.name in ("Fallback", "del", "moveFrom"):
            skip(events)
            depth -= 1
        elif event.name == "p":
            open_ones.append(([], {}))
        elif open_ones:
            depth -= _take(event, events, *open_ones[-1])


def _take(event: Start, events: Iterator[Event], texts: list[str], settings: dict[str, str]) -> int:
    """Add an element of a paragraph to its text or settings. Returns 1 if it was read to its end, or else 0."""
    if event.name == "t":
        texts.append(text_of(events))
        return 1
    if event.name in ("pStyle", "outlineLvl"):
        settings[event.name] = event.attributes.get("val", "")
    elif event.name == "tabs":
        skip(events)
        return 1
    elif event.name in ("br", "cr"):
        texts.append("\n")
    elif event.name in ("tab", "ptab"):
        texts.append("\t")
    elif event.name == "noBreakHyphen":
        texts.append("-")
    return 0


def _texts(events: Iterator[Event]) -> dict[str, str]:
    """The text of each element below the first, in one line."""
    found: dict[str, str] = {}
    next(events, None)
    for event in events:
        if isinstance(event, Start) and (text := " ".join(text_of(events).split())):
            found[event.name] = text
    return found
