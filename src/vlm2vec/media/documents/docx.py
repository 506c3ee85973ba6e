"""Which words does a DOCX hold?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vlm2vec.media.documents.archive import Archive, open_archive
from vlm2vec.media.documents.markup import Start
from vlm2vec.media.documents.office import main_part, paragraphs, read_properties, relations, titled
from vlm2vec.media.documents.sections import Block, sections
from vlm2vec.media.source import Limits
from vlm2vec.media.words import FileWords

# Parts with words that stand apart from the text, each in the order of the file.
_NOTES = ("footnotes", "endnotes", "comments")
_MOST_LEVELS = 9


def read_docx(path: Path, limits: Limits) -> FileWords:
    """Sections by headings; footnotes, endnotes and comments are sections at the end.

    Heads and feet of pages, which repeat, and deleted text are left out.

    Raises:
        MediaError: missing, no DOCX, encrypted or damaged. LimitError: larger than `limits` allow.
    """
    with open_archive(path, limits) as archive:
        properties = read_properties(archive)
        blocks = list(_blocks(archive))
    title, about = titled(properties, blocks)
    return FileWords(about, sections(blocks, limits, str(path), title))


def _blocks(archive: Archive) -> Iterator[Block]:
    document = main_part(archive)
    others = relations(archive, document).values()
    levels: dict[str, int] = {}
    for relation in others:
        if relation.kind == "styles" and relation.path in archive:
            levels = _style_levels(archive, relation.path)
    for text, settings in paragraphs(archive.events(document)):
        yield Block(text, _level(settings, levels))
    notes = sorted((one for one in others if one.kind in _NOTES), key=lambda one: _NOTES.index(one.kind))
    for relation in notes:
        if relation.path in archive:
            yield Block("", level=1)
            yield from (Block(text) for text, _ in paragraphs(archive.events(relation.path)))


def _level(settings: dict[str, str], levels: dict[str, int]) -> int:
    outline = settings.get("outlineLvl", "")
    if outline.isdecimal():
        return _of_outline(int(outline))
    return levels.get(settings.get("pStyle", ""), 0)


def _of_outline(outline: int) -> int:
    """0 is that of "Heading 1", 9 that of text; the title stands above all."""
    return outline + 2 if outline < _MOST_LEVELS else 0


def _style_levels(archive: Archive, path: str) -> dict[str, int]:
    """Which styles of paragraphs are headings, of their own or by the style that they are based on."""
    levels: dict[str, int] = {}
    bases: dict[str, str] = {}
    style = ""
    for event in archive.events(path):
        if not isinstance(event, Start):
            continue
        value = event.attributes.get("val", "")
        if event.name == "style":
            style = event.attributes.get("styleId", "")
        elif event.name == "name":
            # Word writes the names of its own styles in English, whatever it shows.
            kind, _, number = value.lower().rpartition(" ")
            if value.lower() == "title":
                levels[style] = 1
            elif kind == "heading" and number.isdecimal():
                levels[style] = int(number) + 1
        elif event.name == "basedOn":
            bases[style] = value
        elif event.name == "outlineLvl" and value.isdecimal():
            levels.setdefault(style, _of_outline(int(value)))
    for name in bases:
        base, seen = name, set[str]()
        while base not in levels and base in bases and base not in seen:
            seen.add(base)
            base = bases[base]
        if base in levels:
            levels[name] = levels[base]
    return levels
