"""Files that are no video, damaged ones, and limits: a clear error or the right frames, nothing else."""

import os
from pathlib import Path

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.media_files import all_frames, animation, as_bytes, encoded, picture, png_header, write_sound, write_video
from vlm2vec.errors import LimitError, MediaError
from vlm2vec.items import Video
from vlm2vec.media import (
    Frames,
    Limits,
    frame_indices,
    load_frames,
    probe,
    read_frames,
)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    codecs: dict[str, tuple[str, dict[str, str]]] = {
        "h264.mp4": ("libx264", {"bf": "2"}),
        "h264.mkv": ("libx264", {"bf": "2"}),
        "mpeg4.avi": ("mpeg4", {}),
        "vp9.webm": ("libvpx-vp9", {"lag-in-frames": "16", "cpu-used": "8"}),
    }
    return {name: write_video(folder / name, codec, options=options) for name, (codec, options) in codecs.items()}


def _raw_avi_header(path: Path, size: int) -> None:
    """A few kilobytes of uncompressed AVI whose header claims frames of size x size pixels."""
    write_video(path, "rawvideo", 2, pix_fmt="bgr24")
    content = path.read_bytes()
    stored = (64).to_bytes(4, "little") + (48).to_bytes(4, "little")
    upside_down = (64).to_bytes(4, "little") + (-48).to_bytes(4, "little", signed=True)
    claimed = size.to_bytes(4, "little") * 2
    path.write_bytes(content.replace(stored, claimed).replace(upside_down, claimed))


def _broken_files(folder: Path, whole: Path) -> dict[str, str]:
    """File name -> what its error must say."""
    content = whole.read_bytes()
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "truncated.mp4").write_bytes(content[: len(content) // 2])
    (folder / "header.mkv").write_bytes(b"\x1a\x45\xdf\xa3\x01")
    (folder / "text.mp4").write_text("not a video\n" * 50)
    (folder / "picture.mp4").write_bytes(encoded(picture(), "JPEG"))
    (folder / "damaged.gif").write_bytes(b"GIF89a" + b"\0" * 30)
    (folder / "huge.png").write_bytes(png_header(100_000, 100_000))
    _raw_avi_header(folder / "huge.avi", 12_000)
    _raw_avi_header(folder / "absurd.avi", 1_000_000)
    write_sound(folder / "sound.mp4")
    (folder / "broken_link.mp4").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.mp4")
    return {
        "empty.mp4": "it is empty",
        "truncated.mp4": "its content is damaged or of no known format",
        "header.mkv": "cannot be read as a video",
        "text.mp4": "of no known format; check that the file is what its name says",
        "picture.mp4": "of no known format; check that the file is what its name says",
        "damaged.gif": "cannot be read as an image",
        "huge.png": "is 100000 x 100000 pixels, more than the 64,000,000 pixels allowed",
        "huge.avi": "has frames of 12000 x 12000 pixels, more than the 64,000,000 pixels allowed",
        "absurd.avi": "it states no frame size that FFmpeg accepts",
        "sound.mp4": "has no video stream",
        "broken_link.mp4": "No such file or directory",
        "pipe.mp4": "it is not a regular file",
        "missing.mp4": "No such file or directory; check the path",
    }


def test_every_broken_file_is_a_media_error_that_names_it(
    clips: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, reason in _broken_files(tmp_path, clips["h264.mp4"]).items():
        for read in (probe, lambda path: load_frames(Video(path), num_frames=8)):
            with pytest.raises(MediaError) as caught:
                read(tmp_path / name)
            assert str(tmp_path / name) in str(caught.value)
            assert reason in str(caught.value)
            assert isinstance(caught.value, LimitError) == name.startswith("huge")
    assert capfd.readouterr() == ("", "")


def test_a_music_file_with_a_cover_is_no_video(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "song.mp4", cover=encoded(picture()))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(MediaError, match=r"song.mp4 has no video stream"):
        read_frames(Video(path), 8)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_a_media_error(clips: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "secret.mp4"
    path.write_bytes(clips["h264.mp4"].read_bytes())
    path.chmod(0)
    with pytest.raises(MediaError, match="Permission denied"):
        read_frames(Video(path), 8)


def test_a_file_cut_off_in_the_middle_of_a_frame_is_an_error_that_counts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = write_video(tmp_path / "whole.mp4", options={"bf": "0"}, muxer={"movflags": "faststart"})
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 8 // 10])
    with pytest.raises(MediaError, match=r"cut.mp4 is damaged or cut off: \d+ of its \d+ frames decode") as caught:
        read_frames(Video(path), 8)
    assert "copy or convert it again" in str(caught.value)
    # What lies wholly before the damage is as good as in the whole file.
    assert as_bytes(read_frames(Video(path, (0.0, 2.0)), 8)) == as_bytes(read_frames(Video(whole, (0.0, 2.0)), 8))
    assert capfd.readouterr() == ("", "")


def test_a_damaged_frame_that_nobody_wants_does_not_matter(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mov", "mjpeg", pix_fmt="yuvj420p")
    with av.open(str(whole)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(whole.read_bytes())
    start, size = packets[30]
    content[start : start + size] = bytes(size)
    path = tmp_path / "damaged.mov"
    path.write_bytes(content)
    every = all_frames(whole)
    assert as_bytes(read_frames(Video(path), 8)) == [every[position] for position in frame_indices(60, 8)]
    with pytest.raises(MediaError, match=r"damaged.mov is damaged or cut off: 59 of its 60 frames decode"):
        read_frames(Video(path), 60)


def test_limits_on_bytes_pixels_and_frames_hold(clips: dict[str, Path], tmp_path: Path) -> None:
    path = clips["h264.mp4"]
    for source in (path, path.read_bytes()):
        assert len(read_frames(Video(source), 2, Limits(frames=60, frame_px=64 * 48))) == 2
        with pytest.raises(LimitError, match="more than the 59 frames allowed"):
            read_frames(Video(source), 2, Limits(frames=59))
        with pytest.raises(LimitError, match="frames of 64 x 48 pixels, more than the 3,071 pixels allowed"):
            read_frames(Video(source), 2, Limits(frame_px=64 * 48 - 1))
        with pytest.raises(LimitError, match=r"more than the 100 allowed for a video; make it smaller"):
            read_frames(Video(source), 2, Limits(video_bytes=100))
    moving = animation("GIF", ("red", "lime", "blue"), (100, 100, 100))
    with pytest.raises(LimitError, match="has 3 frames, more than the 2 allowed"):
        read_frames(Video(moving), 2, Limits(frames=2))
    for number in range(3):
        picture().save(tmp_path / f"{number}.png")
    with pytest.raises(LimitError, match="holds 3 frames, more than the 2 allowed"):
        read_frames(Video(tmp_path), 2, Limits(frames=2))
    with pytest.raises(LimitError, match="40 x 30 pixels, more than the 1,199 pixels allowed"):
        read_frames(Video(tmp_path), 2, Limits(frame_px=1199))


_WHOLE: dict[str, bytes] = {}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["h264.mp4", "h264.mkv", "mpeg4.avi", "vp9.webm"]),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
)
def test_damage_anywhere_gives_frames_or_a_media_error(
    clips: dict[str, Path], name: str, cut: float, changes: list[tuple[float, int]]
) -> None:
    whole = _WHOLE.setdefault(name, clips[name].read_bytes())
    damaged = bytearray(whole)
    for where, value in changes:
        damaged[int(where * len(damaged))] = value
    source = bytes(damaged if changes else damaged[: int(cut * len(damaged))])
    try:
        frames = load_frames(Video(source), num_frames=3, limits=Limits(frame_px=1_000_000))
    except MediaError as error:
        assert f"<{len(source)} bytes>" in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert frames == Frames(frames.images, is_video=True)
        assert {image.mode for image in frames.images} == {"RGB"}
