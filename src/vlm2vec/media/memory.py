"""How much memory does decoding take, and how do threads that decode at once stay within a bound?"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import PIL.Image

from vlm2vec.errors import MediaError
from vlm2vec.items import Image, Video
from vlm2vec.media.animation import is_animation
from vlm2vec.media.container import open_clip
from vlm2vec.media.document import PAGE_PX
from vlm2vec.media.image import animation_frames, open_picture
from vlm2vec.media.limits import DEFAULT_LIMITS, Limits
from vlm2vec.media.shown import is_deep, is_see_through, orientation
from vlm2vec.media.source import is_folder
from vlm2vec.media.timeline import announced_frames
from vlm2vec.media.video import frame_paths

# Pillow keeps a pixel in four bytes, except in these modes.
_MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
_RGB_BYTES = 4
# Floating-point and 16-bit pictures go through arrays of 8 bytes a number.
_WIDE_BYTES = 24
# The bitmap that PDFium draws on and the picture made of it.
_PAGE_BYTES = PAGE_PX * 2 * _RGB_BYTES


class Budget:
    """Memory that threads share: each takes what it needs first, and waits while others have too much.

    They get it in the order in which they ask, so that a large one is not overtaken for ever. One that needs more than
    there is gets it when nobody else has any.

    Args:
        total_bytes: that all have together.
    """

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._taken_bytes = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, num_bytes: int) -> Iterator[None]:
        """Have so many bytes inside the block; a thread must not ask for more inside of it."""
        if num_bytes <= 0:
            yield
            return
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is turn and self._has(num_bytes))
                self._taken_bytes += num_bytes
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._taken_bytes -= num_bytes
                self._changed.notify_all()

    def _has(self, num_bytes: int) -> bool:
        return not self._taken_bytes or self._taken_bytes + num_bytes <= self._total_bytes


IN_FLIGHT = Budget(3 << 30)
"""Of all pictures that threads of this process decode at once, so that all of it stays within 4 GB."""


def decoded_bytes(medium: Image | Video, *, num_frames: int, limits: Limits = DEFAULT_LIMITS) -> int:
    """Memory that the pictures of a medium take while it is decoded and made RGB, told from headers.

    0 for one that cannot be read, or not within `limits`: decoding it says why.
    """
    try:
        return (
            _of_video(medium, num_frames, limits)
            if isinstance(medium, Video)
            else _of_image(medium, num_frames, limits)
        )
    except MediaError:
        return 0


def _of_image(image: Image, num_frames: int, limits: Limits) -> int:
    if image.page is not None:
        return _PAGE_BYTES
    with open_picture(image.source, limits) as picture:
        if not image.as_stored and picture is not image.source and (count := len(animation_frames(picture))) > 1:
            return _of_frames(picture.size, min(count, num_frames))
        stored = _MODE_BYTES.get(picture.mode, _RGB_BYTES)
        if is_deep(picture):
            stored += _WIDE_BYTES
        converted = 0 if picture.mode == "RGB" else _RGB_BYTES
        if not image.as_stored and is_see_through(picture):
            # Made RGBA where it is not, and laid on white.
            converted = _RGB_BYTES if picture.mode in ("RGBA", "RGBa") else 2 * _RGB_BYTES
        turned = stored if not image.as_stored and _may_be_turned(picture) else 0
        return picture.width * picture.height * (stored + max(converted, turned))


def _may_be_turned(picture: PIL.Image.Image) -> bool:
    # Asked of its EXIF data without need, Pillow would decode a PNG for them.
    return picture.format == "TIFF" or ("exif" in picture.info and orientation(picture) != 1)


def _of_video(video: Video, num_frames: int, limits: Limits) -> int:
    source = video.source
    if isinstance(source, tuple) or (isinstance(source, Path) and is_folder(source, kind="a video")):
        frames = source if isinstance(source, tuple) else frame_paths(source, limits)[:num_frames]
        with open_picture(frames[0], limits) as first:
            return _of_frames(first.size, len(frames))
    if isinstance(source, PIL.Image.Image):
        return _of_frames(source.size, num_frames)
    if is_animation(source, limits):
        with open_picture(source, limits, max_px=limits.frame_px) as picture:
            return _of_frames(picture.size, num_frames)
    if isinstance(source, Path):
        # Asked for by decoding as well, which finds it in a cache.
        timeline = announced_frames(source, limits)
        return _of_frames((timeline.width, timeline.height), num_frames)
    with open_clip(source, limits) as (_, stream):
        return _of_frames((stream.codec_context.width, stream.codec_context.height), num_frames)


def _of_frames(size: tuple[int, int], count: int) -> int:
    # One more is being decoded.
    return size[0] * size[1] * _RGB_BYTES * (count + 1)
