"""When is each frame of a video file shown, and where can decoding start?

One clock serves probing, spans and picking: the one a player shows. It is worked out from the packets alone.

- Zero is where the container's clock begins, so a picture that begins after the sound, or after an empty edit, begins
  late. Broadcast formats start their clocks anywhere; there zero is where the first of their streams begins.
- A frame comes after the one before it: stamps that repeat or fall are mended (`stamps.ascending`), and of two
  recordings joined in one stream the second follows the first.
- A frame stays until the next one. Where it stays for over a minute there is a gap (`sampling.find_gaps`).
"""

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
from vlm2vec.media.look import frame_turn, is_mirror, stream_look
from vlm2vec.media.sampling import GAP_S, Clock, find_gaps
from vlm2vec.media.source import check_file, describe
from vlm2vec.media.stamps import REORDER, ascending, shown_order

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream
    from PIL.Image import Transpose


FREE_CLOCKS = frozenset({"mpegts", "mpeg", "flv", "ogg"})
"""Formats that are cut out of running broadcasts: their clocks start anywhere, and players show them from 0."""

_CLOCK_TICKS = 1 << 33  # The clock of MPEG streams is full after 26.5 hours, and begins at 0 again.

LATE_S = 0.25
"""A picture that begins no later than this begins at 0: coders leave room for putting frames in order."""


class Keyframe(NamedTuple):
    """A packet that decoding can start from, and the position of the first frame shown from there on."""

    position: int
    pts: int
    dts: int


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """The frames of a file in the order they are shown, as its packets announce them.

    `pts` are the stamps of the frames as stored, none if a frame has none; `exact` says that they ascend and that a
    frame can be found by its stamp. Width and height are those shown. `is_plain` is True for the ordinary film: its
    stamps ascend from its start without a gap, its pixels are square, it is SDR, not mirrored, and the first track.
    """

    clock: Clock
    pts: NDArray[np.int64]
    keyframes: list[Keyframe]
    exact: bool
    width: int
    height: int
    is_plain: bool


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrames:
    """The stamps of the frames of a file in the order in which a decoding from start to end yields them."""

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
    status = check_file(path, "a video", limits)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


# A film is read as hundreds of spans one after the other; this way its packets are gone through once.
@functools.lru_cache(maxsize=8)
def _announced_in_file(path: Path, _state: tuple[int, int, int, int], limits: Limits) -> Timeline:
    return _read_announced(path, limits)


@functools.lru_cache(maxsize=8)
def _decoded_in_file(path: Path, _state: tuple[int, int, int, int], limits: Limits) -> DecodedFrames:
    return _read_decoded(path, limits)


class _Stamp(NamedTuple):
    """A frame as its packet announces it, times in ticks of the stream."""

    pts: int | None
    dts: int | None
    duration: int
    is_keyframe: bool
    is_shown: bool


def _read_announced(source: Path | bytes, limits: Limits) -> Timeline:
    with open_clip(source, limits) as (container, stream):
        # A film has a hundred thousand packets: all that is alike for each is asked for once.
        name, hides_frames = describe(source), stream.codec_context.name == "vp8"
        stamps: list[_Stamp] = []
        turn: Transpose | None = None
        is_turn_known = False
        for packet in container.demux(stream):
            if packet.size:
                if packet.is_keyframe and not is_turn_known:
                    turn, is_turn_known = _first_turn(packet, stream), True
                # A discarded packet lies before the start that an edit list sets: decoded, not shown.
                is_shown = not packet.is_discard and not (hides_frames and _is_hidden(packet))
                stamps.append(_Stamp(packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, is_shown))
                check_frame_count(len(stamps), limits, name)
        shown = [stamp for stamp in stamps if stamp.is_shown]
        times = [stamp.pts for stamp in shown if stamp.pts is not None]
        is_timed = 0 < len(times) == len(shown) and not _is_counted(times, container, stream)
        pts = np.array(times if is_timed else [], dtype=np.int64)
        if is_timed:
            pts = _unwrapped(pts, container)
            is_keyframe = np.array([stamp.is_keyframe for stamp in shown])
            order = shown_order(pts, is_keyframe, REORDER if _may_reorder(stream) else 1)
            pts, shown = pts[order], [shown[position] for position in order]
        exact = is_timed and bool(np.all(pts[1:] > pts[:-1]))
        keyframes = [
            Keyframe(int(np.searchsorted(pts, stamp.pts)), stamp.pts, stamp.pts if stamp.dts is None else stamp.dts)
            for stamp in stamps
            if exact and stamp.is_keyframe and stamp.pts is not None
        ]
        clock = _clock(shown, pts, container, stream)
        look, codec = stream_look(stream), stream.codec_context
        width, height = look.size(codec.width, codec.height, turn)
        is_plain = (
            (exact or (not is_timed and _is_even(clock)))
            and bool(len(clock.times_s))
            and clock.times_s[0] == 0
            and not find_gaps(clock)
            and look.aspect == 1
            and look.transfer is None
            and not is_mirror(turn)
            and stream == container.streams.video[0]
        )
        return Timeline(clock, pts, sorted(keyframes), exact, width, height, is_plain)


def _first_turn(keyframe: Packet[VideoStream], stream: VideoStream) -> Transpose | None:
    # PyAV shows the display matrix of a stream on decoded frames alone.
    stream.codec_context.thread_count = 1
    try:
        frames = [*keyframe.decode(), *stream.codec_context.decode(None)]
    except av_error():
        return None  # Reading the frames will tell.
    return frame_turn(frames[0]) if frames else None


def _is_counted(pts: list[int], container: InputContainer, stream: VideoStream) -> bool:
    # AVI stores no times of showing. FFmpeg works them out for some codecs; for the others it numbers the packets as
    # they come, which is wrong where frames are shown in another order.
    return (
        container.format.name == "avi"
        and stream.codec_context.has_b_frames
        and all(earlier <= later for earlier, later in itertools.pairwise(pts))
    )


def _unwrapped(pts: NDArray[np.int64], container: InputContainer) -> NDArray[np.int64]:
    """Undo what FFmpeg does to a recording that follows one of a later time: it takes the fall for a full clock."""
    if container.format.name not in ("mpegts", "mpeg"):
        return pts
    leaps = np.diff(pts, prepend=pts[0])
    rounds = np.cumsum((leaps > _CLOCK_TICKS // 2).astype(np.int64) - (leaps < -_CLOCK_TICKS // 2))
    unwrapped: NDArray[np.int64] = pts - rounds * _CLOCK_TICKS
    return unwrapped


def _may_reorder(stream: VideoStream) -> bool:
    # Headers of H.264 need not tell, so FFmpeg may find out only later.
    return stream.codec_context.has_b_frames or stream.codec_context.name == "h264"


def _is_hidden(packet: Packet[VideoStream]) -> bool:
    # VP8 stores frames that are only referred to, never shown, as packets of their own (bit 4 of the frame header).
    return not memoryview(packet)[0] & 0x10


def decoded_clock(timeline: Timeline, decoded: DecodedFrames) -> Clock:
    """The clock of the announced frames for those that decode, where a decoder gives out more or fewer of them.

    A frame is told by its stamp. Where stamps do not tell, the frames lie evenly over the time announced.
    """
    clock, count = timeline.clock, len(decoded.pts)
    if count == len(clock.times_s):
        return clock
    announced: dict[int | None, list[int]] = {}
    for position in reversed(range(len(timeline.pts))):
        announced.setdefault(int(timeline.pts[position]), []).append(position)
    found = [announced[pts].pop() if announced.get(pts) else -1 for pts in decoded.pts]
    if found and found[0] >= 0 and all(earlier < later for earlier, later in itertools.pairwise(found)):
        return Clock(clock.times_s[found], clock.duration_s)
    start_s = float(clock.times_s[0]) if len(clock.times_s) else 0.0
    return Clock(np.linspace(start_s, clock.duration_s, count, endpoint=False), clock.duration_s)


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
        return DecodedFrames(pts, damaged)


def _clock(shown: list[_Stamp], pts: NDArray[np.int64], container: InputContainer, stream: VideoStream) -> Clock:
    """The clock of the frames, which are in the order they are shown if they have `pts`."""
    if not shown:
        return Clock(np.zeros(0), 0.0)
    tick_s, frame_s = _tick_s(stream), _frame_s(stream)
    # Frames come out of a decoder at the rate at which they go in.
    dts = _filled([stamp.dts for stamp in shown])
    values = pts.tolist() or dts or None
    if values is None:
        times_s = np.arange(len(shown), dtype=np.float64) * frame_s
    else:
        steps = np.diff(pts if len(pts) else np.array(values))
        steps = steps[steps > 0]
        step = float(np.median(steps)) if len(steps) else frame_s / tick_s
        times_s = ascending(values, step) * tick_s
    last_s = shown[-1].duration * tick_s
    if last_s <= 0:
        # As long as others usually stay; a gap says nothing about that.
        steps_s = np.diff(times_s)
        is_gap = steps_s > GAP_S
        num_steps = len(steps_s) - int(np.count_nonzero(is_gap))
        last_s = (float(times_s[-1]) - float(steps_s[is_gap].sum())) / num_steps if num_steps else frame_s
    times_s += _late_s(values, dts, container, stream)
    return Clock(times_s, float(times_s[-1]) + last_s)


def _filled(dts: list[int | None]) -> list[int]:
    """Decoding stamps with the missing ones put in, one usual step after the one before; none if most are missing."""
    known = [(place, stamp) for place, stamp in enumerate(dts) if stamp is not None]
    if len(known) == len(dts):
        return [stamp for _, stamp in known]
    if 2 * len(known) <= len(dts):
        return []
    step = int(np.median([stamp - before for (_, before), (_, stamp) in itertools.pairwise(known)]))
    place, stamp = known[0]
    last = stamp - step * (place + 1)
    filled: list[int] = []
    for one in dts:
        last = last + step if one is None else one
        filled.append(last)
    return filled


def _late_s(values: list[int] | None, dts: list[int], container: InputContainer, stream: VideoStream) -> float:
    """How long after the start of the container its picture begins."""
    if values is None:
        return 0.0
    zero_s = (container.start_time or 0) / 1e6 if container.format.name in FREE_CLOCKS else 0.0
    late_s = values[0] * _tick_s(stream) - zero_s
    # A stream whose first packet is due at the start is not late: its frames wait to be put in order.
    is_due = bool(dts) and min(dts[:REORDER]) * _tick_s(stream) <= zero_s + _tick_s(stream)
    return 0.0 if is_due or late_s <= LATE_S else late_s


def _is_even(clock: Clock) -> bool:
    return bool(np.allclose(np.diff(clock.times_s), clock.duration_s / max(1, len(clock.times_s)), rtol=1e-6))


def _tick_s(stream: VideoStream) -> float:
    return float(stream.time_base or 1)


def _frame_s(stream: VideoStream) -> float:
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    return float(1 / rate)
