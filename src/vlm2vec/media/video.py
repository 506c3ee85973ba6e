"""Which frames of a video does the model see? Of files, folders of frames, tuples of frames and animated pictures."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import PIL.Image
from PIL.WebPImagePlugin import WebPImageFile

from vlm2vec.errors import LimitError, MediaError
from vlm2vec.items import FRAME_SUFFIXES, Image, Source, Video
from vlm2vec.media.image import animation_frames, on_white, open_image, open_picture, orientation, upright
from vlm2vec.media.source import DEFAULT_LIMITS, Limits, decoding, describe, is_folder, open_source
from vlm2vec.media.stream import VideoLook, open_clip
from vlm2vec.media.timeline import Clock, Timeline, VideoInfo, announced_frames, frame_indices, once_a_file

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream


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
    if isinstance(source, Path) and is_folder(source):
        if video.span_s is not None:
            raise MediaError(f"{source} is a folder of frames, which has no clock: a span of it cannot be read")
        paths = frame_paths(source, limits)
        return _open_frames(
            [paths[position] for position in frame_indices(len(paths), num_frames)], limits, video.as_stored
        )
    if isinstance(source, PIL.Image.Image) or is_animation(source, limits):
        return _read_animation(source, video.span_s, num_frames, limits, video.as_stored)
    return _read_clip(source, video.span_s, num_frames, limits)


def probe(
    source: str | PathLike[str] | bytes | PIL.Image.Image | tuple[Source, ...], limits: Limits = DEFAULT_LIMITS
) -> VideoInfo:
    """Measure a video without decoding it (an animated picture has to be decoded for its durations).

    Raises:
        MediaError: missing, empty, damaged or no video.
        LimitError: more bytes, pixels or frames than `limits` allow.
    """
    video = Video(source)  # type: ignore[arg-type]  # It turns a str into a path and checks every type.
    source = video.source
    if isinstance(source, tuple) or (isinstance(source, Path) and is_folder(source)):
        pictures = source if isinstance(source, tuple) else frame_paths(source, limits)
        with open_picture(pictures[0], limits, max_px=min(limits.image_px, limits.frame_px)) as first:
            return VideoInfo(0.0, len(pictures), first.width, first.height)
    if isinstance(source, PIL.Image.Image) or is_animation(source, limits):
        with _open_animation(source, limits) as (picture, frames):
            clock = _animation_clock(picture, frames)
            size = picture.size if orientation(picture) < 5 else picture.size[::-1]
        return VideoInfo(clock.duration_s, len(frames), *size)
    timeline = announced_frames(source, limits)
    clock = timeline.clock
    if len(clock.times_s) == 0:
        raise MediaError(f"{describe(source)} has no frames: it is empty or cut off; copy it again")
    return VideoInfo(clock.duration_s, len(clock.times_s), timeline.width, timeline.height, clock.gaps_s())


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


def shown_otherwise(source: Path, limits: Limits = DEFAULT_LIMITS) -> bool:
    """Whether a video file's picture or clock comes out otherwise than without the rules of `timeline` and `stream`.

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
            # An error of the system, which alone has a number, tells of the disk or of who may read it.
            cause = error.__cause__
            if isinstance(error, LimitError) or (isinstance(cause, OSError) and cause.errno is not None):
                raise
            damaged[place] = error
    return damaged


def frame_order(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key in which digits count as numbers: frame2 before frame10. The name itself breaks ties (1 and 01)."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)], name


def _open_frames(sources: tuple[Source, ...] | list[Path], limits: Limits, as_stored: bool) -> list[PIL.Image.Image]:
    # One by one, or each would be held in its own mode and in RGB.
    limits = replace(limits, image_px=min(limits.image_px, limits.frame_px))
    return [open_image(Image(source, as_stored=as_stored), limits).convert("RGB") for source in sources]


def _read_animation(
    source: Source, span_s: tuple[float, float] | None, num_frames: int, limits: Limits, as_stored: bool
) -> list[PIL.Image.Image]:
    """Decode the picked frames, composed as a viewer shows them, in RGB.

    Unless `as_stored`, transparency is laid on white and the frames are turned by the EXIF orientation of the file.
    """
    with _open_animation(source, limits) as (picture, frames):
        if not as_stored and picture is not source:
            # Before the clock decodes frames, the last of which is kept.
            _keep_ground(picture)
        if span_s is None:
            positions = frame_indices(len(frames), num_frames)
        else:
            positions = _animation_clock(picture, frames).pick_frames(span_s, num_frames, name=describe(source))
        pictures = []
        for position in positions:
            picture.seek(frames[position])
            # The mode of a frame may be told only once it is decoded.
            picture.load()
            frame = picture if as_stored else on_white(picture)
            pictures.append(frame.convert("RGB") if frame is picture else frame)
        # Asked last, because Pillow may read a PNG to its end for it.
        turn = 1 if as_stored else orientation(picture)
    return [upright(one, turn) for one in pictures]


@contextmanager
def _open_animation(source: Source, limits: Limits) -> Iterator[tuple[PIL.Image.Image, range]]:
    """Open an animation; with it come the numbers of its frames. A PIL image is left at the frame where it was."""
    name = describe(source)
    with open_picture(source, limits, max_px=limits.frame_px) as picture:
        before = picture.tell()
        try:
            frames = animation_frames(picture)
            if len(frames) > limits.frames:
                raise LimitError(
                    f"{name} has {len(frames):,} frames, more than the {limits.frames:,} allowed (Limits.frames)"
                )
            if len(frames) * picture.width * picture.height > limits.animation_px:
                raise LimitError(
                    f"{name} has {len(frames):,} frames of {picture.width} x {picture.height} pixels, together more "
                    f"than the {limits.animation_px:,} pixels allowed (Limits.animation_px)"
                )
            yield picture, frames
        except EOFError as error:
            raise MediaError(f"{name} is cut off: not all of its frames can be read") from error
        finally:
            if picture is source:
                picture.seek(before)


def _keep_ground(picture: PIL.Image.Image) -> None:
    """Make Pillow hand out the alpha of an animated WebP that declares none.

    Encoders declare none where every frame is opaque by itself, also if the frames leave a part of the canvas free.
    Viewers show the ground there; Pillow would make it black.
    """
    if isinstance(picture, WebPImageFile) and picture.rawmode == "RGBX":
        picture.rawmode = picture._mode = "RGBA"


def _animation_clock(picture: PIL.Image.Image, frames: range) -> Clock:
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


def _read_clip(
    source: Path | bytes, span_s: tuple[float, float] | None, num_frames: int, limits: Limits
) -> list[PIL.Image.Image]:
    """Decode the picked frames of a video file in RGB, as a player shows them (see `stream`).

    The frames are exactly those of a decoding from start to end. Reading the packets alone tells when each frame is
    shown; the decoder then jumps to the last keyframe before a wanted frame, but only forward, so it never decodes
    more than reading all would. A file whose packets do not announce its frames is decoded from the start.
    """
    import av

    name = describe(source)
    timeline = announced_frames(source, limits)
    if timeline.exact:
        positions = timeline.clock.pick_frames(span_s, num_frames, name=name)
        with open_clip(source, limits) as (container, stream):
            look = VideoLook.of(stream)
            try:
                found = _frames_by_seeking(container, stream, timeline, positions)
                return [look.picture(frame, limits, name) for frame in found]
            except (_PacketsMisleadError, av.FFmpegError):
                pass  # Below, from the start, the readable part is found.
    decoded = _decoded_frames(source, limits)
    if not decoded.damaged:
        positions = timeline.clock_of(decoded.pts).pick_frames(span_s, num_frames, name=name)
    else:
        positions = _surviving(timeline, decoded, span_s, num_frames, name)
    with open_clip(source, limits) as (container, stream):
        look, wanted = VideoLook.of(stream), set(positions)
        sound = (frame for frame in _frames_from_start(container, stream) if frame is not None and not frame.is_corrupt)
        upto = itertools.islice(enumerate(sound), positions[-1] + 1)
        pictures = [look.picture(frame, limits, name) for position, frame in upto if position in wanted]
    if len(pictures) < len(positions):
        raise MediaError(
            f"{name} yields {len(pictures)} of the {len(positions)} wanted frames: it changes while it is read"
        )
    return pictures


class _PacketsMisleadError(Exception):
    """The decoder yields other frames than the packets announced."""


def _frames_by_seeking(
    container: InputContainer, stream: VideoStream, timeline: Timeline, positions: list[int]
) -> Iterator[VideoFrame]:
    """Yield the frames at these positions, which ascend. Raises _PacketsMisleadError."""
    key_positions = np.array([keyframe.position for keyframe in timeline.keyframes])
    frames: Iterator[tuple[VideoFrame, int]] = iter(())
    started_at = upcoming = -1  # The positions of the first frame since the last jump, and of the one to come next.
    fed_pts = -(1 << 63)
    for target in positions:
        nearest = int(np.searchsorted(key_positions, target, side="right")) - 1
        if nearest < 0:
            raise _PacketsMisleadError
        keyframe = timeline.keyframes[nearest]
        if upcoming < 0 or keyframe.pts > fed_pts:
            frames = _frames_from_keyframe(container, stream, keyframe.pts, keyframe.dts)
            started_at = upcoming = keyframe.position
        for frame, fed in frames:
            fed_pts = max(fed_pts, fed)
            if frame.pts is not None and frame.pts < timeline.pts[started_at]:
                continue  # Shown before the keyframe but stored after it: belongs to the part that was skipped.
            if upcoming == len(timeline.pts) or frame.pts != timeline.pts[upcoming]:
                raise _PacketsMisleadError
            upcoming += 1
            if upcoming - 1 == target:
                if frame.is_corrupt:
                    raise _PacketsMisleadError
                yield frame
                break
        else:
            raise _PacketsMisleadError


def _frames_from_keyframe(
    container: InputContainer, stream: VideoStream, pts: int, dts: int
) -> Iterator[tuple[VideoFrame, int]]:
    """Yield frames from the keyframe of these stamps on in the order they are shown, perhaps earlier ones first.

    With each comes the latest time stamp that has gone into the decoder.
    """
    # Containers index by either time stamp. The decoding one is never the later, so seeking to it lands on the
    # keyframe or before, and packets before it are passed over undecoded.
    container.seek(min(pts, dts), stream=stream)
    fed_pts = pts
    for packet in itertools.dropwhile(lambda packet: packet.pts != pts, container.demux(stream)):
        if packet.pts is not None:
            fed_pts = max(fed_pts, packet.pts)
        for frame in packet.decode():
            yield frame, fed_pts


def _surviving(
    timeline: Timeline, decoded: _DecodedFrames, span_s: tuple[float, float] | None, num_frames: int, name: str
) -> list[int]:
    # The wanted frames are those of the whole clip: picking among the survivors would pass a part off as the clip.
    announced, survived = len(timeline.clock.times_s), len(decoded.pts)
    if timeline.exact:
        where = {pts: position for position, pts in enumerate(decoded.pts)}
        wanted = [int(timeline.pts[position]) for position in timeline.clock.pick_frames(span_s, num_frames, name=name)]
        if all(pts in where for pts in wanted):
            return [where[pts] for pts in wanted]
    raise MediaError(
        f"{name} is damaged or cut off: {survived} of its {announced} frames decode, but not all that are wanted; "
        "copy or convert it again"
    )


class _DecodedFrames(NamedTuple):
    """The stamps of the frames of a file in the order in which a decoding from start to end yields them."""

    pts: list[int | None]
    damaged: bool


@once_a_file
def _decoded_frames(source: Path | bytes, limits: Limits) -> _DecodedFrames:
    """Decode a video file from start to end, keeping no picture."""
    with open_clip(source, limits) as (container, stream):
        pts: list[int | None] = []
        damaged = False
        for frame in _frames_from_start(container, stream):
            if frame is None or frame.is_corrupt:
                damaged = True
            else:
                pts.append(frame.pts)
                limits.check_frames(len(pts), describe(source))
        return _DecodedFrames(pts, damaged)


def _frames_from_start(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame | None]:
    """Yield every frame from the start; None where the file or a packet cannot be read."""
    import av

    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                yield None
            else:
                yield from frames
    except av.FFmpegError:
        yield None
