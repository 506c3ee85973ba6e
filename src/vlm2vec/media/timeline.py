"""When is each frame of a video file shown, and where can decoding start?"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlm2vec.media.container import av_error, check_frame_count, open_clip
from vlm2vec.media.limits import Limits
from vlm2vec.media.sampling import Clock
from vlm2vec.media.source import check_file, describe

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream


class Keyframe(NamedTuple):
    """A packet that decoding can start from, and the position of the first frame shown from there on."""

    position: int
    pts: int
    dts: int


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """The frames of a file in the order they are shown, as its packets announce them.

    `exact` says whether `pts` (one a frame, ascending) can be trusted.
    """

    clock: Clock
    pts: NDArray[np.int64]
    keyframes: list[Keyframe]
    exact: bool
    width: int
    height: int


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrames:
    """The frames of a file in the order in which a decoding from start to end yields them."""

    clock: Clock
    pts: list[int | None]
    damaged: bool


def announced_frames(source: Path | bytes, limits: Limits) -> Timeline:
    """Read the packets of a video file, decoding none.

    Raises:
        MediaError: no video in it, or damaged. LimitError: larger than `limits` allow.
    """
    if isinstance(source, bytes):
        return _read_announced(source, limits)
    return _announced_in_file(source, _state(source, limits), limits)


def decoded_frames(source: Path | bytes, limits: Limits) -> DecodedFrames:
    """Decode a video file from start to end, keeping no picture.

    Raises:
        MediaError: no video in it. LimitError: larger than `limits` allow.
    """
    if isinstance(source, bytes):
        return _read_decoded(source, limits)
    return _decoded_in_file(source, _state(source, limits), limits)


def frames_from_start(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame | None]:
    """Yield every frame from the start; None where the file or a packet cannot be read."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av_error():
            yield None
            return
        try:
            frames = packet.decode()
        except av_error():
            yield None
        else:
            yield from frames


def _state(path: Path, limits: Limits) -> tuple[int, int, int, int]:
    status = check_file(path, kind="a video", max_bytes=limits.video_bytes)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


# A film is read as hundreds of spans one after the other; this way its packets are gone through once.
@functools.lru_cache(maxsize=8)
def _announced_in_file(path: Path, _state: tuple[int, int, int, int], limits: Limits) -> Timeline:
    return _read_announced(path, limits)


@functools.lru_cache(maxsize=8)
def _decoded_in_file(path: Path, _state: tuple[int, int, int, int], limits: Limits) -> DecodedFrames:
    return _read_decoded(path, limits)


class _Stamp(NamedTuple):
    """What one packet says about its frame, times in ticks of the stream."""

    pts: int | None
    dts: int | None
    duration: int
    is_keyframe: bool
    is_shown: bool


def _read_announced(source: Path | bytes, limits: Limits) -> Timeline:
    with open_clip(source, limits) as (container, stream):
        stamps: list[_Stamp] = []
        for packet in container.demux(stream):
            if packet.size:
                # A discarded packet lies before the start that an edit list sets: decoded, not shown.
                is_shown = not packet.is_discard and not _is_hidden(packet, stream)
                stamps.append(_Stamp(packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, is_shown))
                check_frame_count(len(stamps), limits, describe(source))
        shown = [stamp for stamp in stamps if stamp.is_shown]
        exact = _are_exact(shown, container, stream)
        if exact:
            shown.sort(key=lambda stamp: stamp.pts or 0)
        times_s = _times_s([stamp.pts if exact else None for stamp in shown], stream)
        last_s = shown[-1].duration * _tick_s(stream) if shown else 0.0
        pts = np.array([stamp.pts for stamp in shown if stamp.pts is not None], dtype=np.int64)
        keyframes = [
            Keyframe(int(np.searchsorted(pts, stamp.pts)), stamp.pts, stamp.pts if stamp.dts is None else stamp.dts)
            for stamp in stamps
            if exact and stamp.is_keyframe and stamp.pts is not None
        ]
        codec = stream.codec_context
        return Timeline(
            _clock(times_s, last_s, stream), pts, sorted(keyframes), exact, width=codec.width, height=codec.height
        )


def _are_exact(shown: list[_Stamp], container: InputContainer, stream: VideoStream) -> bool:
    pts = [stamp.pts for stamp in shown if stamp.pts is not None]
    if not pts or len(pts) < len(shown) or len(set(pts)) < len(pts):
        return False
    # AVI stores no times of showing. FFmpeg works them out for some codecs; for the others it numbers the packets as
    # they come, which is wrong where frames are shown in another order.
    if container.format.name == "avi" and stream.codec_context.has_b_frames:
        return any(earlier > later for earlier, later in itertools.pairwise(pts))
    return True


def _is_hidden(packet: Packet[VideoStream], stream: VideoStream) -> bool:
    # VP8 stores frames that are only referred to, never shown, as packets of their own (bit 4 of the frame header).
    return stream.codec_context.name == "vp8" and not memoryview(packet)[0] & 0x10


def _read_decoded(source: Path | bytes, limits: Limits) -> DecodedFrames:
    with open_clip(source, limits) as (container, stream):
        pts: list[int | None] = []
        damaged = False
        for frame in frames_from_start(container, stream):
            if frame is None or frame.is_corrupt:
                damaged = True
            else:
                pts.append(frame.pts)
                check_frame_count(len(pts), limits, describe(source))
        # AVI stores no times: its frames follow each other evenly.
        known = [None if container.format.name == "avi" else value for value in pts]
        return DecodedFrames(_clock(_times_s(known, stream), 0.0, stream), pts, damaged)


def _times_s(pts: list[int | None], stream: VideoStream) -> NDArray[np.float64]:
    known = np.array([value for value in pts if value is not None], dtype=np.int64)
    if len(known) == 0 or len(known) < len(pts):
        return np.arange(len(pts), dtype=np.float64) * _frame_s(stream)
    return np.asarray((known - known[0]) * _tick_s(stream), dtype=np.float64)


def _clock(times_s: NDArray[np.float64], last_s: float, stream: VideoStream) -> Clock:
    """Complete the times of showing with the end; `last_s`, how long the last frame is shown, is 0 if unknown."""
    if len(times_s) == 0:
        return Clock(times_s, 0.0)
    if last_s <= 0:
        last_s = float(times_s[-1]) / (len(times_s) - 1) if len(times_s) > 1 else _frame_s(stream)
    return Clock(times_s, float(times_s[-1]) + last_s)


def _tick_s(stream: VideoStream) -> float:
    return float(stream.time_base or 1)


def _frame_s(stream: VideoStream) -> float:
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    return float(1 / rate)
