"""How do the time stamps of a video file become one clock that only ever ascends?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

REORDER = 17
"""A frame is shown before every frame that is stored this many places after it: H.264, HEVC and VVC move one by 16."""

ASTRAY = 32
"""How many frames in a row may stand off the clock before their stamps are taken for those of another recording."""


def shown_order(pts: NDArray[np.int64], is_keyframe: NDArray[np.bool_], reorder: int = REORDER) -> NDArray[np.intp]:
    """Sort frames from the order in which they are stored into the one in which they are shown.

    Stamps order the frames of one recording, never those of two joined in one stream: a new recording begins where a
    keyframe is not later than all before it, or a frame is not later than one stored `reorder` places before it.
    With `reorder` 1 frames are shown in the order in which they are stored.
    """
    starts = _recordings(pts, is_keyframe, reorder)
    return np.concatenate(
        [start + np.argsort(pts[start:end], kind="stable") for start, end in itertools.pairwise([*starts, len(pts)])]
    )


def ascending(stamps: Sequence[int], step: float) -> NDArray[np.float64]:
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
