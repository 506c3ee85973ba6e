"""Which parts of a file are found by themselves, and which words does each of them hold?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vlm2vec.errors import MediaError
from vlm2vec.items import Image, Kind, Video
from vlm2vec.media.documents.render import SLIDES
from vlm2vec.media.words import FileWords, PartWords
from vlm2vec.search.scan import FileKind, ending, split_file
from vlm2vec.search.store import Words

if TYPE_CHECKING:
    from vlm2vec.media.sandbox import Decoder

_NO_SPAN = (0.0, float("inf"))


@dataclass(frozen=True, slots=True)
class Part:
    """A picture, page, section or span of a file.

    Args:
        page, span_s: as in a `StoredUnit`.
        medium: its picture; None for a section, which has none.
    """

    kind: Kind
    page: int | None
    span_s: tuple[float, float] | None
    medium: Image | Video | None
    words: Words


class FileParts(NamedTuple):
    """The parts of a file, and why its words could not be read; "" if they could."""

    parts: list[Part]
    no_words: str = ""


def read_parts(path: Path, kind: FileKind, decoder: Decoder) -> FileParts:
    """Divide a file into parts with their words.

    A picture, film or PDF whose words cannot be read is found by its look and its name.

    Raises:
        MediaError: the file is not what its ending says, or larger than the limits allow.
    """
    media = split_file(path, kind, decoder)
    if kind == "document":
        return FileParts(_document_parts(decoder.read_words(path), media, is_slides=ending(path.name) in SLIDES))
    try:
        words = decoder.read_words(path)
    except MediaError as error:
        return FileParts(_with_words(media, "", ()), str(error).removeprefix(f"{path} "))
    return FileParts(_with_words(media, words.about, words.parts))


def _document_parts(words: FileWords, media: Sequence[Image | Video], *, is_slides: bool) -> list[Part]:
    """Slides with their words; of other documents sections, and beside them the pages that a program has drawn."""
    if is_slides and media:
        return _with_words(media, words.about, words.parts)
    sections = [
        Part("text", one.page, one.span_s, None, Words(one.text, _joined(words.about if not number else "", one.about)))
        for number, one in enumerate(words.parts or (PartWords("", page=1),))
    ]
    return [*sections, *_with_words(media, "", ())]


def _with_words(media: Sequence[Image | Video], about: str, said: Sequence[PartWords]) -> list[Part]:
    """Give each part the words of its page or time. What is said of the whole file stands with the first."""
    places = [(one.page, None) if isinstance(one, Image) else (None, one.span_s) for one in media]
    of_part: list[list[PartWords]] = [[] for _ in media]
    for one in said:
        for number in _parts_of(one, places):
            of_part[number].append(one)
    parts: list[Part] = []
    for medium, (page, span_s), own in zip(media, places, of_part, strict=True):
        of_file = "" if parts else about
        words = Words(_joined(*(one.text for one in own)), _joined(of_file, *(one.about for one in own)))
        parts.append(Part(medium.kind, page, span_s, medium, words))
    return parts


def _joined(*texts: str) -> str:
    """Texts that are not empty, each different one once, a line each."""
    return "\n".join(filter(None, dict.fromkeys(texts)))


def _parts_of(said: PartWords, places: Sequence[tuple[int | None, tuple[float, float] | None]]) -> Sequence[int]:
    """The parts that words belong to: of a page its own, of a time those that it overlaps, or the one nearest to it.

    What is said of a time stands in the one part that has most of it, unless it describes all of the time.
    """
    if said.page is not None:
        return [number for number, (page, _) in enumerate(places) if page == said.page] or [0]
    if said.span_s is None:
        return [0]
    first_s, last_s = said.span_s

    def shared_s(number: int) -> float:
        """Less than 0 by as much as lies between them."""
        start_s, end_s = places[number][1] or _NO_SPAN
        return min(end_s, last_s) - max(start_s, first_s)

    most = max(range(len(places)), key=shared_s)
    return [most] if said.text else [number for number in range(len(places)) if shared_s(number) > 0] or [most]
