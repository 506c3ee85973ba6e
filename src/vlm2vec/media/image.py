"""How does an image file become a picture, with every oddity of the file told as an error of its own?"""

from __future__ import annotations

import re
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import PIL.Image

from vlm2vec.errors import LimitError, MediaError
from vlm2vec.items import Image, Source, Video
from vlm2vec.media.limits import DEFAULT_LIMITS, Limits
from vlm2vec.media.source import decoding, describe, open_source

ANIMATED_SUFFIXES = frozenset({".gif", ".webp", ".png", ".apng", ".avif", ".avifs"})


def open_image(image: Image, limits: Limits = DEFAULT_LIMITS) -> PIL.Image.Image:
    """Decode a still picture, fully loaded and in its own mode.

    With `exif=False` it holds the stored pixels of the first frame. With `exif=True` the EXIF orientation is applied
    (a picture with unreadable EXIF is taken as stored, as viewers do) and 16-bit grey becomes 8-bit L by scaling,
    because converting it to RGB would turn everything above 255 white.

    Raises:
        MediaError: missing, empty, truncated, damaged, or no image at all.
        LimitError: more bytes or pixels than `limits` allow; pixels are counted from the header, before decoding.
    """
    with open_picture(image.source, limits) as picture:
        if not image.exif and picture.tell() != 0:
            frame = _frame_at(picture, 0)
        elif picture is image.source:
            picture.load()
            frame = picture
        else:
            # A copy is free of the closed file that the opened picture still refers to.
            frame = picture.copy()
        if isinstance(frame.info.get("transparency"), bytes):
            # It has no part in a conversion to RGB, but would make Pillow warn there, outside of this package's reach.
            frame = frame.copy() if frame is image.source else frame
            del frame.info["transparency"]
        if not image.exif:
            return frame
        transpose = _TRANSPOSE.get(_orientation(picture))
        return _as_8_bit(frame if transpose is None else frame.transpose(transpose))


def resolve(medium: Image | Video) -> Image | Video:
    """Take an animated GIF, WebP, PNG or AVIF as a video, unless it is opened as stored (`exif=False`).

    Everything else comes back as it is, an unreadable file too: its error is raised when it is decoded.
    """
    if isinstance(medium, Video) or not medium.exif or medium.page is not None:
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

    What Pillow raises inside the block becomes a `MediaError`, and what it warns of stays quiet.

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
    opened = open_source(source, kind="an image", max_bytes=limits.image_bytes)
    with opened as stream, _quiet_pillow(), _pillow(name):
        picture = _identify(stream, name)
        _check_px(picture.size, max_px, name)
        yield picture


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


def _orientation(picture: PIL.Image.Image) -> int:
    try:
        return int(picture.getexif().get(0x0112, 1))
    except Exception:  # Damaged EXIF raises anything; the pixels are good.
        return 1


def _frame_at(picture: PIL.Image.Image, index: int) -> PIL.Image.Image:
    # The picture may be the user's own, who finds it at the frame where it was.
    before = picture.tell()
    picture.seek(index)
    try:
        return picture.copy()
    finally:
        picture.seek(before)


def _as_8_bit(picture: PIL.Image.Image) -> PIL.Image.Image:
    if picture.mode not in ("I", "F") and not picture.mode.startswith("I;16"):
        return picture
    values = np.asarray(picture)
    if picture.mode == "F":
        # Floating-point pictures mostly run from 0 to 1.
        values = np.nan_to_num(values)
        scale = 255.0 if values.max() <= 1.0 else 1.0
        return PIL.Image.fromarray((values * scale).clip(0, 255).astype(np.uint8))
    if values.max() <= 255:
        # An 8-bit picture that somebody widened.
        return PIL.Image.fromarray(values.clip(0, 255).astype(np.uint8))
    return PIL.Image.fromarray((values.clip(0, 65535) >> 8).astype(np.uint8))


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
"""What `warnings.filterwarnings` makes of it."""


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
            if _quiet_depth == 0 and _QUIET in warnings.filters:
                cast(list[object], warnings.filters).remove(_QUIET)
