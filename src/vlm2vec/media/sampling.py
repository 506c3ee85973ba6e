"""Which frames stand for a clip, and into which spans is a long one cut?"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import InputError, MediaError


class VideoInfo(NamedTuple):
    """What is known of a video without decoding it.

    A folder or a tuple of frames has no clock: its `duration_s` is 0. Width and height are those of the stored
    picture, in pixels, before any display rotation.
    """

    duration_s: float
    num_frames: int
    width: int
    height: int


class Clock(NamedTuple):
    """When each frame is shown, in seconds after the first one (float64 [num_frames]), and when the last one ends."""

    times_s: NDArray[np.float64]
    duration_s: float


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


def split_spans(duration_s: float, span_s: float = 30.0) -> list[tuple[float, float]]:
    """Cut a clip into equal spans (start, end) in seconds, which cover it without gap or overlap.

    There are round(duration / span) of them, but at least one. A clip without length (a single frame, a folder) is
    one span from 0 to `span_s`.

    Raises:
        InputError: `span_s` is not a positive number of seconds, or `duration_s` is negative or not a number.
    """
    if not (math.isfinite(span_s) and span_s > 0):
        raise InputError(f"span_s is {span_s}: it must be a positive number of seconds")
    if not (math.isfinite(duration_s) and duration_s >= 0):
        raise InputError(f"duration_s is {duration_s}: it must be a number of seconds, 0 or more")
    if duration_s == 0:
        return [(0.0, span_s)]
    count = max(1, round(duration_s / span_s))
    # The last edge is the duration itself, so that rounding never drops the last frame.
    edges = [duration_s * index / count for index in range(count)] + [float(duration_s)]
    return list(itertools.pairwise(edges))


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
