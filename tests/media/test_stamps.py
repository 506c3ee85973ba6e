"""Time stamps that repeat, fall, leap or begin anew become one clock that ascends."""

from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm2vec.media.timeline import ASTRAY, Clock, _ascending, _shown_order, split_spans

LINE = list(range(0, 8000, 100))
MENDED: dict[str, tuple[list[int], list[float]]] = {
    "ascending stamps stay": ([40, 50, 60, 95], [0, 10, 20, 55]),
    "a repeated one lies in the middle": ([0, 100, 100, 300, 400], [0, 100, 200, 300, 400]),
    "several repeated ones lie evenly": ([0, 100, 100, 100, 100, 300], [0, 100, 150, 200, 250, 300]),
    "repeated ones at the end follow one step apart": ([0, 100, 200, 200, 200], [0, 100, 200, 300, 400]),
    "all alike follow one step apart": ([7, 7, 7, 7], [0, 100, 200, 300]),
    "one that fell lies between its neighbours": ([0, 100, 200, 50, 400, 500], [0, 100, 200, 300, 400, 500]),
    "several that fell lie evenly": ([0, 100, 200, 10, 20, 500, 600], [0, 100, 200, 300, 400, 500, 600]),
    "several that fell unevenly": ([0, 100, 900, -800, -100, 1200], [0, 100, 900, 1000, 1100, 1200]),
    "one that leapt lies between its neighbours": ([0, 100, 9000, 300, 400], [0, 100, 200, 300, 400]),
    "several that leapt lie evenly": ([0, 100, 9000, 9100, 400], [0, 100, 200, 300, 400]),
    "a second recording follows the first": ([0, 100, 200, 0, 100, 200], [0, 100, 200, 300, 400, 500]),
    "a second recording keeps its own steps": ([0, 100, 200, 50, 70, 90], [0, 100, 200, 300, 320, 340]),
    "three recordings": ([500, 600, 0, 100, 90, 190], [0, 100, 200, 300, 400, 500]),
    "a recording after repeated stamps": ([0, 100, 200, 200, 0, 100], [0, 100, 200, 300, 400, 500]),
    "a gap stays": ([0, 100, 3_600_000, 3_600_100], [0, 100, 3_600_000, 3_600_100]),
    "one frame": ([12345], [0]),
}


@pytest.mark.parametrize("name", MENDED)
def test_stamps_are_mended_by_the_written_rule(name: str) -> None:
    stamps, times = MENDED[name]
    assert _ascending(stamps, 100.0).tolist() == times


@pytest.mark.parametrize("first", [1, 20, 48])
@pytest.mark.parametrize("count", [1, 3, ASTRAY - 1])
@pytest.mark.parametrize("off", [-50_000, -1000, -150, 5000, 50_000])
def test_a_few_frames_off_the_clock_move_no_other_frame(first: int, count: int, off: int) -> None:
    stamps = [stamp + off if first <= index < first + count else stamp for index, stamp in enumerate(LINE)]
    assert _ascending(stamps, 100.0).tolist() == pytest.approx(LINE)


@pytest.mark.parametrize("restart", [0, 3000, 7000, 7800])
def test_a_second_recording_of_any_length_follows_whatever_its_stamps(restart: int) -> None:
    for length in (1, 5, 50, 200):
        second = list(range(restart, restart + 100 * length, 100))
        assert _ascending(LINE + second, 100.0).tolist() == list(range(0, 8000 + 100 * length, 100))


STEPS = st.one_of(
    st.sampled_from([0, 1, 33, 40, 40, 40]), st.integers(-5000, 5000), st.sampled_from([-(1 << 40), 1 << 40, 3_600_000])
)


@given(st.lists(STEPS, min_size=1, max_size=150))
def test_whatever_the_stamps_times_ascend_and_every_frame_lies_in_one_span(steps: list[int]) -> None:
    stamps = np.cumsum(steps).tolist()
    times_s = _ascending(stamps, 40.0) / 1000
    assert times_s[0] == 0
    assert np.all(np.diff(times_s) > 0)
    clock = Clock(times_s, float(times_s[-1]) + 0.04)
    gaps_s = clock.gaps_s()
    # A few spans may be as long as the gaps between them.
    span_s = max(30.0, clock.duration_s / 500)
    spans = split_spans(clock.duration_s, span_s, gaps_s)
    assert sorted([*spans, *gaps_s]) == [
        *pairwise(sorted({0.0, clock.duration_s, *chain.from_iterable([*spans, *gaps_s])}))
    ]
    found = [clock.pick_frames(span, len(stamps), name="clip") for span in spans]
    inside = [
        [i for i in picked if start <= times_s[i] < end] for picked, (start, end) in zip(found, spans, strict=True)
    ]
    assert list(chain.from_iterable(inside)) == list(range(len(stamps)))


@given(st.lists(st.integers(1, 100), min_size=1, max_size=200), st.integers(0, 2**32))
def test_stamps_that_ascend_are_kept_to_the_bit(steps: list[int], start: int) -> None:
    stamps = (start + np.cumsum(steps)).tolist()
    assert _ascending(stamps, 40.0).tolist() == [float(stamp - stamps[0]) for stamp in stamps]


@given(st.integers(1, 120), st.integers(0, 16))
def test_frames_that_wait_to_be_put_in_order_are_sorted(count: int, depth: int) -> None:
    """Groups of up to 17 frames, each headed by its last, as coders store them; the first is a keyframe."""
    stored: list[int] = []
    for start in range(0, count, depth + 1):
        group = list(range(start, min(start + depth + 1, count)))
        stored += [group[-1], *group[:-1]]
    pts = np.array(stored, dtype=np.int64)
    order = _shown_order(pts, np.arange(count) == 0)
    assert pts[order].tolist() == list(range(count))


@pytest.mark.parametrize(("second_at", "begins_with_keyframe"), [(-1000, True), (0, True), (300, True), (0, False)])
def test_two_recordings_in_one_stream_do_not_mix(second_at: int, begins_with_keyframe: bool) -> None:
    first = [10 * stamp for group in range(0, 40, 4) for stamp in (group, group + 3, group + 1, group + 2)]
    second = [stamp + second_at for stamp in first]
    pts, is_keyframe = np.array(first + second, dtype=np.int64), np.arange(80) == 0
    is_keyframe[40] = begins_with_keyframe
    assert pts[_shown_order(pts, is_keyframe)].tolist() == sorted(first) + sorted(second)


def test_a_gap_is_told_and_is_in_no_span() -> None:
    film = np.arange(400) / 10
    clock = Clock(np.concatenate([film, 3640 + film]), 3680.0)
    assert clock.gaps_s() == ((pytest.approx(40.0), 3640.0),)
    assert split_spans(3680.0, gaps_s=clock.gaps_s()) == [(0.0, pytest.approx(40.0)), (3640.0, 3680.0)]


def test_gaps_lie_before_a_late_start_and_after_a_last_frame_that_stays_too() -> None:
    clock = Clock(3600 + np.arange(300) / 10, 9000.0)
    assert clock.gaps_s() == ((0.0, 3600.0), (pytest.approx(3630.0), 9000.0))
    assert split_spans(9000.0, gaps_s=clock.gaps_s()) == [(3600.0, pytest.approx(3630.0))]
    film = np.arange(300) / 10
    assert Clock(20 + film, 50.0).gaps_s() == ()
    assert Clock(21 + film, 51.0).gaps_s() == ((0.0, 21.0),)


def test_a_frame_that_stays_for_a_minute_leaves_no_gap_and_slides_count_for_half_a_minute() -> None:
    assert Clock(np.array([0.0, 60.0, 120.0]), 180.0).gaps_s() == ()
    assert Clock(np.array([0.0, 300.0]), 600.0).gaps_s() == ((30.0, 300.0), (330.0, 600.0))
    assert split_spans(600.0, gaps_s=((30.0, 300.0), (330.0, 600.0))) == [(0.0, 30.0), (300.0, 330.0)]
    assert Clock(np.zeros(0), 0.0).gaps_s() == ()
