"""How does an image file become a picture, with every oddity of the file told as an error of its own?"""

from __future__ import annotations

import re
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import PIL.Image

from vlm2vec.errors import LimitError, MediaError
from vlm2vec.items import ANIMATED_SUFFIXES, Image, Source, Video
from vlm2vec.media.limits import DEFAULT_LIMITS, Limits
from vlm2vec.media.shown import (
    as_seen,
    has_signed_bytes,
    is_deep,
    is_see_through,
    is_white_zero,
    key_of_8_bits,
    orientation,
    shows_ground,
    upright,
    written_bits,
)
from vlm2vec.media.source import decoding, describe, open_source


def open_image(image: Image, limits: Limits = DEFAULT_LIMITS) -> PIL.Image.Image:
    """Decode a still picture, fully loaded.

    With `as_stored=True` it holds the stored pixels of the first frame, in its own mode. Otherwise it looks as to its
    owner: turned by its EXIF orientation (a picture with unreadable EXIF is taken as stored, as viewers do), on white
    in RGB if it has transparency, and of 8 bits: grey of more bits or of floating point becomes L, because converting
    it to RGB would turn everything above 255 white (`media.shown` says where black and white lie). Any other picture
    keeps its mode.

    Raises:
        MediaError: missing, empty, truncated, damaged, or no image at all.
        LimitError: more bytes or pixels than `limits` allow; pixels are counted from the header, before decoding.
    """
    with open_picture(image.source, limits) as picture:
        key = None if image.as_stored else key_of_8_bits(picture)
        if image.as_stored and picture.tell() != 0:
            frame = _frame_at(picture, 0)
        elif picture is image.source:
            picture.load()
            frame = picture
        else:
            picture.load()
            # Free of the closed file that the opened picture still refers to. Not by `copy`, which of a 200-megapixel
            # photograph takes another 800 MB.
            frame = picture._new(picture.im)
        if not image.as_stored:
            if key is not None:
                frame = frame.copy() if frame is image.source else frame
                frame.info["transparency"] = key
            return upright(as_seen(frame, picture), orientation(picture))
        if isinstance(frame.info.get("transparency"), bytes):
            # It has no part in a conversion to RGB, but would make Pillow warn there, outside of this package's reach.
            frame = frame.copy() if frame is image.source else frame
            del frame.info["transparency"]
        return frame


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
            if is_deep(picture):
                is_odd = is_white_zero(picture) or written_bits(picture) not in (16, None)
                return is_odd or "transparency" in picture.info
            if has_signed_bytes(picture) or not is_see_through(picture):
                return has_signed_bytes(picture)
            key = key_of_8_bits(picture)
            picture.load()
            if key is not None:
                picture.info["transparency"] = key
            return shows_ground(picture)
    except MediaError:
        return True


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


def animation_frames(picture: PIL.Image.Image) -> range:
    """The frame numbers that make up the animation of an opened picture; one of them for a still picture."""
    # Several pictures in a TIFF are pages, in a JPEG (MPO) views and gain maps: not a moving picture.
    if picture.format not in {"GIF", "WEBP", "PNG", "AVIF"}:
        return range(1)
    num_frames: int = getattr(picture, "n_frames", 1)
    # An animated PNG may begin with a picture that only programs without animation show.
    return range(1 if picture.info.get("default_image") and num_frames > 1 else 0, num_frames)


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
        with _quiet_pillow(), _pillow(name):
            _check_px(source.size, max_px, name)
            yield source
        return
    opened = open_source(source, "an image", limits)
    with opened as stream, _quiet_pillow(), _pillow(name):
        picture = _identify(stream, name)
        _check_px(picture.size, max_px, name)
        yield picture


def _frame_at(picture: PIL.Image.Image, index: int) -> PIL.Image.Image:
    # The picture may be the user's own, who finds it at the frame where it was.
    before = picture.tell()
    picture.seek(index)
    try:
        return picture.copy()
    finally:
        picture.seek(before)


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


def _check_px(size: tuple[int, int], max_px: int, name: str) -> None:
    width, height = size
    if width * height > max_px:
        raise LimitError(
            f"{name} is {width} x {height} pixels, more than the {max_px:,} pixels allowed; make it smaller"
        )
    if width < 1 or height < 1:
        raise MediaError(f"{name} is {width} x {height} pixels: there is nothing to see")


@contextmanager
def _pillow(name: str) -> Iterator[None]:
    with decoding(name, "an image"):
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
