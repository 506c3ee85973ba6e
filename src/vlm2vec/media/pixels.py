"""How do raw pixels become a picture?"""

from __future__ import annotations

import PIL.Image


def from_pixels(
    mode: str, size: tuple[int, int], pixels: bytes | memoryview, layout: str, stride: int = 0, orientation: int = 1
) -> PIL.Image.Image:
    """A picture with memory of its own.

    `PIL.Image.frombytes` fills that memory first, which takes ten times as long as the copy.

    Args:
        layout: how the pixels lie, by Pillow's name of it ("BGR", "RGBX").
        stride: bytes of a row; 0 if none is padded.
        orientation: -1 if the lowest row comes first.
    """
    picture = PIL.Image.new(mode, size, None)
    picture.frombytes(pixels, "raw", layout, stride, orientation)
    return picture
