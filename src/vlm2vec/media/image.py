"""How does an image file become a picture as its owner sees it: its brightness, its ground, which way up?"""

from __future__ import annotations

import re
import struct
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

from vlm2vec.errors import LimitError, MediaError
from vlm2vec.items import ANIMATED_SUFFIXES, Image, Source, Video
from vlm2vec.media.formats import open_other
from vlm2vec.media.source import DEFAULT_LIMITS, Limits, check_px, decoding, describe, open_source

# Tags of a TIFF: how many bits a channel has, whether 0 is white (Pillow heeds it up to 8 bits only), and whether
# integers are signed (Pillow takes signed 8 bits as unsigned).
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2
# Pillow keeps a pixel in four bytes, except in these modes.
_MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
RGB_BYTES = 4
# Floating-point and 16-bit pictures go through arrays of 8 bytes a number.
_WIDE_BYTES = 24


def open_image(
    image: Image, limits: Limits = DEFAULT_LIMITS, *, least_px: tuple[int, int] | None = None
) -> PIL.Image.Image:
    """Decode a still picture, fully loaded.

    With `as_stored=True` it holds the stored pixels of the first frame, in its own mode. Otherwise it looks as to its
    owner: turned by its EXIF orientation (a picture with unreadable EXIF is taken as stored, as viewers do), on white
    in RGB if it has transparency, and of 8 bits: grey of more bits or of floating point becomes L, because converting
    it to RGB would turn everything above 255 white (`_of_floats` and `_of_integers` say where black and white lie).
    Any other picture keeps its mode.

    Args:
        least_px: width and height that are enough, if the caller makes the picture smaller anyway: see `draft`.

    Raises:
        MediaError: missing, empty, truncated, damaged, or no image at all.
        LimitError: more bytes or pixels than `limits` allow; pixels are counted from the header, before decoding.
    """
    with open_picture(image.source, limits) as picture:
        draft(picture, image, least_px)
        key = None if image.as_stored else _key_of_8_bits(picture)
        if image.as_stored and (before := picture.tell()) != 0:
            # The picture is the user's own, who finds it at the frame where it was.
            picture.seek(0)
            try:
                frame = picture.copy()
            finally:
                picture.seek(before)
        else:
            picture.load()
            # Free of the closed file that the opened picture still refers to. Not by `copy`, which of a 200-megapixel
            # photograph takes another 800 MB.
            frame = picture if picture is image.source else picture._new(picture.im)
        if not image.as_stored:
            if key is not None:
                frame = frame.copy() if frame is image.source else frame
                frame.info["transparency"] = key
            return upright(_as_seen(frame, picture), orientation(picture))
        if isinstance(frame.info.get("transparency"), bytes):
            # It has no part in a conversion to RGB, but would make Pillow warn there, outside of this package's reach.
            frame = frame.copy() if frame is image.source else frame
            del frame.info["transparency"]
        return frame


def resolve(medium: Image | Video) -> Image | Video:
    """Take an animated GIF, WebP, PNG or AVIF as a video, unless it is opened as stored (`as_stored=True`).

    Everything else comes back as it is, an unreadable file too: its error is raised when it is decoded.
    """
    if isinstance(medium, Video) or medium.as_stored or medium.page is not None:
        return medium
    if isinstance(medium.source, Path) and medium.source.suffix.lower() not in ANIMATED_SUFFIXES:
        return medium
    try:
        with open_picture(medium.source, DEFAULT_LIMITS) as picture:
            animated = len(animation_frames(picture)) > 1
    except MediaError:
        return medium
    return Video(medium.source) if animated else medium


@contextmanager
def open_picture(source: Source, limits: Limits, *, max_px: int | None = None) -> Iterator[PIL.Image.Image]:
    """Open a picture with its header read and checked, its pixels not yet decoded.

    An error of Pillow inside the block becomes a `MediaError`, and its warnings stay quiet.

    Args:
        source: a path, the bytes of a file, or a PIL image, which is yielded itself.
        limits: `image_bytes` and, unless `max_px` is given, `image_px` apply.
        max_px: the most pixels allowed.
    """
    name = describe(source)
    max_px = limits.image_px if max_px is None else max_px
    if isinstance(source, PIL.Image.Image):
        with _pillow(name):
            check_px(source.size, max_px, name)
            yield source
        return
    with open_source(source, "an image", limits) as stream, _pillow(name):
        suffix = source.suffix.lower() if isinstance(source, Path) else ""
        picture = open_other(
            stream, name, suffix, lambda inner: _identify(inner, name), limits=limits, max_px=max_px
        ) or _identify(stream, name)
        check_px(picture.size, max_px, name)
        yield picture


def animation_frames(picture: PIL.Image.Image) -> range:
    """The frame numbers that make up the animation of an opened picture; one of them for a still picture."""
    # Several pictures in a TIFF are pages, in a JPEG (MPO) views and gain maps: not a moving picture.
    if picture.format not in {"GIF", "WEBP", "PNG", "AVIF"}:
        return range(1)
    num_frames: int = getattr(picture, "n_frames", 1)
    # An animated PNG may begin with a picture that only programs without animation show.
    return range(1 if picture.info.get("default_image") and num_frames > 1 else 0, num_frames)


def draft(picture: PIL.Image.Image, image: Image, least_px: tuple[int, int] | None) -> None:
    """Let an opened JPEG be decoded at a half, a quarter or an eighth of its size, the smallest that is large enough.

    Its decoder leaves out the fine parts of each block, which takes less time and memory than to decode all and make
    that smaller; the picture comes out nearly the same, but not to the bit. Every other picture keeps its size, also a
    JPEG that is wanted as stored, and a PIL image, which is the user's own.

    Args:
        picture: as `open_picture` yields it of `image`.
        least_px: width and height that it must keep, as its owner sees it; None: all that it has.
    """
    if least_px is None or image.as_stored or picture is image.source or picture.format not in ("JPEG", "MPO"):
        return
    # Stored on its side, it is turned after it is decoded.
    picture.draft(None, least_px[::-1] if orientation(picture) in _SIDEWAYS else least_px)


def decoding_bytes(picture: PIL.Image.Image, *, as_stored: bool) -> int:
    """Memory that an opened still picture takes while it is decoded and made RGB, told from its header."""
    stored = _MODE_BYTES.get(picture.mode, RGB_BYTES)
    if _is_deep(picture):
        stored += _WIDE_BYTES
    converted = 0 if picture.mode == "RGB" else RGB_BYTES
    if not as_stored and _is_see_through(picture):
        # Made RGBA where it is not, and laid on white.
        converted = RGB_BYTES if picture.mode in ("RGBA", "RGBa") else 2 * RGB_BYTES
    turned = 0
    # Asked of its EXIF data without need, Pillow would decode a PNG for them.
    if not as_stored and (picture.format == "TIFF" or ("exif" in picture.info and orientation(picture) != 1)):
        turned = stored
    return picture.width * picture.height * (stored + max(converted, turned))


def shown_otherwise(source: Path, limits: Limits = DEFAULT_LIMITS) -> bool:
    """Whether a picture file may come out otherwise than before transparency was laid on white.

    True for a picture of which something shows through, an animation, floating point, and the integers whose meaning
    Pillow does not tell (16 bits with white at 0, signed and 32-bit TIFF); also for a file that cannot be opened.
    False for every JPEG and ordinary opaque pictures. Pixels are decoded only if there is an alpha channel to look at.
    """
    try:
        with open_picture(source, limits) as picture:
            if picture.format in ("JPEG", "MPO"):
                return False
            if len(animation_frames(picture)) > 1 or picture.mode in ("F", "I"):
                return picture.mode != "I" or picture.format == "TIFF"
            if _is_deep(picture):
                white, bits = _tiff_tag(picture, _PHOTOMETRIC), _tiff_tag(picture, _BITS_PER_SAMPLE)
                return white == _WHITE_IS_ZERO or bits not in (16, None) or "transparency" in picture.info
            if _has_signed_bytes(picture) or not _is_see_through(picture):
                return _has_signed_bytes(picture)
            key = _key_of_8_bits(picture)
            picture.load()
            if key is not None:
                picture.info["transparency"] = key
            return _shows_ground(picture)
    except MediaError:
        return True


def on_white(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Compose a picture with transparency on white, in RGB; any other comes back as it is."""
    if not _is_see_through(picture):
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


def orientation(picture: PIL.Image.Image) -> int:
    """The EXIF orientation of an opened picture; 1, which is upright, if it has none that can be read."""
    try:
        return int(picture.getexif().get(0x0112, 1))
    except Exception:  # Damaged EXIF raises anything; the pixels are good.
        return 1


def upright(picture: PIL.Image.Image, orientation: int) -> PIL.Image.Image:
    """Turn a picture as its EXIF orientation says; it comes back as it is where nothing has to be turned.

    A turned picture has no orientation any more, so that it is not turned again when it is taken as an item.
    """
    transpose = _TRANSPOSE.get(orientation)
    if transpose is None:
        return picture
    turned = picture.transpose(transpose)
    for name in _EXIF:
        turned.info.pop(name, None)
    return turned


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
_EXIF = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
"""Names under which Pillow keeps what has an orientation in it."""
_SIDEWAYS = (5, 6, 7, 8)
"""Orientations in which width and height change places."""


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


def _identify(stream: BinaryIO, name: str) -> PIL.Image.Image:
    # Not PIL.Image.open: it refuses pictures above a limit of its own (half of ours) that only a global can change,
    # and given a path it maps uncompressed files into memory, which kills the process if the file shrinks meanwhile.
    prefix = stream.read(16)
    tried = {"EPS"}  # Pillow would start Ghostscript on it.
    for load_plugins in (PIL.Image.preinit, PIL.Image.init):
        load_plugins()
        for kind in [kind for kind in PIL.Image.ID if kind not in tried]:
            tried.add(kind)
            factory, accept = PIL.Image.OPEN[kind]
            accepted = accept(prefix) if accept else True
            if isinstance(accepted, str):  # The reason why this installation cannot read the format.
                raise MediaError(f"{name} cannot be read as an image: {accepted}")
            if not accepted:
                continue
            stream.seek(0)
            try:
                return factory(stream, "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue  # How a plugin says that the file is of another format.
    if prefix.startswith(b"%PDF"):
        raise MediaError(f"{name} is a PDF: take a page of it by Image(path, page=1), or all by read_pages(path)")
    raise MediaError(
        f"{name} cannot be read as an image: its content is damaged or of no known format; "
        "check that the file is what its name says"
    )


@contextmanager
def _pillow(name: str) -> Iterator[None]:
    with _quiet_pillow(), decoding(name, "an image"):
        try:
            yield
        except PIL.Image.DecompressionBombError as error:
            raise LimitError(f"{name} is larger than Pillow decodes this format: {error}") from error


_quiet_lock = threading.Lock()
_quiet_depth = 0
_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
"""The entry that `warnings.filterwarnings` makes of it."""


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    # Warning filters belong to the process, not to the thread: the first one in silences Pillow, the last one out takes
    # that back. Not by `catch_warnings`, which would restore all filters as another thread had them at that moment.
    global _quiet_depth
    with _quiet_lock:
        if _quiet_depth == 0:
            warnings.filterwarnings("ignore", module=_QUIET[3].pattern)
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0 and isinstance(warnings.filters, list) and _QUIET in warnings.filters:
                warnings.filters.remove(_QUIET)


def _key_of_8_bits(opened: PIL.Image.Image) -> int | tuple[int, ...] | None:
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


def _as_seen(frame: PIL.Image.Image, opened: PIL.Image.Image) -> PIL.Image.Image:
    """Make a picture one of 8 bits a channel without transparency; a picture that is one comes back as it is.

    Args:
        frame: the decoded picture, which is not changed.
        opened: the picture as its file was opened, which knows the format; it may be `frame` itself.
    """
    if _is_deep(frame) or _has_signed_bytes(opened):
        return _as_8_bit(frame, opened)
    return frame.convert("RGB") if _is_alpha_void(frame, opened) else on_white(frame)


def _is_see_through(picture: PIL.Image.Image) -> bool:
    """Whether a picture has an alpha channel, a palette with alpha or a transparent colour, used or not."""
    if picture.mode == "P":
        return picture.has_transparency_data
    if picture.mode in ("1", "L", "RGB"):
        return isinstance(picture.info.get("transparency"), (int, tuple))
    return picture.mode in ("LA", "La", "PA", "RGBA", "RGBa")


def _shows_ground(picture: PIL.Image.Image) -> bool:
    """Whether the white ground shows through an opened and decoded picture that is see-through by its mode."""
    if _is_alpha_void(picture, picture):
        return False
    alpha = picture if picture.mode in ("RGBA", "LA") else picture.convert("RGBA")
    return alpha.getchannel("A").getextrema() != (255, 255)


def _is_deep(picture: PIL.Image.Image) -> bool:
    """Whether a picture is grey of 16 bits, 32 bits or floating point."""
    return picture.mode in ("I", "F") or picture.mode.startswith("I;16")


def _has_signed_bytes(opened: PIL.Image.Image) -> bool:
    """Whether an opened picture is a TIFF of signed 8 bits, which Pillow takes as unsigned."""
    return opened.mode == "L" and _tiff_tag(opened, _SAMPLE_FORMAT) == _SIGNED


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
    if _is_deep(frame) and _tiff_tag(opened, _PHOTOMETRIC) == _WHITE_IS_ZERO:
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
    bits = _tiff_tag(opened, _BITS_PER_SAMPLE) or 8 * values.itemsize
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
