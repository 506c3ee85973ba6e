"""Which pictures does the model see of one medium, and what memory do they take?"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import PIL.Image

from vlm2vec.errors import MediaError
from vlm2vec.items import Image, Video
from vlm2vec.media.document import PAGE_PX, render_page
from vlm2vec.media.image import RGB_BYTES, animation_frames, decoding_bytes, draft, open_image, open_picture
from vlm2vec.media.source import DEFAULT_LIMITS, Limits, is_folder
from vlm2vec.media.stream import open_clip
from vlm2vec.media.timeline import announced_frames
from vlm2vec.media.video import frame_paths, is_animation, read_frames


class Frames(NamedTuple):
    """The decoded pictures of one medium: one of a still image or page, several of a video."""

    images: tuple[PIL.Image.Image, ...]
    is_video: bool


def load_frames(
    medium: Image | Video,
    *,
    num_frames: int,
    limits: Limits = DEFAULT_LIMITS,
    least_px: tuple[int, int] | None = None,
) -> Frames:
    """Decode one medium. Call `resolve` first if animated pictures shall count as videos.

    A still image comes as `open_image` says, a PDF page and the frames of a video in RGB.

    Args:
        num_frames: how many frames to pick from a video file or folder.
        least_px: width and height that are enough of a still picture, which may then come smaller and sooner: see
            `vlm2vec.media.image.draft`. None: all that it has.

    Raises:
        MediaError: the medium cannot be read. LimitError: it is too large.
    """
    if isinstance(medium, Video):
        return Frames(tuple(read_frames(medium, num_frames, limits)), is_video=True)
    if medium.page is not None:
        return Frames((render_page(medium.source, medium.page, limits),), is_video=False)
    return Frames((open_image(medium, limits, least_px=least_px),), is_video=False)


def decoded_bytes(
    medium: Image | Video,
    *,
    num_frames: int,
    limits: Limits = DEFAULT_LIMITS,
    least_px: tuple[int, int] | None = None,
) -> int:
    """Memory that the pictures of a medium take while it is decoded and made RGB, told from headers.

    0 for one that cannot be read, or not within `limits`: decoding it says why. Arguments are those of `load_frames`.
    """
    try:
        if isinstance(medium, Video):
            return _of_video(medium, num_frames, limits)
        if medium.page is not None:
            # The bitmap that PDFium draws on and the picture made of it.
            return PAGE_PX * 2 * RGB_BYTES
        with open_picture(medium.source, limits) as picture:
            if not medium.as_stored and picture is not medium.source and (count := len(animation_frames(picture))) > 1:
                return _of_frames(picture.size, min(count, num_frames))
            draft(picture, medium, least_px)
            return decoding_bytes(picture, as_stored=medium.as_stored)
    except MediaError:
        return 0


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


def _of_video(video: Video, num_frames: int, limits: Limits) -> int:
    source = video.source
    if isinstance(source, tuple) or (isinstance(source, Path) and is_folder(source)):
        frames = source if isinstance(source, tuple) else frame_paths(source, limits)[:num_frames]
        with open_picture(frames[0], limits) as first:
            return _of_frames(first.size, len(frames))
    if isinstance(source, PIL.Image.Image) or is_animation(source, limits):
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
    return size[0] * size[1] * RGB_BYTES * (count + 1)
