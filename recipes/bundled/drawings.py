"""What do the drawings of Open Clip Art show? Their titles, cleaned, and the files to draw them from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from fetch import UNPACKED
from holdouts import SAMPLE_DRAWINGS, SPARE_DRAWINGS

FOLDER = UNPACKED / "openclipart" / "usr" / "share" / "openclipart" / "svg"

LIMIT_BYTES = 120_000
"""Larger files are left out: they are slow to draw and few."""

_SKIPPED = ("computer/icons", "computer/buttons", "recreation/games/cards", "logos", "special", "unsorted/duplicates",
            "signs_and_symbols/flags", "geography", "buttons", "shapes")  # fmt: skip
_TITLE = re.compile(r"<dc:title>([^<]{3,60})</dc:title>")
_TAG = re.compile(r"<rdf:li>([^<]{2,20})</rdf:li>")
_NOISE = re.compile(
    r"\b(clip ?art|svg|etiquette|theme|icon|contour|outline|bw|b ?& ?w|b/w|v?\d+(\.\d+)*|untitled"
    r"|architetto|francesco|rollandin)\b|[_#().,]|\d+"
)


def read_drawings(words: Mapping[str, float]) -> list[tuple[Path, str, tuple[str, ...]]]:
    """(file, title, tags) of every usable drawing: one file a name, English title, no sample, no icon theme,
    at most four of a title.
    """
    words_of_catalogues = {
        "clip art",
        "clipart",
        "media",
        "color",
        "contour",
        "unsorted",
        "theme",
        "symbol",
        "signs_and_symbols",
    }
    found, seen = [], {*SAMPLE_DRAWINGS.values(), *SPARE_DRAWINGS}
    repeats: Counter[str] = Counter()
    for path in sorted(FOLDER.rglob("*.svg")):
        if (
            path.stat().st_size > LIMIT_BYTES
            or path.name in seen
            or path.relative_to(FOLDER).as_posix().startswith(_SKIPPED)
        ):
            continue
        seen.add(path.name)
        text = path.read_text(encoding="utf-8", errors="replace")
        match = _TITLE.search(text)
        if match is None or "PublicDomain" not in text:
            continue
        title = " ".join(_NOISE.sub(" ", match[1].lower().replace("&amp;", "&")).split())
        known = [word for word in re.findall(r"[a-z]+", title) if word in words]
        # Many artists titled in Italian or French: half of a title has to be known English nouns.
        if len(title) < 3 or len(known) * 2 < len(title.split()):
            continue
        tags = tuple(
            sorted(
                tag
                for tag in {tag.strip().lower() for tag in _TAG.findall(text)}
                if tag not in words_of_catalogues and not tag.startswith("hash")
            )
        )
        repeats[title] += 1
        if repeats[title] <= 4:
            found.append((path, title, tags))
    return found
