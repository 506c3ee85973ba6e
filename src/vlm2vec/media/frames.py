"""Which pictures does the model see of one medium?"""

from __future__ import annotations

from typing import NamedTuple

import PIL.Image

from vlm2vec.items import Image, Target, Video
from vlm2vec.media.document import render_page
from vlm2vec.media.image import open_image
from vlm2vec.media.limits import DEFAULT_LIMITS, Limits
from vlm2vec.media.video import read_frames


class Frames(NamedTuple):
    """The decoded pictures of one medium: one of a still image or page, several of a video."""

    images: tuple[PIL.Image.Image, ...]
    is_video: bool


def load_frames(medium: Image | Video, *, num_frames: int, limits: Limits = DEFAULT_LIMITS) -> Frames:
    """Decode one medium. Call `resolve` first if animated pictures shall count as videos.

    A still image comes as `open_image` says, a PDF page and the frames of a video in RGB.

    Args:
        medium: the image, page or video.
        num_frames: how many frames to pick from a video file or folder.
        limits: larger media are refused.

    Raises:
        MediaError: the medium cannot be read. LimitError: it is too large.
    """
    if isinstance(medium, Video):
        return Frames(tuple(read_frames(medium, num_frames, limits)), is_video=True)
    if medium.page is not None:
        return Frames((render_page(medium.source, medium.page, limits),), is_video=False)
    return Frames((open_image(medium, limits),), is_video=False)


def media_kind(medium: Image | Video) -> Target:
    """Say what a medium counts as, once `resolve` has told animated pictures from still ones."""
    if isinstance(medium, Video):
        return "video"
    return "image" if medium.page is None else "page"
