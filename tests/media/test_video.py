"""Videos: the right frames out of every container, spans, folders and animations."""

import functools
import os
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.media_files import all_frames, animation, as_bytes, color_at, encoded, measured, picture, write_video
from vlm2vec.errors import InputError, MediaError
from vlm2vec.items import Image, Video
from vlm2vec.media import (
    DEFAULT_LIMITS,
    VideoInfo,
    frame_indices,
    load_frames,
    probe,
    read_frames,
    split_spans,
)
from vlm2vec.media.stream import VideoLook, open_clip
from vlm2vec.media.timeline import announced_frames
from vlm2vec.media.video import _frames_by_seeking

B_FRAMES = {"bf": "2"}
CLIPS: dict[str, tuple[str, dict[str, str], str]] = {
    "h264.mp4": ("libx264", B_FRAMES, "yuv420p"),
    "h264.mkv": ("libx264", B_FRAMES, "yuv420p"),
    "h264.mov": ("libx264", B_FRAMES, "yuv420p"),
    "open_gop.mp4": ("libx264", {"bf": "3", "x264-params": "open-gop=1"}, "yuv420p"),
    "open_gop.mkv": ("libx264", {"bf": "3", "x264-params": "open-gop=1"}, "yuv420p"),
    "hevc.mp4": ("libx265", {"x265-params": "log-level=none:pools=1"}, "yuv420p"),
    "vp8.webm": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "4"}, "yuv420p"),
    "vp9.webm": ("libvpx-vp9", {"lag-in-frames": "16", "cpu-used": "8"}, "yuv420p"),
    "mpeg4.avi": ("mpeg4", {}, "yuv420p"),
    "mpeg4_b.avi": ("mpeg4", B_FRAMES, "yuv420p"),
    "mpeg2.mkv": ("mpeg2video", B_FRAMES, "yuv420p"),
    "mjpeg.mov": ("mjpeg", {}, "yuvj420p"),
    "ffv1.mkv": ("ffv1", {}, "yuv420p"),
}
MISLEADING = {
    # AVI numbers the packets as they are stored, not as they are shown.
    "h264_b.avi": ("libx264", B_FRAMES, "yuv420p"),
    # No frame stands alone, so nothing can be decoded from the middle on.
    "intra_refresh.mp4": ("libx264", {"x264-params": "intra-refresh=1:bframes=0"}, "yuv420p"),
}


class _Clips(dict[str, Path]):
    """Clips by their names, written when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __missing__(self, name: str) -> Path:
        codec, options, pix_fmt = {**CLIPS, **MISLEADING}[name]
        self[name] = write_video(self._folder / name, codec, options=options, pix_fmt=pix_fmt)
        return self[name]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return _Clips(tmp_path_factory.mktemp("clips"))


_every_frame = functools.cache(all_frames)


# Which frames ---------------------------------------------------------------------------------------------------------


def test_frame_indices_are_those_of_the_publication() -> None:
    assert frame_indices(64, 8) == [0, 9, 18, 27, 36, 45, 54, 63]
    assert frame_indices(5, 8) == [0, 1, 2, 3, 4]
    assert frame_indices(8, 8) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert frame_indices(10, 1) == [0]
    assert frame_indices(10, 3) == [0, 4, 9]


@given(st.integers(1, 100_000), st.integers(1, 300))
def test_frame_indices_spread_from_end_to_end(total: int, wanted: int) -> None:
    positions = frame_indices(total, wanted)
    assert len(positions) == min(total, wanted)
    assert positions == sorted(set(positions))
    assert positions[0] == 0
    assert positions[-1] == (total - 1 if wanted > 1 else 0)
    if total >= wanted:
        assert positions == np.linspace(0, total - 1, wanted).astype(int).tolist()


def test_frame_indices_of_nothing_are_an_error() -> None:
    with pytest.raises(MediaError, match="a clip of 0 frames"):
        frame_indices(0, 8)
    with pytest.raises(InputError, match="num_frames is 0: at least 1"):
        frame_indices(10, 0)


def test_a_clip_is_cut_into_as_many_spans_as_fit_best() -> None:
    assert split_spans(90.0) == [(0.0, 30.0), (30.0, 60.0), (60.0, 90.0)]
    assert [len(split_spans(duration_s)) for duration_s in (1, 29, 44, 46, 95, 110)] == [1, 1, 1, 2, 3, 4]
    assert split_spans(10.0, 5.0) == [(0.0, 5.0), (5.0, 10.0)]
    assert split_spans(0.0) == [(0.0, 30.0)]


@given(st.floats(0.001, 1e5), st.floats(100, 1e4))
def test_spans_are_equal_and_cover_the_clip_without_gap(duration_s: float, span_s: float) -> None:
    spans = split_spans(duration_s, span_s)
    assert len(spans) == max(1, round(duration_s / span_s))
    assert (spans[0][0], spans[-1][1]) == (0.0, duration_s)
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    lengths_s = [end_s - start_s for start_s, end_s in spans]
    assert lengths_s == pytest.approx([duration_s / len(spans)] * len(spans))


def test_spans_of_impossible_lengths_are_an_error() -> None:
    for duration_s, span_s in ((10.0, 0.0), (10.0, -1.0), (10.0, float("nan")), (-1.0, 30.0), (float("inf"), 30.0)):
        with pytest.raises(InputError, match=r"must be a (positive )?number of seconds"):
            split_spans(duration_s, span_s)


# Frames out of files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*CLIPS, *MISLEADING])
def test_picked_frames_are_those_of_a_full_decoding(clips: dict[str, Path], name: str) -> None:
    every = _every_frame(clips[name])
    assert len(set(every)) == 60
    for num_frames in (1, 2, 13, 61):
        expected = [every[position] for position in frame_indices(60, num_frames)]
        assert as_bytes(read_frames(Video(clips[name]), num_frames)) == expected
    assert as_bytes(read_frames(Video(clips[name].read_bytes()), 8)) == [every[i] for i in frame_indices(60, 8)]


@pytest.mark.parametrize("name", CLIPS)
def test_seeking_alone_finds_every_frame(clips: dict[str, Path], name: str) -> None:
    every = _every_frame(clips[name])
    timeline = announced_frames(clips[name], DEFAULT_LIMITS)
    for positions in ([59], [11, 12, 13], [5, 6, 30, 58], list(range(60))):
        with open_clip(clips[name], DEFAULT_LIMITS) as (container, stream):
            frames = _frames_by_seeking(container, stream, timeline, positions)
            found = [VideoLook.of(stream).picture(frame, DEFAULT_LIMITS, name) for frame in frames]
        assert as_bytes(found) == [every[position] for position in positions]


@pytest.mark.parametrize("name", [*CLIPS, *MISLEADING])
def test_a_span_holds_the_frames_from_its_start_to_before_its_end(clips: dict[str, Path], name: str) -> None:
    every = _every_frame(clips[name])
    # 10 frames a second: frame 20 is shown at 2.0 s; half a frame of margin keeps rounding of time stamps out.
    assert as_bytes(read_frames(Video(clips[name], (1.95, 4.35)), 100)) == every[20:44]
    assert as_bytes(read_frames(Video(clips[name], (1.95, 4.35)), 3)) == [every[20], every[31], every[43]]
    assert as_bytes(read_frames(Video(clips[name], (5.85, 100.0)), 100)) == every[59:]


@pytest.mark.parametrize("name", [*CLIPS, *MISLEADING])
def test_probe_measures_the_clip(clips: dict[str, Path], name: str) -> None:
    assert measured(clips[name]) == VideoInfo(6.0, 60, 64, 48)


def test_a_clip_split_into_spans_yields_every_frame_once(clips: dict[str, Path]) -> None:
    path = clips["h264.mp4"]
    spans = split_spans(probe(path).duration_s, 0.7)
    assert len(spans) == 9
    found = [frame for span_s in spans for frame in as_bytes(read_frames(Video(path, span_s), 100))]
    assert found == all_frames(path)


def test_a_span_between_two_frames_yields_the_nearest(clips: dict[str, Path]) -> None:
    path = clips["h264.mp4"]
    every = all_frames(path)
    assert as_bytes(read_frames(Video(path, (2.01, 2.04)), 8)) == [every[20]]
    assert as_bytes(read_frames(Video(path, (2.06, 2.09)), 8)) == [every[21]]


def test_a_span_beyond_the_end_is_an_error(clips: dict[str, Path]) -> None:
    path = clips["h264.mp4"]
    with pytest.raises(MediaError, match=r"h264.mp4 lasts 6.00 s; the span from 6 to 7 s lies beyond its end"):
        read_frames(Video(path, (6.0, 7.0)), 8)


def test_frames_before_the_start_that_an_edit_list_sets_are_not_shown(clips: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "trimmed.mp4"
    with (
        av.open(str(clips["h264.mp4"])) as whole,
        av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as trimmed,
    ):
        stream = trimmed.add_stream_from_template(whole.streams.video[0])
        shift = round(1.7 / whole.streams.video[0].time_base)
        for packet in whole.demux(video=0):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                trimmed.mux(packet)
    every = _every_frame(clips["h264.mp4"])[17:]
    assert as_bytes(read_frames(Video(path), 5)) == [every[position] for position in frame_indices(43, 5)]
    assert as_bytes(read_frames(Video(path, (0.0, 0.35)), 100)) == every[:4]
    assert probe(path).num_frames == 43


def test_uneven_times_of_showing_are_kept(tmp_path: Path) -> None:
    pts = [0, 1, 2, 30, 31, 60]
    path = write_video(tmp_path / "uneven.mkv", num_frames=6, pts=pts)
    every = all_frames(path)
    assert as_bytes(read_frames(Video(path), 3)) == [every[0], every[2], every[5]]
    assert as_bytes(read_frames(Video(path, (2.95, 6.0)), 8)) == every[3:5]
    assert as_bytes(read_frames(Video(path, (4.0, 4.5)), 8)) == [every[4]]


def test_a_turned_video_is_shown_upright(tmp_path: Path) -> None:
    stored = PIL.Image.new("RGB", (64, 48), "blue")
    stored.paste("red", (0, 0, 32, 48))
    for degrees, size, red_at, blue_at in (
        (0, (64, 48), (5, 24), (58, 24)),
        (90, (48, 64), (24, 58), (24, 5)),  # counter-clockwise: the left side goes down
        (180, (64, 48), (58, 24), (5, 24)),
        (-90, (48, 64), (24, 5), (24, 58)),
    ):
        path = write_video(tmp_path / f"{degrees}.mp4", frames=[stored] * 3, rotation=degrees)
        (shown,) = read_frames(Video(path), 1)
        red, blue = color_at(shown, red_at), color_at(shown, blue_at)
        assert (shown.size, red[0] > 200, red[2] < 60, blue[2] > 200, blue[0] < 60) == (size, True, True, True, True)


def test_metadata_that_is_no_unicode_does_not_matter(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", "mpeg4", 3, metadata={"title": "MARKER"})
    path.write_bytes(path.read_bytes().replace(b"MARKER", b"\xff\xfe\xe9\xff\xff\xff"))
    assert len(read_frames(Video(path), 8)) == 3


def test_a_file_that_changes_is_read_anew(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=5)
    assert probe(path).num_frames == 5
    write_video(path, num_frames=7)
    assert probe(path).num_frames == 7
    assert as_bytes(read_frames(Video(path), 100)) == all_frames(path)


@pytest.mark.parametrize(
    "name", ["concat:a|b.mp4", "%03d.mp4", "~x.mp4", "http:.mp4", os.fsdecode(b"\xff.mp4"), "字.mp4"]
)
def test_a_file_name_is_never_more_than_a_name(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(clips["h264.mp4"].read_bytes())
    assert len(read_frames(Video(Path(name)), 8)) == 8


def test_a_playlist_named_like_a_video_opens_no_other_file(clips: dict[str, Path], tmp_path: Path) -> None:
    other = clips["h264.mp4"]
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{other}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile {other}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    ):
        path = tmp_path / "list.mp4"
        path.write_text(text)
        with pytest.raises(MediaError, match=r"list.mp4 cannot be read as a video: .* of no known format"):
            read_frames(Video(path), 8)


# Folders, tuples, animations ------------------------------------------------------------------------------------------


def test_a_folder_is_read_in_natural_order_and_other_files_are_ignored(tmp_path: Path) -> None:
    for shift, name in enumerate(["f1.png", "f2.PNG", "f10.jpeg", "f11.JPG", "f100.png"]):
        picture(shift=shift).save(tmp_path / name)
    for name in ("notes.txt", "f3.gif", "._f1.png"):
        (tmp_path / name).write_text("no frame")
    (tmp_path / "f4.png").mkdir()
    every = [
        PIL.Image.open(tmp_path / name).tobytes() for name in ("f1.png", "f2.PNG", "f10.jpeg", "f11.JPG", "f100.png")
    ]
    assert as_bytes(read_frames(Video(tmp_path), 8)) == every
    assert as_bytes(read_frames(Video(tmp_path), 3)) == [every[0], every[2], every[4]]
    assert probe(tmp_path) == VideoInfo(0.0, 5, 40, 30)


def test_a_tuple_of_frames_is_used_as_given(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture(shift=1).convert("L").save(path)
    frames = (picture(shift=3), path, encoded(picture(shift=2)))
    found = load_frames(Video(frames), num_frames=2)
    expected = [picture(shift=3), picture(shift=1).convert("L").convert("RGB"), picture(shift=2)]
    assert as_bytes(list(found.images)) == as_bytes(expected)
    assert (found.is_video, [image.mode for image in found.images]) == (True, ["RGB"] * 3)
    assert probe(frames) == VideoInfo(0.0, 3, 40, 30)


def test_frames_of_folders_and_tuples_look_as_to_their_owner_or_as_stored(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    drawing = PIL.Image.new("LA", (40, 30), (0, 0))
    drawing.paste((0, 255), (0, 0, 20, 30))
    drawing.save(tmp_path / "1.png", exif=exif)
    shown = PIL.Image.new("RGB", (30, 40), "white")
    shown.paste("black", (0, 0, 30, 20))
    for source in (tmp_path, (tmp_path / "1.png",), ((tmp_path / "1.png").read_bytes(),)):
        (frame,) = read_frames(Video(source), 1)
        assert (frame.size, frame.tobytes()) == ((30, 40), shown.tobytes())
        (frame,) = read_frames(Video(source, as_stored=True), 1)
        assert (frame.size, frame.tobytes()) == ((40, 30), bytes(40 * 30 * 3))


def test_a_folder_has_no_clock_and_needs_frames(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=f"{tmp_path} holds no frames"):
        read_frames(Video(tmp_path), 8)
    with pytest.raises(MediaError, match=f"{tmp_path} is a folder of frames, which has no clock"):
        read_frames(Video(tmp_path, (0.0, 1.0)), 8)
    (tmp_path / "2.png").symlink_to(tmp_path / "nowhere")
    picture().save(tmp_path / "1.png")
    with pytest.raises(MediaError, match=r"2\.png cannot be read as an image: No such file"):
        read_frames(Video(tmp_path), 8)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_a_video_with_a_clock(format: str, tmp_path: Path) -> None:
    source = animation(format, ("red", "lime", "blue", "white"), (100, 200, 300, 400))
    path = tmp_path / f"a.{format}"
    path.write_bytes(source)
    red, lime, blue, white = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))

    def colors(video: Video, num_frames: int) -> list[object]:
        return [frame.getpixel((0, 0)) for frame in read_frames(video, num_frames)]

    for video in (Video(source), Video(path)):
        assert colors(video, 8) == [red, lime, blue, white]
        assert colors(video, 2) == [red, white]
    assert colors(Video(source, (0.1, 0.6)), 8) == [lime, blue]
    assert colors(Video(source, (0.35, 0.4)), 8) == [blue]
    assert probe(source) == probe(path) == VideoInfo(1.0, 4, 32, 24)
    with pytest.raises(MediaError, match=r"lasts 1\.00 s"):
        read_frames(Video(source, (1.0, 2.0)), 8)
    with PIL.Image.open(path) as opened:
        opened.seek(1)
        assert colors(Video(opened), 3) == [red, lime, white]
        assert opened.tell() == 1


def test_frames_of_an_animation_are_composed() -> None:
    first = PIL.Image.new("RGBA", (32, 24), "red")
    dot = PIL.Image.new("RGBA", (32, 24), (0, 0, 0, 0))
    dot.paste((0, 0, 255, 255), (0, 0, 8, 8))
    source = encoded(first, "PNG", save_all=True, append_images=[dot], duration=100, blend=1)
    frame = read_frames(Video(source), 2)[1]
    assert (frame.getpixel((2, 2)), frame.getpixel((20, 20))) == ((0, 0, 255), (255, 0, 0))


def test_frames_that_claim_less_than_a_blink_last_a_tenth_of_a_second() -> None:
    assert probe(animation("GIF", ("red", "lime", "blue"), (0, 10, 20))).duration_s == pytest.approx(0.22)


def test_the_still_picture_before_an_animated_png_is_not_part_of_it() -> None:
    source = animation("PNG", ("red", "lime", "blue"), (100, 100), default_image=True)
    frames = read_frames(Video(source), 8)
    assert [frame.getpixel((0, 0)) for frame in frames] == [(0, 255, 0), (0, 0, 255)]
    assert probe(source).num_frames == 2


def test_an_image_of_a_still_png_may_be_given_as_a_video_of_one_frame() -> None:
    assert as_bytes(read_frames(Video(encoded(picture())), 8)) == [picture().tobytes()]
    several: list[object] = [Image(b"x"), Video(b"x")]
    assert several[0] != several[1]
