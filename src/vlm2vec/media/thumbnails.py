"""How does a medium look when it is small?"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image

from vlm2vec import media
from vlm2vec.errors import MediaError
from vlm2vec.items import Image, Video
from vlm2vec.media.image import on_white

if TYPE_CHECKING:
    from rich.text import Text

    from vlm2vec.media.sandbox import Decoder


def thumbnail_uri(medium: Image | Video, max_px: int, decoder: Decoder = media) -> str | None:
    """A medium, or the middle frame of a video, at most `max_px` a side: a JPEG inside the address of an `<img>`.

    None if it can no longer be read.
    """
    picture = _thumbnail(medium, max_px, decoder)
    if picture is None:
        return None
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def thumbnail_text(medium: Image | Video, columns: int, decoder: Decoder = media) -> Text | None:
    """A medium drawn with "▀" characters, two pixels each, for a terminal with 24-bit colour.

    It is at most as high as wide; of a taller one the width shrinks. None if it can no longer be read.
    """
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    picture = _thumbnail(medium, 4 * columns, decoder)
    if picture is None:
        return None
    width = max(1, round(columns * min(1.0, picture.width / picture.height)))
    height = max(2, round(min(columns, picture.height * width / picture.width) / 2) * 2)
    pixels = np.asarray(picture.resize((width, height)))
    text = Text()
    for upper_row, lower_row in zip(pixels[::2], pixels[1::2], strict=True):
        for upper, lower in zip(upper_row, lower_row, strict=True):
            text.append("▀", Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower)))
        text.append("\n")
    return text


def _thumbnail(medium: Image | Video, max_px: int, decoder: Decoder) -> PIL.Image.Image | None:
    """The middle picture in RGB, at most `max_px` a side; None if it can no longer be read."""
    try:
        frames = decoder.load_frames(medium, num_frames=3).images
    except MediaError:
        return None
    picture = frames[len(frames) // 2]
    # White also where a benchmark drops the alpha channel: RGB alone would show hidden colours.
    picture = on_white(picture).convert("RGB")
    share = min(1.0, max_px / max(picture.size))
    # However thin, something is left to see.
    return picture.resize([max(1, round(side * share)) for side in picture.size]) if share < 1 else picture
