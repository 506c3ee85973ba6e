"""How is a picture opened in a format that Pillow does not know: HEIC, JPEG XL, a camera's RAW, SVG?"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO

import PIL.Image

from vlm2vec.errors import MediaError, MissingError
from vlm2vec.extras import require
from vlm2vec.items import RAW_SUFFIXES
from vlm2vec.media.source import Limits, check_px
from vlm2vec.media.svg import draw_svg, is_svg

_HEAD_BYTES = 4096
# Brands of ISO/IEC 23008-12: HEVC in a still picture, a collection or a sequence; and any coding, of which AVIF is one.
_HEVC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_ANY_CODING = frozenset({b"mif1", b"msf1"})
_JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
# A preview that is smaller than this shows too little: the photograph is developed, at half its size.
_PREVIEW_PX = 512


def open_other(
    stream: BinaryIO,
    name: str,
    suffix: str,
    identify: Callable[[BinaryIO], PIL.Image.Image],
    *,
    limits: Limits,
    max_px: int,
) -> PIL.Image.Image | None:
    """Open a picture in one of these formats; None, with the stream at its beginning, if it is of another.

    All but RAW are known by their content, whatever the ending.

    Args:
        suffix: the ending of the file in lower case, "" for bytes.
        identify: opens what Pillow knows.
        max_px: the most pixels that are decoded here; the others are decoded later.

    Raises:
        MediaError: the package that reads the format is not installed.
        LimitError: more pixels, or more text than `limits` allow.
    """
    head = stream.read(_HEAD_BYTES)
    stream.seek(0)
    try:
        if suffix in RAW_SUFFIXES:
            return _open_raw(stream, identify)
        if head[4:8] == b"ftyp" and _is_hevc(head):
            return _open_heif(stream)
        if head.startswith(_JXL):
            return _open_jxl(stream, max_px, name)
    except MissingError as error:
        raise MediaError(f"{name} cannot be read as an image: {error.message}", *error.hints) from error
    if is_svg(head):
        return identify(io.BytesIO(draw_svg(stream.read(limits.text_bytes + 1), limits, name)))
    return None


def _is_hevc(head: bytes) -> bool:
    brand = head[8:12]
    length = int.from_bytes(head[:4], "big")
    return brand in _HEVC or (brand in _ANY_CODING and b"avif" not in head[16:length])


def _open_heif(stream: BinaryIO) -> PIL.Image.Image:
    require("heif", "pillow_heif")
    import pillow_heif

    # Pictures are decoded in as many threads as there are cores already.
    pillow_heif.options.DECODE_THREADS = 1
    picture: PIL.Image.Image = pillow_heif.HeifImageFile(stream)
    return picture


def _open_jxl(stream: BinaryIO, max_px: int, name: str) -> PIL.Image.Image:
    require("jxl", "pylibjxl")
    import pylibjxl

    data = stream.read()
    header = pylibjxl.probe(data)
    check_px((header["width"], header["height"]), max_px, name)
    return PIL.Image.fromarray(pylibjxl.decode(data))


def _open_raw(stream: BinaryIO, identify: Callable[[BinaryIO], PIL.Image.Image]) -> PIL.Image.Image:
    """The preview that the camera has made, or, if it is small or there is none, the photograph developed."""
    require("raw", "rawpy")
    import rawpy

    with rawpy.imread(stream) as raw:
        try:
            preview = raw.extract_thumb()
        except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
            preview = None
        if preview is not None and preview.format == rawpy.ThumbFormat.JPEG:
            # LibRaw writes the orientation of the photograph into a preview that has none.
            picture = identify(io.BytesIO(preview.data))
            if max(picture.size) >= _PREVIEW_PX:
                return picture
        return PIL.Image.fromarray(raw.postprocess(half_size=True, use_camera_wb=True))
