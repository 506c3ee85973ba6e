"""How does an animated picture (GIF, WebP, PNG, AVIF) become the frames of a video?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
from PIL.WebPImagePlugin import WebPImageFile

from vlm2vec.errors import LimitError, MediaError
from vlm2vec.items import Source
from vlm2vec.media.image import animation_frames, open_picture
from vlm2vec.media.limits import Limits
from vlm2vec.media.sampling import Clock, VideoInfo, frame_indices, pick_frames
from vlm2vec.media.shown import on_white, orientation, upright
from vlm2vec.media.source import describe, open_source


def is_animation(source: Path | bytes, limits: Limits) -> bool:
    """Whether a source begins like a format that Pillow animates, a still picture of such a format included.

    Raises:
        MediaError: the file is missing, empty or may not be read. LimitError: it has more than `video_bytes`.
    """
    with open_source(source, "a video", limits) as stream:
        head = stream.read(16)
    return (
        head.startswith((b"GIF8", b"\x89PNG\r\n\x1a\n"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"))
    )


def read_animation(
    source: Source, span_s: tuple[float, float] | None, num_frames: int, limits: Limits, *, as_stored: bool = False
) -> list[PIL.Image.Image]:
    """Decode the picked frames, composed as a viewer shows them, in RGB.

    Unless `as_stored`, transparency is laid on white and the frames are turned by the EXIF orientation of the file.

    Raises:
        MediaError: damaged or cut off before a picked frame.
        LimitError: more bytes, pixels or frames than `limits` allow.
    """
    name = describe(source)
    with open_picture(source, limits, max_px=limits.frame_px) as picture:
        before = picture.tell()
        try:
            frames = _checked_frames(picture, limits, name)
            if not as_stored and picture is not source:
                # Before the clock decodes frames, the last of which is kept.
                _keep_ground(picture)
            if span_s is None:
                positions = frame_indices(len(frames), num_frames)
            else:
                positions = pick_frames(_clock(picture, frames), span_s, num_frames, name=name)
            pictures = []
            for position in positions:
                picture.seek(frames[position])
                # The mode of a frame may be told only once it is decoded.
                picture.load()
                frame = picture if as_stored else on_white(picture)
                pictures.append(frame.convert("RGB") if frame is picture else frame)
            # Asked last, because Pillow may read a PNG to its end for it.
            turn = 1 if as_stored else orientation(picture)
        except EOFError as error:
            raise MediaError(f"{name} is cut off: not all of its frames can be read") from error
        finally:
            if picture is source:
                picture.seek(before)
    return [upright(one, turn) for one in pictures]


def probe_animation(source: Source, limits: Limits) -> VideoInfo:
    """Measure an animation; its frames must be decoded for their durations, but are not kept."""
    name = describe(source)
    with open_picture(source, limits, max_px=limits.frame_px) as picture:
        before = picture.tell()
        try:
            frames = _checked_frames(picture, limits, name)
            clock = _clock(picture, frames)
            width, height = picture.size if orientation(picture) < 5 else picture.size[::-1]
        finally:
            if picture is source:
                picture.seek(before)
        return VideoInfo(clock.duration_s, len(frames), width, height)


def _checked_frames(picture: PIL.Image.Image, limits: Limits, name: str) -> range:
    frames = animation_frames(picture)
    if len(frames) > limits.frames:
        raise LimitError(f"{name} has {len(frames):,} frames, more than the {limits.frames:,} allowed (Limits.frames)")
    if len(frames) * picture.width * picture.height > limits.animation_px:
        raise LimitError(
            f"{name} has {len(frames):,} frames of {picture.width} x {picture.height} pixels, together more than the "
            f"{limits.animation_px:,} pixels allowed (Limits.animation_px)"
        )
    return frames


def _keep_ground(picture: PIL.Image.Image) -> None:
    """Make Pillow hand out the alpha of an animated WebP that declares none.

    Encoders declare none where every frame is opaque by itself, also if the frames leave a part of the canvas free.
    Viewers show the ground there; Pillow would make it black.
    """
    if isinstance(picture, WebPImageFile) and picture.rawmode == "RGBX":
        picture.rawmode = picture._mode = "RGBA"


def _clock(picture: PIL.Image.Image, frames: range) -> Clock:
    durations_s = []
    for index in frames:
        picture.seek(index)
        # WebP and AVIF know the duration of a frame only once it is decoded.
        picture.load()
        duration_ms = float(picture.info.get("duration") or 0)
        # Browsers show a frame for 100 ms if the file says 10 ms or less, and files are made with that in mind.
        durations_s.append((duration_ms if duration_ms > 10 else 100.0) / 1000)
    ends_s = np.cumsum(np.array(durations_s, dtype=np.float64))
    return Clock(np.concatenate([[0.0], ends_s[:-1]]), float(ends_s[-1]))
