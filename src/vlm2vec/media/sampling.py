"""Which frames stand for a clip, and into which spans is a long one cut?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import InputError, MediaError


class VideoInfo(NamedTuple):
    """Facts that are known of a video without decoding it.

    A folder or a tuple of frames has no clock: its `duration_s` is 0. `duration_s` is where a player's clock stands at
    the end. Width and height are those of the picture as it is shown, in pixels. `gaps_s` are the stretches (start,
    end) in which no new frame is shown for long (`find_gaps`).
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


GAP_S = 60.0
"""A frame that stays for longer than this is followed by a gap."""

BLANK_S = 20.0
"""A picture that begins later than this has a gap before it: a span of 30 s or so could lie in there as a whole."""

STILL_S = 30.0
"""How long a frame before a gap counts as shown at most."""


def find_gaps(clock: Clock) -> tuple[tuple[float, float], ...]:
    """List the stretches (start, end) of a minute or so in which no new frame is shown, in seconds.

    A gap begins one usual frame after the last frame before it, at most `STILL_S` after, and ends with the next frame
    or the clip. A picture that begins over `BLANK_S` late has one before it too. Slides that stand for minutes leave
    gaps: nothing new is seen.
    """
    times_s = clock.times_s
    if not len(times_s):
        return ()
    stays_s = np.diff(times_s, append=clock.duration_s)
    shown_s = min(float(np.median(stays_s)), STILL_S)
    late = [(0.0, float(times_s[0]))] if times_s[0] > BLANK_S else []
    ends_s = [*times_s[1:].tolist(), clock.duration_s]
    return tuple(
        late + [(float(times_s[index]) + shown_s, ends_s[index]) for index in np.flatnonzero(stays_s > GAP_S).tolist()]
    )


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
        duration_s: how long the clip is.
        span_s: how long a span should be.
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


def pick_frames(clock: Clock, span_s: tuple[float, float] | None, wanted: int, *, name: str) -> list[int]:
    """Pick the positions of `wanted` frames, all with start <= time < end if there is a span.

    A span that falls between two frames yields the one nearest to its middle, the earlier of two equally near.

    Raises:
        MediaError: no frames, or the span starts at or after the end of the clip.
        InputError: `wanted` is less than 1.
    """
    total = len(clock.times_s)
    if total == 0:
        raise MediaError(f"{name} has no frames: it is empty or damaged")
    if span_s is None:
        return frame_indices(total, wanted)
    start_s, end_s = span_s
    inside = np.flatnonzero((clock.times_s >= start_s) & (clock.times_s < end_s))
    if len(inside):
        return [int(inside[position]) for position in frame_indices(len(inside), wanted)]
    if start_s >= clock.duration_s:
        raise MediaError(
            f"{name} lasts {clock.duration_s:.2f} s; the span from {start_s:g} to {end_s:g} s lies beyond its end"
        )
    frame_indices(1, wanted)
    return [int(np.argmin(np.abs(clock.times_s - (start_s + end_s) / 2)))]
