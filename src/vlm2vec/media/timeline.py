"""When is each frame of a video shown, where can decoding start, and which frames stand for a clip?

One clock serves probing, spans and picking: the one a player shows. It is worked out from the packets alone.

- Zero is where the container's clock begins, so a picture that begins after the sound, or after an empty edit, begins
  late. Broadcast formats start their clocks anywhere; there zero is where the first of their streams begins.
- A frame comes after the one before it: stamps that repeat or fall are mended (`_ascending`), and of two recordings
  joined in one stream the second follows the first.
- A frame stays until the next one. Where it stays for over a minute there is a gap (`Clock.gaps_s`).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import InputError, MediaError
from vlm2vec.media.source import Limits, check_file, describe
from vlm2vec.media.stream import VideoLook, open_clip

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream
    from PIL.Image import Transpose

_T = TypeVar("_T")

GAP_S = 60.0
"""A frame that stays for longer than this is followed by a gap."""

BLANK_S = 20.0
"""A picture that begins later than this has a gap before it: a span of 30 s or so could lie in there as a whole."""

STILL_S = 30.0
"""How long a frame before a gap counts as shown at most."""

FREE_CLOCKS = frozenset({"mpegts", "mpeg", "flv", "ogg"})
"""Formats that are cut out of running broadcasts: their clocks start anywhere, and players show them from 0."""

_CLOCK_TICKS = 1 << 33  # The clock of MPEG streams is full after 26.5 hours, and begins at 0 again.

LATE_S = 0.25
"""A picture that begins no later than this begins at 0: coders leave room for putting frames in order."""

REORDER = 17
"""A frame is shown before every frame that is stored this many places after it: H.264, HEVC and VVC move one by 16."""

ASTRAY = 32
"""How many frames in a row may stand off the clock before their stamps are taken for those of another recording."""


class VideoInfo(NamedTuple):
    """Facts that are known of a video without decoding it.

    A folder or a tuple of frames has no clock: its `duration_s` is 0. `duration_s` is where a player's clock stands at
    the end. Width and height are those of the picture as it is shown, in pixels. `gaps_s` are the stretches (start,
    end) in which no new frame is shown for long (`Clock.gaps_s`).
    """

    duration_s: float
    num_frames: int
    width: int
    height: int
    gaps_s: tuple[tuple[float, float], ...] = ()


class Clock(NamedTuple):
    """When each frame is shown and when the last one ends, in seconds on a player's clock.

    `times_s` ascends strictly (float64 [num_frames]); it begins at 0 unless the picture begins late.
    """

    times_s: NDArray[np.float64]
    duration_s: float

    def gaps_s(self) -> tuple[tuple[float, float], ...]:
        """List the stretches (start, end) of a minute or so in which no new frame is shown, in seconds.

        A gap begins one usual frame after the last frame before it, at most `STILL_S` after, and ends with the next
        frame or the clip. A picture that begins over `BLANK_S` late has one before it too. Slides that stand for
        minutes leave gaps: nothing new is seen.
        """
        times_s = self.times_s
        if not len(times_s):
            return ()
        stays_s = np.diff(times_s, append=self.duration_s)
        shown_s = min(float(np.median(stays_s)), STILL_S)
        late = [(0.0, float(times_s[0]))] if times_s[0] > BLANK_S else []
        ends_s = [*times_s[1:].tolist(), self.duration_s]
        return tuple(
            late
            + [(float(times_s[index]) + shown_s, ends_s[index]) for index in np.flatnonzero(stays_s > GAP_S).tolist()]
        )

    def pick_frames(self, span_s: tuple[float, float] | None, wanted: int, *, name: str) -> list[int]:
        """Pick the positions of `wanted` frames, all with start <= time < end if there is a span.

        A span that falls between two frames yields the one nearest to its middle, the earlier of two equally near.

        Raises:
            MediaError: no frames, or the span starts at or after the end of the clip.
            InputError: `wanted` is less than 1.
        """
        total = len(self.times_s)
        if total == 0:
            raise MediaError(f"{name} has no frames: it is empty or damaged")
        if span_s is None:
            return frame_indices(total, wanted)
        start_s, end_s = span_s
        inside = np.flatnonzero((self.times_s >= start_s) & (self.times_s < end_s))
        if len(inside):
            return [int(inside[position]) for position in frame_indices(len(inside), wanted)]
        if start_s >= self.duration_s:
            raise MediaError(
                f"{name} lasts {self.duration_s:.2f} s; the span from {start_s:g} to {end_s:g} s lies beyond its end"
            )
        frame_indices(1, wanted)
        return [int(np.argmin(np.abs(self.times_s - (start_s + end_s) / 2)))]


def frame_indices(total: int, wanted: int) -> list[int]:
    """Pick `wanted` frame positions spread evenly over a clip of `total` frames.

    Both ends are included; a clip shorter than `wanted` yields every frame once; one wanted frame is the first.
    Rule of the MMEB-V2 evaluation: evenly spaced by NumPy's linspace, rounded down.

    Raises:
        MediaError: `total` is 0 (an empty or unreadable clip).
        InputError: `wanted` is less than 1.
    """
    if wanted < 1:
        raise InputError(f"num_frames is {wanted}: at least 1 frame is needed")
    if total < 1:
        raise MediaError("a clip of 0 frames: it is empty or cannot be read")
    if total < wanted:
        return list(range(total))
    positions: list[int] = np.linspace(0, total - 1, wanted).astype(int).tolist()
    return positions


def split_spans(
    duration_s: float, span_s: float = 30.0, gaps_s: Sequence[tuple[float, float]] = ()
) -> list[tuple[float, float]]:
    """Cut a clip into spans (start, end) in seconds, which cover all of it but its gaps, once.

    Each stretch between gaps is cut into round(stretch / span) equal spans, but at least one. A clip without length
    (a single frame, a folder) is one span from 0 to `span_s`.

    Args:
        gaps_s: stretches (start, end) to leave out, in order, as `VideoInfo.gaps_s` lists them.

    Raises:
        InputError: `span_s` is not a positive number of seconds, or `duration_s` is negative or not a number.
    """
    if not (math.isfinite(span_s) and span_s > 0):
        raise InputError(f"span_s is {span_s}: it must be a positive number of seconds")
    if not (math.isfinite(duration_s) and duration_s >= 0):
        raise InputError(f"duration_s is {duration_s}: it must be a number of seconds, 0 or more")
    if duration_s == 0:
        return [(0.0, span_s)]
    starts_s = [0.0, *(end_s for _, end_s in gaps_s)]
    ends_s = [*(start_s for start_s, _ in gaps_s), float(duration_s)]
    spans: list[tuple[float, float]] = []
    for start_s, end_s in zip(starts_s, ends_s, strict=True):
        if start_s < end_s:  # A gap may lie at the very start or end.
            length_s = end_s - start_s
            count = max(1, round(length_s / span_s))
            # The last edge is the end itself, so that rounding never drops the last frame.
            edges = [start_s + length_s * index / count for index in range(count)] + [end_s]
            spans += itertools.pairwise(edges)
    return spans


class _Keyframe(NamedTuple):
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
    keyframes: list[_Keyframe]
    exact: bool
    width: int
    height: int
    is_plain: bool

    def clock_of(self, decoded: Sequence[int | None]) -> Clock:
        """The clock for the frames that decode, by their stamps: a decoder may give out more or fewer than announced.

        A frame is told by its stamp. Where stamps do not tell, the frames lie evenly over the time announced.
        """
        clock, count = self.clock, len(decoded)
        if count == len(clock.times_s):
            return clock
        announced: dict[int | None, list[int]] = {}
        for position in reversed(range(len(self.pts))):
            announced.setdefault(int(self.pts[position]), []).append(position)
        found = [announced[pts].pop() if announced.get(pts) else -1 for pts in decoded]
        if found and found[0] >= 0 and all(earlier < later for earlier, later in itertools.pairwise(found)):
            return Clock(clock.times_s[found], clock.duration_s)
        start_s = float(clock.times_s[0]) if len(clock.times_s) else 0.0
        return Clock(np.linspace(start_s, clock.duration_s, count, endpoint=False), clock.duration_s)


def once_a_file(read: Callable[[Path | bytes, Limits], _T]) -> Callable[[Path | bytes, Limits], _T]:
    """Make a function that reads a video remember what it returned for the last 8 files, until they change.

    A film is read as hundreds of spans one after the other; this way its packets are gone through once.
    """

    @functools.lru_cache(maxsize=8)
    def of_file(path: Path, _state: tuple[int, int, int, int], limits: Limits) -> _T:
        return read(path, limits)

    @functools.wraps(read)
    def of_source(source: Path | bytes, limits: Limits) -> _T:
        if isinstance(source, bytes):
            return read(source, limits)
        status = check_file(source, "a video", limits)
        return of_file(source, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns), limits)

    return of_source


class _Stamp(NamedTuple):
    """A frame as its packet announces it, times in ticks of the stream."""

    pts: int | None
    dts: int | None
    duration: int
    is_keyframe: bool
    is_shown: bool


@once_a_file
def announced_frames(source: Path | bytes, limits: Limits) -> Timeline:
    """Read the packets of a video file, decoding none.

    Raises:
        MediaError: no video in it, or damaged. LimitError: larger than `limits` allow.
    """
    with open_clip(source, limits) as (container, stream):
        stamps, turn = _read_stamps(container, stream, limits, describe(source))
        shown = [stamp for stamp in stamps if stamp.is_shown]
        times = [stamp.pts for stamp in shown if stamp.pts is not None]
        is_timed = 0 < len(times) == len(shown) and not _is_counted(times, container, stream)
        pts = np.array(times if is_timed else [], dtype=np.int64)
        if is_timed:
            pts = _unwrapped(pts, container)
            is_keyframe = np.array([stamp.is_keyframe for stamp in shown])
            # Headers of H.264 need not tell, so FFmpeg may find out only later.
            may_reorder = stream.codec_context.has_b_frames or stream.codec_context.name == "h264"
            order = _shown_order(pts, is_keyframe, REORDER if may_reorder else 1)
            pts, shown = pts[order], [shown[position] for position in order]
        exact = is_timed and bool(np.all(pts[1:] > pts[:-1]))
        keyframes = [
            _Keyframe(int(np.searchsorted(pts, stamp.pts)), stamp.pts, stamp.pts if stamp.dts is None else stamp.dts)
            for stamp in stamps
            if exact and stamp.is_keyframe and stamp.pts is not None
        ]
        clock = _clock(shown, pts, container, stream)
        look, codec = VideoLook.of(stream), stream.codec_context
        width, height = look.size(codec.width, codec.height, turn)
        is_plain = (
            (exact or (not is_timed and _is_even(clock)))
            and bool(len(clock.times_s))
            and clock.times_s[0] == 0
            and not clock.gaps_s()
            and look.is_plain(turn)
            and stream == container.streams.video[0]
        )
        return Timeline(clock, pts, sorted(keyframes), exact, width, height, is_plain)


def _read_stamps(
    container: InputContainer, stream: VideoStream, limits: Limits, name: str
) -> tuple[list[_Stamp], Transpose | None]:
    """The stamps of all packets as they are stored, and the turn of the first frame."""
    # A film has a hundred thousand packets: all that is alike for each is asked for once.
    is_vp8 = stream.codec_context.name == "vp8"
    stamps: list[_Stamp] = []
    turn: Transpose | None = None
    is_turn_known = False
    for packet in container.demux(stream):
        if packet.size:
            if packet.is_keyframe and not is_turn_known:
                turn, is_turn_known = _first_turn(packet, stream), True
            # VP8 stores frames that are only referred to as packets of their own (bit 4 of the frame header).
            is_hidden = is_vp8 and not memoryview(packet)[0] & 0x10
            # A discarded packet lies before the start that an edit list sets: decoded, not shown.
            is_shown = not packet.is_discard and not is_hidden
            stamps.append(_Stamp(packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, is_shown))
            limits.check_frames(len(stamps), name)
    return stamps, turn


def _first_turn(keyframe: Packet[VideoStream], stream: VideoStream) -> Transpose | None:
    import av

    # PyAV shows the display matrix of a stream on decoded frames alone.
    stream.codec_context.thread_count = 1
    try:
        frames = [*keyframe.decode(), *stream.codec_context.decode(None)]
    except av.FFmpegError:
        return None  # Reading the frames will tell.
    return VideoLook.turn(frames[0]) if frames else None


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


def _clock(shown: list[_Stamp], pts: NDArray[np.int64], container: InputContainer, stream: VideoStream) -> Clock:
    """The clock of the frames, which are in the order they are shown if they have `pts`."""
    if not shown:
        return Clock(np.zeros(0), 0.0)
    tick_s = _tick_s(stream)
    frame_s = float(1 / (stream.average_rate or stream.guessed_rate or Fraction(25)))
    # Frames come out of a decoder at the rate at which they go in.
    dts = _filled([stamp.dts for stamp in shown])
    values = pts.tolist() or dts or None
    if values is None:
        times_s = np.arange(len(shown), dtype=np.float64) * frame_s
    else:
        steps = np.diff(pts if len(pts) else np.array(values))
        steps = steps[steps > 0]
        step = float(np.median(steps)) if len(steps) else frame_s / tick_s
        times_s = _ascending(values, step) * tick_s
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


def _shown_order(pts: NDArray[np.int64], is_keyframe: NDArray[np.bool_], reorder: int = REORDER) -> NDArray[np.intp]:
    """Sort frames from the order in which they are stored into the one in which they are shown.

    Stamps order the frames of one recording, never those of two joined in one stream: a new recording begins where a
    keyframe is not later than all before it, or a frame is not later than one stored `reorder` places before it.
    With `reorder` 1 frames are shown in the order in which they are stored.
    """
    starts = _recordings(pts, is_keyframe, reorder)
    return np.concatenate(
        [start + np.argsort(pts[start:end], kind="stable") for start, end in itertools.pairwise([*starts, len(pts)])]
    )


def _ascending(stamps: Sequence[int], step: float) -> NDArray[np.float64]:
    """Make the stamps of frames in the order they are shown ascend strictly: float64 ticks after the first, [N].

    Stamps that ascend are kept. Where they do not,

    - a frame with the stamp of the one before it lies between that one and the next later one;
    - up to `ASTRAY` frames that fall behind the clock, or run ahead of it, lie evenly between the frames around them:
      their stamps leave the line of the others by a jump and come back by one;
    - after any other fall another recording begins: it follows one `step` after the last frame.
    """
    values = np.array(stamps, dtype=np.int64)
    if np.all(values[1:] > values[:-1]):
        return values.astype(np.float64) - float(values[0])
    times = _mended([stamp - stamps[0] for stamp in stamps], step)
    if np.all(times[1:] > times[:-1]):
        return times
    # Stamps so far apart that a float cannot hold the steps between them.
    return np.arange(len(stamps), dtype=np.float64) * step


def _recordings(pts: NDArray[np.int64], is_keyframe: NDArray[np.bool_], reorder: int) -> list[int]:
    highest = np.maximum.accumulate(pts)
    late_keyframe = is_keyframe[1:] & (pts[1:] <= highest[:-1])
    if not late_keyframe.any() and not np.any(pts[reorder:] <= highest[:-reorder]):
        return [0]
    starts = [0]
    maxima: list[int] = []  # The highest stamp up to each frame of the current recording.
    for index, (stamp, is_key) in enumerate(zip(pts.tolist(), is_keyframe.tolist(), strict=True)):
        if maxima and ((is_key and stamp <= maxima[-1]) or (len(maxima) >= reorder and stamp <= maxima[-reorder])):
            starts.append(index)
            maxima = []
        maxima.append(max(stamp, maxima[-1]) if maxima else stamp)
    return starts


def _mended(stamps: list[int], step: float) -> NDArray[np.float64]:
    kept_at = [0]  # The frames that keep their stamps; the others are placed between them.
    kept: list[float] = [stamps[0]]
    shift = 0.0
    index = 1
    while index < len(stamps):
        value = stamps[index] + shift
        if value < kept[-1]:
            behind = _frames_behind(stamps, index, kept[-1] - shift, step)
            ahead = _frames_ahead(kept, value, step)
            if behind and not 0 < ahead < behind:
                index += behind
                continue
            if ahead:
                del kept_at[-ahead:], kept[-ahead:]
            else:
                following = kept[-1] + step * (index - kept_at[-1])
                shift += following - value
                value = following
        if value > kept[-1]:
            kept_at.append(index)
            kept.append(value)
        index += 1
    positions = np.arange(len(stamps))
    times = np.interp(positions, kept_at, kept)
    times[kept_at[-1] :] = kept[-1] + step * (positions[kept_at[-1] :] - kept_at[-1])
    return times


def _frames_behind(stamps: list[int], index: int, top: float, step: float) -> int:
    """How many frames from `index` on lie behind the clock, at `top`, until jumps make good the fall; 0 if none do."""
    jumps = 0.0
    for later in range(index + 1, min(index + 1 + ASTRAY, len(stamps))):
        jumps += max(0.0, stamps[later] - stamps[later - 1] - step)
        if stamps[later] > top and jumps >= top - stamps[index]:
            return later - index
    return 0


def _frames_ahead(kept: list[float], value: float, step: float) -> int:
    """How many of the last kept frames ran ahead by jumps that the fall to `value` undoes; 0 if none did."""
    jumps = 0.0
    for count in range(1, min(ASTRAY + 1, len(kept))):
        jumps += max(0.0, kept[-count] - kept[-count - 1] - step)
        if kept[-count - 1] < value and jumps >= kept[-1] - value:
            return count
    return 0
