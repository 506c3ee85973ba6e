"""Which frames of a video does the model see? For files, folders of frames, tuples of frames and animated pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import PIL.Image

from vlm2vec.errors import LimitError, MediaError
from vlm2vec.items import FRAME_SUFFIXES, Image, Source, Video
from vlm2vec.media.animation import is_animation, probe_animation, read_animation
from vlm2vec.media.clip import probe_clip, read_clip
from vlm2vec.media.image import open_image, open_picture
from vlm2vec.media.limits import DEFAULT_LIMITS, Limits
from vlm2vec.media.sampling import VideoInfo, frame_indices, split_spans
from vlm2vec.media.source import decoding, is_damage, is_folder
from vlm2vec.media.timeline import announced_frames

__all__ = ["VideoInfo", "frame_indices", "probe", "read_frames", "shown_otherwise", "split_spans"]


def read_frames(video: Video, num_frames: int, limits: Limits = DEFAULT_LIMITS) -> list[PIL.Image.Image]:
    """Decode the frames that stand for a video, in RGB and in the order they are shown.

    From a file or a folder at most `num_frames` are picked by `frame_indices`, within `span_s` if there is one; a
    tuple of frames is used as it is. Frames of folders, tuples and animated pictures look as to their owner (see
    `open_image`) or, with `as_stored`, as they are stored. Those of a video file are shown as a player shows them:
    turned or mirrored as the display matrix says, stretched to square pixels, and brought from HDR (PQ, HLG) to SDR.
    Of several video tracks the default one is taken, then the largest. `span_s` counts on the clock of a player (see
    `timeline`).

    Raises:
        MediaError: missing, empty, damaged, no video, or cut off so that a wanted frame is missing.
        LimitError: more bytes, pixels or frames than `limits` allow.
        InputError: `num_frames` is less than 1.
    """
    source = video.source
    if isinstance(source, tuple):
        return _open_frames(source, limits, video.as_stored)
    if isinstance(source, Path) and is_folder(source, kind="a video"):
        if video.span_s is not None:
            raise MediaError(f"{source} is a folder of frames, which has no clock: a span of it cannot be read")
        paths = frame_paths(source, limits)
        return _open_frames(
            [paths[position] for position in frame_indices(len(paths), num_frames)], limits, video.as_stored
        )
    if isinstance(source, PIL.Image.Image) or is_animation(source, limits):
        return read_animation(source, video.span_s, num_frames, limits, as_stored=video.as_stored)
    return read_clip(source, video.span_s, num_frames, limits)


def probe(
    source: str | PathLike[str] | bytes | PIL.Image.Image | tuple[Source, ...], limits: Limits = DEFAULT_LIMITS
) -> VideoInfo:
    """Measure a video without decoding it (an animated picture has to be decoded for its durations).

    Raises:
        MediaError: missing, empty, damaged or no video.
        LimitError: more bytes, pixels or frames than `limits` allow.
    """
    video = Video(source)  # type: ignore[arg-type]  # Video turns a str into a path and checks every type.
    if isinstance(video.source, tuple):
        return _probe_frames(video.source, limits)
    if isinstance(video.source, Path) and is_folder(video.source, kind="a video"):
        return _probe_frames(frame_paths(video.source, limits), limits)
    if isinstance(video.source, PIL.Image.Image) or is_animation(video.source, limits):
        return probe_animation(video.source, limits)
    return probe_clip(video.source, limits)


def shown_otherwise(source: Path, limits: Limits = DEFAULT_LIMITS) -> bool:
    """Whether a video file's picture or clock comes out otherwise than without the rules of `timeline` and `look`.

    True for a mirrored picture, pixels that are not square, HDR, a track other than the first, stamps that do not
    ascend, a late start, a gap, and for a file that cannot be read. False for ordinary films and animated pictures.
    Reads the packets and decodes one frame.
    """
    try:
        return not is_animation(source, limits) and not announced_frames(source, limits).is_plain
    except MediaError:
        return True


def frame_paths(folder: Path, limits: Limits) -> list[Path]:
    """Frames of a folder in natural order of their names.

    Raises:
        MediaError: the folder cannot be read or holds none; LimitError: it holds too many.
    """
    with decoding(str(folder), "a folder of frames"):
        # Hidden files are not frames: systems leave previews such as ._0001.jpg beside the pictures.
        paths = [
            path
            for path in folder.iterdir()
            if path.suffix.lower() in FRAME_SUFFIXES and not path.name.startswith(".") and not path.is_dir()
        ]
    if not paths:
        raise MediaError(f"{folder} holds no frames: a folder taken as a video needs .jpg, .jpeg or .png files")
    if len(paths) > limits.frames:
        raise LimitError(f"{folder} holds {len(paths):,} frames, more than the {limits.frames:,} allowed")
    return sorted(paths, key=lambda path: frame_order(path.name))


def damaged_frames(sources: Sequence[Source], limits: Limits = DEFAULT_LIMITS) -> dict[int, MediaError]:
    """Which frames of a video cannot be decoded because they are damaged, each with the reason.

    Raises:
        MediaError: a frame cannot be read for another reason, such as that it is missing; LimitError: it is too large.
    """
    damaged = {}
    for place, source in enumerate(sources):
        try:
            _open_frames((source,), limits, as_stored=True)
        except MediaError as error:
            if not is_damage(error):
                raise
            damaged[place] = error
    return damaged


def frame_order(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key in which digits count as numbers: frame2 before frame10. The name itself breaks ties (1 and 01)."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)], name


def _open_frames(sources: tuple[Source, ...] | list[Path], limits: Limits, as_stored: bool) -> list[PIL.Image.Image]:
    # One by one, or each would be held in its own mode and in RGB.
    return [open_image(Image(source, as_stored=as_stored), _frame_limits(limits)).convert("RGB") for source in sources]


def _probe_frames(sources: tuple[Source, ...] | list[Path], limits: Limits) -> VideoInfo:
    with open_picture(sources[0], _frame_limits(limits)) as first:
        return VideoInfo(0.0, len(sources), first.width, first.height)


def _frame_limits(limits: Limits) -> Limits:
    return replace(limits, image_px=min(limits.image_px, limits.frame_px))
