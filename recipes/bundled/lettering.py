"""How are words put on signs, slides and charts? In fonts that come with matplotlib, in as few lines as may be."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import matplotlib
from PIL import ImageDraw, ImageFont


@cache
def font(face: str, size_px: int) -> ImageFont.FreeTypeFont:
    """A face by the name of its file."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf", size_px)


def broken(
    pen: ImageDraw.ImageDraw,
    words: str,
    face: str,
    size_px: int,
    width_px: float,
    most: int = 2,
    *,
    smallest_px: int = 8,
) -> list[tuple[str, ImageFont.FreeTypeFont]]:
    """Lines and their font: the largest up to a size that lets the words stand in `most` lines, or the smallest."""
    while True:
        letters, lines, line = font(face, size_px), [], ""
        for word in words.split(" "):
            longer = f"{line} {word}".strip()
            if line and pen.textlength(longer, font=letters) > width_px:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
        fits = len(lines) <= most and max(pen.textlength(part, font=letters) for part in lines) <= width_px
        if fits or size_px <= smallest_px:
            return [(part, letters) for part in lines]
        size_px -= 1
