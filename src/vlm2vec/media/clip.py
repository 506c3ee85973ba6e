"""How are single frames taken out of a video file (PyAV) without decoding all of it?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image

from vlm2vec.errors import MediaError
from vlm2vec.media.container import av_error, open_clip
from vlm2vec.media.limits import Limits
from vlm2vec.media.look import as_shown, stream_look
from vlm2vec.media.sampling import VideoInfo, find_gaps, pick_frames
from vlm2vec.media.source import describe
from vlm2vec.media.timeline import (
    DecodedFrames,
    Keyframe,
    Timeline,
    announced_frames,
    decoded_clock,
    decoded_frames,
    frames_from_start,
)

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream


def read_clip(
    source: Path | bytes, span_s: tuple[float, float] | None, num_frames: int, limits: Limits
) -> list[PIL.Image.Image]:
    """Decode the picked frames of a video file in RGB, as a player shows them (see `look`).

    The frames are exactly those of a decoding from start to end. Reading the packets alone tells when each frame is
    shown; the decoder then jumps to the last keyframe before a wanted frame, but only forward, so it never decodes
    more than reading all would. A file whose packets do not announce its frames is decoded from the start.

    Raises:
        MediaError: no video in it, damaged, or cut off so that a picked frame is missing.
        LimitError: more bytes, pixels or frames than `limits` allow.
    """
    name = describe(source)
    timeline = announced_frames(source, limits)
    if timeline.exact:
        positions = pick_frames(timeline.clock, span_s, num_frames, name=name)
        with open_clip(source, limits) as (container, stream):
            try:
                return _read_by_seeking(container, stream, timeline, positions, limits, name)
            except (_PacketsMisleadError, av_error()):
                pass  # Below, from the start, the readable part is found.
    decoded = decoded_frames(source, limits)
    if not decoded.damaged:
        positions = pick_frames(decoded_clock(timeline, decoded), span_s, num_frames, name=name)
    else:
        positions = _surviving(timeline, decoded, span_s, num_frames, name)
    with open_clip(source, limits) as (container, stream):
        return _read_from_start(container, stream, positions, limits, name)


def probe_clip(source: Path | bytes, limits: Limits) -> VideoInfo:
    """Measure a video file by reading its packets, without decoding.

    Raises:
        MediaError: no video in it, or damaged.
        LimitError: more bytes, pixels or frames than `limits` allow.
    """
    timeline = announced_frames(source, limits)
    if len(timeline.clock.times_s) == 0:
        raise MediaError(f"{describe(source)} has no frames: it is empty or cut off; copy it again")
    clock = timeline.clock
    return VideoInfo(clock.duration_s, len(clock.times_s), timeline.width, timeline.height, find_gaps(clock))


class _PacketsMisleadError(Exception):
    """The decoder yields other frames than the packets announced."""


def _read_by_seeking(
    container: InputContainer,
    stream: VideoStream,
    timeline: Timeline,
    positions: list[int],
    limits: Limits,
    name: str,
) -> list[PIL.Image.Image]:
    look = stream_look(stream)
    pictures: list[PIL.Image.Image] = []
    key_positions = np.array([keyframe.position for keyframe in timeline.keyframes])
    decoder = _Decoder(container, stream)
    frames: Iterator[VideoFrame] = iter(())
    started_at = upcoming = -1  # The positions of the first frame since the last jump, and of the one to come next.
    for target in positions:
        nearest = int(np.searchsorted(key_positions, target, side="right")) - 1
        if nearest < 0:
            raise _PacketsMisleadError
        keyframe = timeline.keyframes[nearest]
        if upcoming < 0 or keyframe.pts > decoder.fed_pts:
            frames = decoder.frames_from(keyframe)
            started_at = upcoming = keyframe.position
        for frame in frames:
            if frame.pts is not None and frame.pts < timeline.pts[started_at]:
                continue  # Shown before the keyframe but stored after it: belongs to the part that was skipped.
            if upcoming == len(timeline.pts) or frame.pts != timeline.pts[upcoming]:
                raise _PacketsMisleadError
            upcoming += 1
            if upcoming - 1 == target:
                if frame.is_corrupt:
                    raise _PacketsMisleadError
                pictures.append(as_shown(frame, look, limits, name))
                break
        else:
            raise _PacketsMisleadError
    return pictures


class _Decoder:
    """Decodes from a keyframe on; `fed_pts` is the latest time stamp that went into the decoder."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container = container
        self._stream = stream
        self.fed_pts = -(1 << 63)

    def frames_from(self, keyframe: Keyframe) -> Iterator[VideoFrame]:
        """Yield frames from the keyframe on, in the order they are shown, perhaps some earlier ones before it."""
        # Containers index by either time stamp. The decoding one is never the later, so seeking to it lands on the
        # keyframe or before, and packets before it are passed over undecoded.
        self._container.seek(min(keyframe.pts, keyframe.dts), stream=self._stream)
        started = False
        for packet in self._container.demux(self._stream):
            started = started or packet.pts == keyframe.pts
            if not started:
                continue
            if packet.pts is not None:
                self.fed_pts = max(self.fed_pts, packet.pts)
            yield from packet.decode()


def _surviving(
    timeline: Timeline, decoded: DecodedFrames, span_s: tuple[float, float] | None, num_frames: int, name: str
) -> list[int]:
    # The wanted frames are those of the whole clip: picking among the survivors would pass a part off as the clip.
    announced, survived = len(timeline.clock.times_s), len(decoded.pts)
    if timeline.exact:
        where = {pts: position for position, pts in enumerate(decoded.pts)}
        wanted = [
            int(timeline.pts[position]) for position in pick_frames(timeline.clock, span_s, num_frames, name=name)
        ]
        if all(pts in where for pts in wanted):
            return [where[pts] for pts in wanted]
    raise MediaError(
        f"{name} is damaged or cut off: {survived} of its {announced} frames decode, but not all that are wanted; "
        "copy or convert it again"
    )


def _read_from_start(
    container: InputContainer, stream: VideoStream, positions: list[int], limits: Limits, name: str
) -> list[PIL.Image.Image]:
    look = stream_look(stream)
    pictures: list[PIL.Image.Image] = []
    position = 0
    for frame in frames_from_start(container, stream):
        if frame is None or frame.is_corrupt:
            continue
        if position == positions[len(pictures)]:
            pictures.append(as_shown(frame, look, limits, name))
            if len(pictures) == len(positions):
                return pictures
        position += 1
    raise MediaError(
        f"{name} yields {len(pictures)} of the {len(positions)} wanted frames: it changes while it is read"
    )
