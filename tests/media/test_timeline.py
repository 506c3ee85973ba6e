"""One clock for probing, spans and picking: the one a player shows, whatever the stamps of a file."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from support.media_files import all_frames, as_bytes, color_at, measured, picture, write_video
from support.places import DATA
from vlm2vec.items import Video
from vlm2vec.media import DEFAULT_LIMITS, VideoInfo, load_frames, probe, read_frames, split_spans
from vlm2vec.media.timeline import ASTRAY, Clock, _ascending, _shown_order, announced_frames
from vlm2vec.media.video import shown_otherwise
from vlm2vec.search.scan import split_file

CLIPS = DATA / "clips"


def times_s(path: Path) -> list[float]:
    return [round(float(time_s), 3) for time_s in announced_frames(path, DEFAULT_LIMITS).clock.times_s]


def frames_of_spans(path: Path, span_s: float) -> list[list[bytes]]:
    info = probe(path)
    return [
        as_bytes(read_frames(Video(path, span), 10_000)) for span in split_spans(info.duration_s, span_s, info.gaps_s)
    ]


def restamped(path: Path, source: Path, stamps_ms: Sequence[int | None]) -> Path:
    """Write a Matroska file anew with other stamps (None: as it is), which no muxer would write."""
    with av.open(str(source)) as container:
        packets = [(packet.pts, bytes(packet)) for packet in container.demux(video=0) if packet.size]
    content = bytearray(source.read_bytes())
    at = 0
    for (before_ms, data), after_ms in zip(packets, stamps_ms, strict=True):
        at = content.index(data, at)
        if after_ms is not None:
            # A block holds its time, relative to its cluster's, in the two bytes before its flags.
            (relative,) = struct.unpack_from(">h", content, at - 3)
            struct.pack_into(">h", content, at - 3, relative + after_ms - before_ms)
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Clips of 60 frames in 6 s, as they are stored: in the order they are shown, and not."""
    folder = tmp_path_factory.mktemp("films")
    return {
        "mpeg4": write_video(folder / "mpeg4.mkv", "mpeg4"),
        "b_frames": write_video(folder / "b_frames.mkv", options={"bf": "2"}),
    }


def test_a_film_of_two_minutes_with_a_repeated_stamp_lasts_two_minutes(tmp_path: Path) -> None:
    path = CLIPS / "vfr_dup.webm"
    assert probe(path) == VideoInfo(120.0, 660, 64, 64)
    assert split_spans(120.0) == [(0.0, 30.0), (30.0, 60.0), (60.0, 90.0), (90.0, 120.0)]
    found = [read_frames(Video(path, span), 1000) for span in split_spans(120.0)]
    assert [len(frames) for frames in found] == [300, 300, 30, 30]
    # Red for a minute, then blue.
    assert [{color_at(frame, (5, 5))[0] > 200 for frame in frames} for frames in found] == [
        {True},
        {True},
        {False},
        {False},
    ]
    assert times_s(path)[48:53] == [4.8, 4.9, 5.0, 5.1, 5.2]


STAMPS: dict[str, tuple[list[int | None], list[float]]] = {
    "repeated": ([None] * 20 + [1900] + [None] * 39, [frame / 10 for frame in range(60)]),
    "repeated on a keyframe": ([None] * 12 + [1100] + [None] * 47, [frame / 10 for frame in range(60)]),
    "fallen": ([None] * 30 + [500] + [None] * 29, [frame / 10 for frame in range(60)]),
    "leapt": ([None] * 30 + [25_000] + [None] * 29, [frame / 10 for frame in range(60)]),
    "begun anew": ([None] * 30 + list(range(0, 3000, 100)), [frame / 10 for frame in range(60)]),
    "begun anew at another rate": (
        [None] * 24 + list(range(7, 36 * 40, 40)),
        [*(i / 10 for i in range(24)), *(2.34 + i / 25 for i in range(36))],
    ),
}


@pytest.mark.parametrize("name", STAMPS)
def test_stamps_that_do_not_ascend_are_mended_and_every_frame_is_in_one_span(
    films: dict[str, Path], tmp_path: Path, name: str
) -> None:
    stamps, expected = STAMPS[name]
    path = restamped(tmp_path / "a.mkv", films["mpeg4"], stamps)
    assert times_s(path) == pytest.approx(expected, abs=0.001)
    assert probe(path).duration_s == pytest.approx(expected[-1] + 0.1, abs=0.001)
    every = all_frames(films["mpeg4"])
    spans = frames_of_spans(path, 2.0)
    assert len(spans) == round(probe(path).duration_s / 2)
    assert list(chain.from_iterable(spans)) == every
    assert as_bytes(read_frames(Video(path), 5)) == [every[position] for position in (0, 14, 29, 44, 59)]
    assert shown_otherwise(path)
    assert not shown_otherwise(films["mpeg4"])


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["mpeg4", "b_frames"]),
    st.lists(st.tuples(st.integers(0, 59), st.integers(1, 60), st.integers(-25_000, 25_000)), max_size=4),
)
@example("b_frames", [(24, 60, -2400)])
def test_whatever_the_stamps_the_spans_hold_all_frames_of_a_full_decoding_once(
    films: dict[str, Path], tmp_path: Path, name: str, shifts: list[tuple[int, int, int]]
) -> None:
    with av.open(str(films[name])) as container:
        stored = [packet.pts for packet in container.demux(video=0) if packet.size]
    stamps = np.array(stored)
    for start, count, shift_ms in shifts:
        stamps[start : start + count] += shift_ms
    stamps = np.clip(stamps, 0, 32_000)
    path = restamped(tmp_path / "a.mkv", films[name], stamps.tolist())
    clock, info, every = announced_frames(path, DEFAULT_LIMITS).clock, probe(path), all_frames(path)
    assert np.all(np.diff(clock.times_s) > 0)
    assert len(every) == info.num_frames == 60
    found = []
    for start_s, end_s in split_spans(info.duration_s, info.duration_s / 3, info.gaps_s):
        if np.any((clock.times_s >= start_s) & (clock.times_s < end_s)):  # A span between two frames repeats one.
            found += as_bytes(read_frames(Video(path, (start_s, end_s)), 100))
    assert found == every


def test_of_two_broadcasts_joined_in_one_file_the_second_follows_the_first(tmp_path: Path) -> None:
    parts = [
        write_video(
            tmp_path / f"{shift}.ts", frames=[picture(64, 48, shift + i) for i in range(30)], options={"bf": "2"}
        )
        for shift in (0, 30)
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert times_s(path) == [frame / 10 for frame in range(60)]
    assert measured(path) == VideoInfo(6.0, 60, 64, 48)
    every = [frame for part in parts for frame in all_frames(part)]
    assert as_bytes(read_frames(Video(path, (2.45, 3.55)), 100)) == every[25:36]
    assert list(chain.from_iterable(frames_of_spans(path, 2.0))) == every
    assert shown_otherwise(path)


def test_a_broadcast_of_an_earlier_time_follows_too(tmp_path: Path) -> None:
    parts = [late_film(tmp_path / f"{at}.ts", picture_at_s=at, sound_at_s=None) for at in (5000, 100)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert measured(path) == VideoInfo(4.0, 40, 64, 48)
    assert times_s(path) == pytest.approx([frame / 10 for frame in range(40)])
    assert list(chain.from_iterable(frames_of_spans(path, 1.0))) == all_frames(parts[0]) + all_frames(parts[1])


def test_a_broadcast_whose_clock_becomes_full_goes_on(tmp_path: Path) -> None:
    path = late_film(tmp_path / "a.ts", picture_at_s=(1 << 33) / 90_000 - 1, sound_at_s=None)
    assert times_s(path) == pytest.approx([frame / 10 for frame in range(20)], abs=0.001)
    assert not shown_otherwise(path)


def test_a_gap_of_an_hour_is_told_and_costs_no_vectors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pts = [*range(0, 400, 10), *range(36_400, 36_800, 10)]  # 80 s of film, one frame a second
    path = write_video(tmp_path / "gap.mp4", num_frames=80, pts=pts)
    info = probe(path)
    assert info == VideoInfo(info.duration_s, 80, 64, 48, ((40.0, 3640.0),))
    assert info.duration_s == pytest.approx(3679.1, abs=1)
    parts = split_file(path, "video")
    spans = [(0.0, 40.0), (3640.0, pytest.approx(3679.6, abs=0.6))]
    assert [part.span_s for part in parts if isinstance(part, Video)] == spans
    every = all_frames(path)
    assert [as_bytes([*load_frames(part, num_frames=100).images]) for part in parts] == [every[:40], every[40:]]
    assert "gap.mp4 shows nothing new from 40 to 3640 s: left out of its spans" in caplog.text
    assert shown_otherwise(path)


@pytest.mark.parametrize(("ending", "slack_s"), [("ts", 0.01), ("flv", 0.21), ("mkv", 0.01)])
def test_a_gap_is_as_long_where_frames_have_no_length_or_no_stamp(tmp_path: Path, ending: str, slack_s: float) -> None:
    # Transport streams tell no lengths, and FFmpeg reads Flash video without the stamps of two frames at a gap.
    pts = [*range(40), *range(36_000, 36_040)]
    path = write_video(tmp_path / f"gap.{ending}", num_frames=80, pts=pts, options={"bf": "2"})
    ((start_s, end_s),) = probe(path).gaps_s
    assert [start_s, end_s] == pytest.approx([4.0, 3600.0], abs=slack_s)
    assert probe(path).duration_s == pytest.approx(3604.0, abs=slack_s)
    spans = [(0.0, start_s), (end_s, probe(path).duration_s)]
    assert split_file(path, "video") == [Video(path, span_s=span) for span in spans]
    assert list(chain.from_iterable(frames_of_spans(path, 30.0))) == all_frames(path)


def test_one_line_tells_of_many_gaps(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_video(tmp_path / "slides.mp4", num_frames=6, pts=range(0, 5400, 900))
    assert split_file(path, "video")[:2] == [Video(path, span_s=span) for span in [(0.0, 30.0), (90.0, 120.0)]]
    text = "slides.mp4 shows nothing new from 30 to 90 s, 120 to 180 s, 210 to 270 s and in "
    assert [text in message for message in caplog.messages] == [True]


def late_film(path: Path, *, picture_at_s: float, sound_at_s: float | None, start_s: float = 0.0) -> Path:
    """Write 2 s of film and of sound that begin at other times."""
    with av.open(str(path), "w", options={"mpegts_copyts": "1"} if path.suffix == ".ts" else {}) as container:
        film = container.add_stream("flv" if path.suffix == ".flv" else "mpeg4", rate=10)
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        sound = None if sound_at_s is None else container.add_stream("mp2", rate=44100, layout="mono")
        packets = []
        for index in range(20):
            frame = av.VideoFrame.from_image(picture(64, 48, index))
            frame.pts, frame.time_base = round((start_s + picture_at_s) * 10) + index, Fraction(1, 10)
            packets += film.encode(frame)
        packets += film.encode()
        if sound is not None and sound_at_s is not None:
            for index in range(60):
                block = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16", layout="mono")
                block.sample_rate, block.time_base = 44100, Fraction(1, 44100)
                block.pts = round((start_s + sound_at_s) * 44100) + 1152 * index
                packets += sound.encode(block)
            packets += sound.encode()
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def test_a_picture_that_begins_late_is_on_the_clock_of_a_player() -> None:
    path = CLIPS / "el_start.mp4"
    assert probe(path) == VideoInfo(11.0, 80, 64, 64)
    every = all_frames(path)
    assert times_s(path) == [round(3 + frame / 10, 3) for frame in range(80)]
    assert as_bytes(read_frames(Video(path, (4.95, 6.05)), 100)) == every[20:31]
    assert frames_of_spans(path, 5.5) == [every[:25], every[25:]]
    assert split_file(path, "video") == [Video(path)]
    assert shown_otherwise(path)


@pytest.mark.parametrize(
    ("name", "start_s", "picture_at_s", "sound_at_s", "first_s"),
    [
        ("a.mp4", 0, 3, 0, 3),
        ("a.mkv", 0, 3, 0, 3),
        ("a.mkv", 0, 3, None, 3),
        ("a.ts", 0, 3, 0, 3),
        ("a.ts", 93_600, 3, 0, 3),  # A broadcast's clock starts anywhere.
        ("a.ts", 93_600, 0, None, 0),
        ("a.ts", 0, 0, 2, 0),
        ("a.flv", 0, 0, None, 0),
        ("a.mp4", 0, 0.2, 0, 0),  # Less than coders leave for putting frames in order.
    ],
)
def test_zero_is_where_the_container_begins(
    tmp_path: Path, name: str, start_s: float, picture_at_s: float, sound_at_s: float | None, first_s: float
) -> None:
    path = late_film(tmp_path / name, picture_at_s=picture_at_s, sound_at_s=sound_at_s, start_s=start_s)
    assert times_s(path) == pytest.approx([first_s + frame / 10 for frame in range(20)], abs=0.03)
    assert probe(path).duration_s == pytest.approx(first_s + 2, abs=0.03)
    assert shown_otherwise(path) == (first_s > 0)


def test_an_unusual_file_is_told_from_an_ordinary_one_without_an_error(films: dict[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    moving = tmp_path / "moving.gif"
    picture().save(moving, save_all=True, append_images=[picture(shift=1)])
    assert [shown_otherwise(path) for path in (broken, moving, *films.values())] == [True, False, False, False]


# Stamps alone.

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
    np.testing.assert_allclose(clock.gaps_s(), [(40.0, 3640.0)], rtol=1e-9)
    np.testing.assert_allclose(split_spans(3680.0, gaps_s=clock.gaps_s()), [(0, 40), (3640, 3680)], rtol=1e-9)


def test_gaps_lie_before_a_late_start_and_after_a_last_frame_that_stays_too() -> None:
    clock = Clock(3600 + np.arange(300) / 10, 9000.0)
    np.testing.assert_allclose(clock.gaps_s(), [(0.0, 3600.0), (3630.0, 9000.0)], rtol=1e-9)
    np.testing.assert_allclose(split_spans(9000.0, gaps_s=clock.gaps_s()), [(3600, 3630)], rtol=1e-9)
    film = np.arange(300) / 10
    assert Clock(20 + film, 50.0).gaps_s() == ()
    assert Clock(21 + film, 51.0).gaps_s() == ((0.0, 21.0),)


def test_a_frame_that_stays_for_a_minute_leaves_no_gap_and_slides_count_for_half_a_minute() -> None:
    assert Clock(np.array([0.0, 60.0, 120.0]), 180.0).gaps_s() == ()
    assert Clock(np.array([0.0, 300.0]), 600.0).gaps_s() == ((30.0, 300.0), (330.0, 600.0))
    assert split_spans(600.0, gaps_s=((30.0, 300.0), (330.0, 600.0))) == [(0.0, 30.0), (300.0, 330.0)]
    assert Clock(np.zeros(0), 0.0).gaps_s() == ()
