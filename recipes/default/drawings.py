"""What do the drawings of Open Clip Art show? Their titles, cleaned, and the files to draw them from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from fetch import UNPACKED
from holdouts import SAMPLES

FOLDER = UNPACKED / "openclipart" / "usr" / "share" / "openclipart" / "svg"
LIMIT_BYTES = 120_000
"""Larger files are left out: they are slow to draw and few."""

MOST_OF_A_TITLE = 4

_SKIPPED = (
    *("computer/icons", "computer/buttons", "recreation/games/cards", "logos", "special", "unsorted/duplicates"),
    *("signs_and_symbols/flags", "geography", "buttons", "shapes"),
)
_OF_CATALOGUES = {
    *("clip art", "clipart", "media", "color", "contour", "unsorted", "theme", "symbol", "signs_and_symbols"),
}
_TITLE = re.compile(r"<dc:title>([^<]{3,60})</dc:title>")
_TAG = re.compile(r"<rdf:li>([^<]{2,20})</rdf:li>")
_NOISE = re.compile(
    r"\b(clip ?art|svg|etiquette|theme|icon|contour|outline|bw|b ?& ?w|b/w|v?\d+(\.\d+)*|untitled"
    r"|architetto|francesco|rollandin)\b|[_#().,]|\d+"
)


class Drawing(NamedTuple):
    """A file by its path in the folder, so that no draw depends on where that lies; what it is called, and keywords."""

    file: str
    title: str
    tags: tuple[str, ...]


def read_drawings(words: Mapping[str, float], folder: Path = FOLDER) -> list[Drawing]:
    """Every usable drawing by path: one file a name, English title, no sample, no icon theme, few of a title.

    Args:
        words: that are known to be English.
    """
    found = []
    repeats: Counter[str] = Counter()
    for file in _files(folder):
        text = read_svg(file, folder)
        match = _TITLE.search(text)
        if match is None or "PublicDomain" not in text:
            continue
        title = " ".join(_NOISE.sub(" ", match[1].lower().replace("&amp;", "&")).split())
        known = [word for word in re.findall(r"[a-z]+", title) if word in words]
        # Many artists titled in Italian or French: half of a title has to be known English nouns.
        if len(title) < 3 or len(known) * 2 < len(title.split()):
            continue
        tags = {tag.strip().lower() for tag in _TAG.findall(text)} - _OF_CATALOGUES
        repeats[title] += 1
        if repeats[title] <= MOST_OF_A_TITLE:
            found.append(Drawing(file, title, tuple(sorted(tag for tag in tags if not tag.startswith("hash")))))
    return found


def read_svg(file: str, folder: Path = FOLDER) -> str:
    """The text of a drawing."""
    return (folder / file).read_text("utf-8", errors="replace")


def _files(folder: Path) -> Iterable[str]:
    seen = {*SAMPLES.drawings.values(), *SAMPLES.spare}
    for path in sorted(folder.rglob("*.svg")):
        file = path.relative_to(folder).as_posix()
        if path.name not in seen and not file.startswith(_SKIPPED) and path.stat().st_size <= LIMIT_BYTES:
            seen.add(path.name)
            yield file
