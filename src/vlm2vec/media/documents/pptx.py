"""Which words does a PPTX show and say?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vlm2vec.errors import LimitError
from vlm2vec.media.documents.archive import Archive, open_archive
from vlm2vec.media.documents.markup import End, Event, Start, text_of
from vlm2vec.media.documents.office import main_part, paragraphs, read_properties, relations
from vlm2vec.media.source import Limits
from vlm2vec.media.words import FileWords, PartWords

_TITLES = frozenset({"title", "ctrTitle"})
# Shapes that are the same on all slides, or numbers of slides.
_FURNITURE = frozenset({"sldNum", "dt", "hdr", "ftr", "sldImg"})


def read_pptx(path: Path, limits: Limits) -> FileWords:
    """A part for each slide, hidden ones too; its title and the speaker's notes describe it.

    Words of tables, charts and diagrams are among those of their slide.

    Raises:
        MediaError: missing, no PPTX, encrypted or damaged. LimitError: larger than `limits` allow.
    """
    with open_archive(path, limits) as archive:
        title, about = read_properties(archive)
        slides = _slides(archive)
        if len(slides) > limits.pages:
            raise LimitError(f"{path} has more than the {limits.pages:,} slides allowed; split it into parts")
        parts = tuple(_part(archive, slide, number, title) for number, slide in enumerate(slides, 1))
    return FileWords(about, parts)


def _slides(archive: Archive) -> list[str]:
    """The parts of the slides, in the order in which they are shown."""
    presentation = main_part(archive)
    targets = relations(archive, presentation)
    names = [
        event.attributes.get("r:id", "")
        for event in archive.events(presentation)
        if isinstance(event, Start) and event.name == "sldId"
    ]
    return [targets[name].path for name in names if name in targets]


def _part(archive: Archive, slide: str, number: int, deck: str) -> PartWords:
    titles, texts = _shapes(archive.events(slide))
    notes: list[str] = []
    for relation in relations(archive, slide).values():
        if relation.path not in archive:
            continue
        if relation.kind == "notesSlide":
            notes += _shapes(archive.events(relation.path))[1]
        elif relation.kind == "diagramData":
            texts += [text for text, _ in paragraphs(archive.events(relation.path))]
        elif relation.kind == "chart":
            texts += _chart(archive.events(relation.path))
    about = [deck, *(title for title in titles if title != deck), *notes]
    return PartWords(_joined([*titles, *texts]), _joined(about), page=number)


def _shapes(events: Iterator[Event]) -> tuple[list[str], list[str]]:
    """The paragraphs of titles, and those of all other shapes."""
    titles: list[str] = []
    texts: list[str] = []
    for event in events:
        if not isinstance(event, Start):
            continue
        if event.name == "sp":
            kind, found = _shape(events)
            if kind in _TITLES:
                titles.append(" ".join(" ".join(found).split()))
            elif kind not in _FURNITURE:
                texts += found
        elif event.name == "tbl":
            texts += [text for text, _ in paragraphs(events)]
    return titles, texts


def _shape(events: Iterator[Event]) -> tuple[str, list[str]]:
    """What a shape that has just begun is for ("" for one that has no place in the layout), and its paragraphs."""
    kind, found = "", list[str]()
    for event in events:
        if isinstance(event, Start) and event.name == "ph":
            kind = event.attributes.get("type", "body")
        elif isinstance(event, Start) and event.name == "txBody":
            found += [text for text, _ in paragraphs(events)]
        elif isinstance(event, End) and event.name == "sp":
            break
    return kind, found


def _chart(events: Iterator[Event]) -> list[str]:
    """Titles of a chart, names of its series and categories."""
    found: list[str] = []
    of_words = False
    for event in events:
        if isinstance(event, Start) and event.name in ("strCache", "numCache"):
            of_words = event.name == "strCache"
        elif isinstance(event, Start) and (event.name == "t" or (event.name == "v" and of_words)):
            found.append(text_of(events))
    return found


def _joined(texts: list[str]) -> str:
    return "\n".join(filter(None, map(str.strip, texts)))
