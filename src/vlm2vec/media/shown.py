"""How does a decoded picture look to its owner: with which brightness, on which ground, which way up?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_SIGNED = 2
"""The sample format of signed integers in a TIFF."""


def as_seen(frame: PIL.Image.Image, opened: PIL.Image.Image) -> PIL.Image.Image:
    """Make a picture one of 8 bits a channel without transparency; a picture that is one comes back as it is.

    Args:
        frame: the decoded picture, which is not changed.
        opened: the picture as its file was opened, which knows the format; it may be `frame` itself.
    """
    if is_deep(frame) or has_signed_bytes(opened):
        return _as_8_bit(frame, opened)
    return frame.convert("RGB") if _is_alpha_void(frame, opened) else on_white(frame)


def on_white(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Compose a picture with transparency on white, in RGB; any other comes back as it is."""
    if not is_see_through(picture):
        if picture.mode != "P" and isinstance(picture.info.get("transparency"), bytes):
            # It has no meaning outside of a palette, but would make Pillow warn when the picture is converted.
            picture = picture.copy()
            del picture.info["transparency"]
        return picture
    if picture.mode == "La":
        picture = picture.convert("LA")
    if picture.mode not in ("RGBA", "RGBa"):
        picture = picture.convert("RGBA")
    ground = PIL.Image.new("RGB", picture.size, "white")
    # The mode of the mask says whether the colours are multiplied by it already.
    ground.paste(picture, mask=picture)
    return ground


def is_see_through(picture: PIL.Image.Image) -> bool:
    """Whether a picture has an alpha channel, a palette with alpha or a transparent colour, used or not."""
    if picture.mode == "P":
        return picture.has_transparency_data
    if picture.mode in ("1", "L", "RGB"):
        return isinstance(picture.info.get("transparency"), (int, tuple))
    return picture.mode in ("LA", "La", "PA", "RGBA", "RGBa")


def shows_ground(picture: PIL.Image.Image) -> bool:
    """Whether the white ground shows through an opened and decoded picture that is see-through by its mode."""
    if _is_alpha_void(picture, picture):
        return False
    alpha = picture if picture.mode in ("RGBA", "LA") else picture.convert("RGBA")
    return alpha.getchannel("A").getextrema() != (255, 255)


def is_deep(picture: PIL.Image.Image) -> bool:
    """Whether a picture is grey of 16 bits, 32 bits or floating point."""
    return picture.mode in ("I", "F") or picture.mode.startswith("I;16")


def is_white_zero(opened: PIL.Image.Image) -> bool:
    """Whether an opened TIFF says that 0 is white, which Pillow heeds up to 8 bits only."""
    return _tiff_tag(opened, _PHOTOMETRIC) == 0


def has_signed_bytes(opened: PIL.Image.Image) -> bool:
    """Whether an opened picture is a TIFF of signed 8 bits, which Pillow takes as unsigned."""
    return opened.mode == "L" and _tiff_tag(opened, _SAMPLE_FORMAT) == _SIGNED


def written_bits(opened: PIL.Image.Image) -> int | None:
    """How many bits a channel of an opened TIFF has in the file; None for other formats."""
    return _tiff_tag(opened, _BITS_PER_SAMPLE)


def orientation(picture: PIL.Image.Image) -> int:
    """The EXIF orientation of an opened picture; 1, which is upright, if it has none that can be read."""
    try:
        return int(picture.getexif().get(0x0112, 1))
    except Exception:  # Damaged EXIF raises anything; the pixels are good.
        return 1


def upright(picture: PIL.Image.Image, orientation: int) -> PIL.Image.Image:
    """Turn a picture as its EXIF orientation says; it comes back as it is where nothing has to be turned."""
    transpose = _TRANSPOSE.get(orientation)
    return picture if transpose is None else picture.transpose(transpose)


def key_of_8_bits(opened: PIL.Image.Image) -> int | tuple[int, ...] | None:
    """The transparent colour of an opened PNG in the numbers of its decoded pixels, where Pillow tells other numbers.

    Pillow spreads grey of 2 and 4 bits over 0..255 and drops the lower byte of 16-bit colour, but leaves the
    transparent colour as it is written. Must be asked before the picture is decoded. None: nothing to correct.
    """
    key = opened.info.get("transparency")
    raw_mode = opened.tile[0][3] if isinstance(opened, ImageFile) and opened.tile else None
    if isinstance(key, int) and raw_mode in ("L;2", "L;4"):
        return key * (85 if raw_mode == "L;2" else 17)
    if isinstance(key, tuple) and raw_mode == "RGB;16B":
        return tuple(part >> 8 for part in key)
    return None


_TRANSPOSE = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
"""How a picture with this EXIF orientation is turned upright."""


def _is_alpha_void(frame: PIL.Image.Image, opened: PIL.Image.Image) -> bool:
    if frame.mode != "RGBA":
        return False
    # The flat picture of a PSD lies on white already, and its fourth channel may be a stored selection.
    if opened.format == "PSD":
        return True
    # Many programs leave the fourth byte of these at 0 and mean an opaque picture.
    return opened.format in ("BMP", "DIB", "TGA", "DDS") and frame.getchannel("A").getextrema() == (0, 0)


def _as_8_bit(frame: PIL.Image.Image, opened: PIL.Image.Image) -> PIL.Image.Image:
    values = np.asarray(frame)
    grey = _of_floats(values) if frame.mode == "F" else _of_integers(values, opened)
    if is_deep(frame) and is_white_zero(opened):
        np.subtract(255, grey, out=grey)
    if frame.mode == "F":
        grey[np.isnan(values)] = 0
    key = frame.info.get("transparency")
    if isinstance(key, int):
        grey[values == key] = 255
    return PIL.Image.fromarray(grey)


def _of_floats(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Bring floating point to 0..255: black at 0 and below, white at 1, at 255 or at 65535 and above.

    Which of the three is white is judged by the lit values, those above 0 and up to 65535; infinities and values that
    no range holds (marks for missing data) have no say. It is 1 where nearly all lit values (99 of 100) are at most 16,
    since with another white such a picture were black, or where half of them are at most 1 (bright lights in a picture
    from 0 to 1 may take the other half). But whole numbers are mostly 8 bits in a wider type, dark ones too: for them,
    it is 1 only where all lit values are at most 16, or nine of ten are 1. Otherwise white is 255 if nearly all lit
    values are at most twice that, which leaves room for the overshoot of a sharpened picture, or else 65535.
    """
    lit = values[(values > 0) & (values <= 65535)]

    def at_most(bound: float, parts: int) -> bool:
        """Whether at most one in so many lit values is above the bound."""
        return int(np.count_nonzero(lit > bound)) * parts <= len(lit)

    if np.array_equal(lit, np.rint(lit)):
        is_unit = at_most(16, len(lit) + 1) or at_most(1, 10)
    else:
        is_unit = at_most(16, 100) or at_most(1, 2)
    white, scale = (1.0, 255.0) if is_unit else (255.0, 1.0) if at_most(510, 100) else (65535.0, 1 / 256)
    shown = np.nan_to_num(values, nan=0.0, posinf=white, neginf=0.0)
    np.clip(shown, 0.0, white, out=shown)
    np.multiply(shown, scale, out=shown)
    return shown.astype(np.uint8)


def _of_integers(values: NDArray[np.integer], opened: PIL.Image.Image) -> NDArray[np.uint8]:
    """Bring whole numbers to 0..255 by dropping the lower of the bits that they have in the file; negative is black.

    Numbers that fit into 8 bits are kept: somebody widened them. For the same reason 32 bits are taken as 16, unless
    more than half of what is above 0 is larger.
    """
    bits = written_bits(opened) or 8 * values.itemsize
    is_signed = values.dtype == np.int32 if opened.format != "TIFF" else _tiff_tag(opened, _SAMPLE_FORMAT) == _SIGNED
    if bits == 8:
        return (values.view(np.int8).clip(0) * 2).astype(np.uint8)
    if bits == 32:
        # Pillow knows signed 32 bits only.
        values = values if is_signed else values.view(np.uint32)
        if 2 * np.count_nonzero(values > 65535) <= np.count_nonzero(values > 0):
            bits, is_signed = 16, False
    if values.max() <= 255:
        return values.clip(0, 255).astype(np.uint8)
    used = bits - is_signed
    return (values.clip(0, (1 << used) - 1) >> (used - 8)).astype(np.uint8)


def _tiff_tag(opened: PIL.Image.Image, tag: int) -> int | None:
    # Not by its class, whose import costs start-up time that most runs do not need.
    tags: Mapping[int, tuple[int, ...] | int] = getattr(opened, "tag_v2", {}) if opened.format == "TIFF" else {}
    value = tags.get(tag)
    return value[0] if isinstance(value, tuple) else value
