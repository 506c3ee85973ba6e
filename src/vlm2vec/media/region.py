"""Which part of a picture is meant by "100,50,300,200" or "10%,20%,50%,50%"?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING, NamedTuple

from vlm2vec import media
from vlm2vec.errors import InputError
from vlm2vec.items import Image
from vlm2vec.media.source import describe

if TYPE_CHECKING:
    from vlm2vec.media.sandbox import Decoder

_LENGTH = re.compile(r"([0-9]+(?:\.[0-9]+)?)(%?)", re.ASCII)


class Length(NamedTuple):
    """In pixels, or in hundredths of a side of the picture."""

    value: float
    is_percent: bool = False

    def of(self, side_px: int) -> float:
        """In pixels of a side."""
        return self.value * side_px / 100 if self.is_percent else self.value


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle in a picture as it is seen: upright, `x` from the left and `y` from the top."""

    x: Length
    y: Length
    width: Length
    height: Length

    @classmethod
    def parse(cls, text: str) -> Region:
        """Read "x,y,width,height"; each in pixels, or in percent of the width or height of the picture.

        Raises:
            InputError: it is anything else.
        """
        matches = [_LENGTH.fullmatch(part.strip()) for part in text.split(",")]
        lengths = [Length(float(match[1]), bool(match[2])) for match in matches if match]
        if len(matches) != 4 or len(lengths) != 4:
            raise InputError(f"{text!r} is no region: write x,y,width,height, as 100,50,300,200 or 10%,20%,50%,50%")
        return cls(*lengths)

    def of(self, image: Image, decoder: Decoder = media) -> Image:
        """That part of a picture or page, decoded now.

        Raises:
            InputError: the region is empty, reaches out of the picture, or has pixels of a page, which has none.
            MediaError: the picture cannot be read.
        """
        lengths = (self.x, self.y, self.width, self.height)
        if image.page is not None and not all(length.is_percent for length in lengths):
            raise InputError(f"a page has no pixels: give the region in percent, as 10%,20%,50%,50%, not {self}")
        [picture] = decoder.load_frames(image, num_frames=1).images
        left, top = self.x.of(picture.width), self.y.of(picture.height)
        right, bottom = left + self.width.of(picture.width), top + self.height.of(picture.height)
        # A hundredth of a pixel is a rounding error.
        if right > picture.width + 0.01 or bottom > picture.height + 0.01:
            size = f"{picture.width} x {picture.height} pixels"
            raise InputError(f"the region {self} reaches out of {describe(image.source)}, which has {size}")
        x0, y0, x1, y1 = (floor(edge + 0.5) for edge in (left, top, right, bottom))
        if x0 == x1 or y0 == y1:
            raise InputError(f"the region {self} of {describe(image.source)} is empty")
        part = picture.crop((x0, y0, x1, y1))
        # It is upright already, and must not be turned once more.
        part.info = {}
        return Image(part)

    def __str__(self) -> str:
        lengths = (self.x, self.y, self.width, self.height)
        return ",".join(f"{length.value:g}{'%' if length.is_percent else ''}" for length in lengths)
