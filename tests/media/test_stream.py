"""Frames of video files are shown as players show them: turned, mirrored, square pixels, SDR, the right track."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.filter
import numpy as np
import PIL.Image
import pytest

from support.media_files import all_frames, as_bytes, color_at, measured, picture
from support.places import DATA
from vlm2vec.errors import LimitError
from vlm2vec.items import Video
from vlm2vec.media import Limits, VideoInfo, probe, read_frames
from vlm2vec.media.video import shown_otherwise

CLIPS = DATA / "clips"
ONE = 1 << 16

# Display matrix (a, b, c, d): the pixel (p, q) is shown at (a p + c q, b p + d q) -> the corner of the stored picture
# that is shown at the upper left, upper right, lower left and lower right, and FFmpeg's own filters for it.
MATRICES: dict[str, tuple[tuple[int, int, int, int], str, list[tuple[str, str]]]] = {
    "as stored": ((1, 0, 0, 1), "ABCD", [("null", "")]),
    "90 clockwise": ((0, 1, -1, 0), "CADB", [("transpose", "clock")]),
    "180": ((-1, 0, 0, -1), "DCBA", [("hflip", ""), ("vflip", "")]),
    "90 counter-clockwise": ((0, -1, 1, 0), "BDAC", [("transpose", "cclock")]),
    "mirrored": ((-1, 0, 0, 1), "BADC", [("hflip", "")]),
    "mirrored top to bottom": ((1, 0, 0, -1), "CDAB", [("vflip", "")]),
    "transposed": ((0, 1, 1, 0), "ACBD", [("transpose", "cclock_flip")]),
    "transposed the other way": ((0, -1, -1, 0), "DBCA", [("transpose", "clock_flip")]),
}
CORNERS = {"A": (255, 0, 0), "B": (0, 255, 0), "C": (0, 0, 255), "D": (255, 255, 255)}


def corners() -> PIL.Image.Image:
    """64 x 48 pixels in four colours: A B above, C D below."""
    stored = PIL.Image.new("RGB", (64, 48))
    for name, at in zip("ABCD", ((0, 0), (32, 0), (0, 24), (32, 24)), strict=True):
        stored.paste(CORNERS[name], (*at, at[0] + 32, at[1] + 24))
    return stored


def write_film(
    path: Path,
    frames: list[PIL.Image.Image],
    *,
    matrix: Sequence[int] | None = None,
    aspect: Fraction | None = None,
) -> Path:
    """Write an MP4 with a display matrix (a, b, c, d in 1/65536) and the width of its pixels over their height."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *frames[0].size, "yuv420p"
        if aspect is not None:
            stream.sample_aspect_ratio = aspect
        if matrix is not None:
            a, b, c, d = matrix
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())
    return path


def shown_corners(shown: PIL.Image.Image) -> str:
    width, height = shown.size
    points = [(x, y) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return "".join(
        min(CORNERS, key=lambda name: np.abs(np.subtract(color_at(shown, point), CORNERS[name])).sum())
        for point in points
    )


def filtered(path: Path, filters: list[tuple[str, str]]) -> bytes:
    """The first frame as FFmpeg's filters show it."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        last = graph.add_buffer(template=stream)
        for name, options in filters:
            following = graph.add(name, options) if options else graph.add(name)
            last.link_to(following)
            last = following
        last.link_to(graph.add("buffersink"))
        graph.configure()
        graph.push(next(container.decode(stream)))
        pulled: bytes = graph.pull().to_image().tobytes()
        return pulled


@pytest.mark.parametrize("scale", [ONE, ONE // 2, 3 * ONE])
@pytest.mark.parametrize("name", MATRICES)
def test_each_of_the_eight_display_matrices_is_obeyed(tmp_path: Path, name: str, scale: int) -> None:
    matrix, expected, filters = MATRICES[name]
    path = write_film(tmp_path / "a.mp4", [corners()], matrix=[scale * part for part in matrix])
    (shown,) = read_frames(Video(path), 1)
    size = (48, 64) if matrix[0] == 0 else (64, 48)
    assert (shown.size, shown_corners(shown)) == (size, expected)
    assert shown.tobytes() == filtered(path, filters)
    assert measured(path) == VideoInfo(0.1, 1, *size)
    assert shown_otherwise(path) == (matrix[0] * matrix[3] - matrix[1] * matrix[2] < 0)


@pytest.mark.parametrize("degrees", [right + off for right in (-180, -90, 0, 90) for off in (-40, 10, 40)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_an_odd_angle_counts_as_the_nearest_quarter_turn(tmp_path: Path, degrees: int, mirrored: bool) -> None:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    sign = -1 if mirrored else 1
    odd = [round(ONE * part) for part in (sign * cosine, sign * sine, -sine, cosine)]
    right = round(degrees / 90) % 4
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[right]
    expected = next(
        seen for parts, seen, _ in MATRICES.values() if parts == (sign * cosine, sign * sine, -sine, cosine)
    )
    path = write_film(tmp_path / "a.mp4", [corners()], matrix=odd)
    assert shown_corners(read_frames(Video(path), 1)[0]) == expected


def test_a_mirrored_film_is_shown_mirrored() -> None:
    path = CLIPS / "m_hflip.mp4"
    assert read_frames(Video(path), 1)[0].tobytes() == filtered(path, [("hflip", "")])
    assert probe(path) == VideoInfo(2.0, 20, 160, 96)


@pytest.mark.parametrize(
    ("aspect", "matrix", "size"),
    [
        (Fraction(2), None, (128, 48)),
        (Fraction(1, 2), None, (32, 48)),
        (Fraction(8, 9), None, (57, 48)),
        (Fraction(64, 45), None, (91, 48)),
        (Fraction(2), (0, ONE, -ONE, 0), (48, 128)),
        (Fraction(2), (0, ONE, ONE, 0), (48, 128)),
        (Fraction(2), (-ONE, 0, 0, ONE), (128, 48)),
        (Fraction(1), None, (64, 48)),
        (Fraction(1280, 1279), None, (64, 48)),  # A scaler's rounding.
        (Fraction(4000), None, (64, 48)),  # Absurd.
        (Fraction(1, 4000), None, (64, 48)),
    ],
)
def test_pixels_are_made_square_before_the_picture_is_turned(
    tmp_path: Path, aspect: Fraction, matrix: tuple[int, int, int, int] | None, size: tuple[int, int]
) -> None:
    path = write_film(tmp_path / "a.mp4", [corners()], matrix=matrix, aspect=aspect)
    (shown,) = read_frames(Video(path), 1)
    assert shown.size == size
    assert measured(path) == VideoInfo(0.1, 1, *size)
    turned = {None: "ABCD", (0, ONE, -ONE, 0): "CADB", (0, ONE, ONE, 0): "ACBD", (-ONE, 0, 0, ONE): "BADC"}
    assert shown_corners(shown) == turned[matrix]
    assert shown_otherwise(path) == (matrix is not None or size != (64, 48))


def test_wide_pixels_of_a_file_are_stretched_and_count_towards_the_limit() -> None:
    path = CLIPS / "sar2.mp4"
    assert probe(path) == VideoInfo(2.0, 20, 320, 96)
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0)).to_image()
    (shown,) = read_frames(Video(path), 1)
    assert shown.tobytes() == stored.resize((320, 96), PIL.Image.Resampling.BICUBIC).tobytes()
    assert len(read_frames(Video(path), 1, Limits(frame_px=320 * 96))) == 1
    with pytest.raises(LimitError, match="frames of 320 x 96 pixels, more than the 30,719 pixels allowed"):
        read_frames(Video(path), 1, Limits(frame_px=320 * 96 - 1))


# Tracks ---------------------------------------------------------------------------------------------------------------


def test_of_several_tracks_the_default_one_is_shown() -> None:
    path = CLIPS / "two.mkv"
    assert probe(path) == VideoInfo(2.0, 20, 320, 240)
    assert [read_frames(Video(path), 1)[0].getpixel(at) for at in ((5, 5), (300, 200))] == [(0, 0, 254)] * 2
    assert shown_otherwise(path)


@pytest.mark.parametrize(
    ("tracks", "shown"),
    [
        ([(64, False), (32, True)], 32),
        ([(32, True), (64, True)], 64),
        ([(32, False), (64, False)], 64),
        ([(64, True), (32, True)], 64),
        ([(32, False), (64, True), (96, False)], 64),
    ],
)
def test_the_default_track_goes_first_then_the_largest(
    tmp_path: Path, tracks: list[tuple[int, bool]], shown: int
) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w", options={"default_mode": "passthrough"}) as container:
        streams = []
        for width, is_default in tracks:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = width, 32, "yuv420p"
            stream.disposition = av.stream.Disposition.default if is_default else av.stream.Disposition(0)
            streams.append(stream)
        for index in range(3):
            for stream in streams:
                frame = av.VideoFrame.from_image(picture(stream.width, 32, index))
                frame.pts, frame.time_base = index, Fraction(1, 10)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    assert measured(path) == VideoInfo(0.3, 3, shown, 32)
    assert {frame.size for frame in read_frames(Video(path), 8)} == {(shown, 32)}
    assert shown_otherwise(path) == (shown != tracks[0][0])


# HDR ------------------------------------------------------------------------------------------------------------------


def write_hdr(path: Path, codes: list[tuple[int, int, int]], *, transfer: int, is_full_range: bool = False) -> Path:
    """Write one lossless 10-bit frame, a 16 x 16 patch for each Y'CbCr code, tagged BT.2020."""
    planes = np.array([codes], dtype=np.uint16).repeat(16, axis=0).repeat(16, axis=1)
    frame = av.VideoFrame.from_ndarray(planes << 6, format="yuv444p16le", channel_last=True)
    frame = frame.reformat(format="yuv444p10le")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16 * len(codes), 16, "yuv444p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace = transfer, 9, 9
        context.color_range = 2 if is_full_range else 1
        for item in (frame, None):
            container.mux(stream.encode(item))
    return path


def patches(path: Path) -> list[tuple[int, ...]]:
    (shown,) = read_frames(Video(path), 1)
    return [color_at(shown, (x, 8)) for x in range(8, shown.width, 16)]


# Light of a grey patch in cd/m2 -> its code in sRGB, by hand: the light over 203; where that is over 0.8, by a, it is
# 0.8 + 0.2 a / (a + 0.2); then the curve of sRGB.
GREYS = {0: 0, 1: 15, 26: 100, 100: 186, 203: 243, 1000: 254, 10_000: 255}
# Their signals as ITU-R BT.2408 and SMPTE ST 2084 print them, those of HLG for a display of 1,000 cd/m2.
SIGNALS = {
    16: {0: 0.0, 1: 0.1499, 26: 0.38, 100: 0.5081, 203: 0.5807, 1000: 0.7518, 10_000: 1.0},
    18: {0: 0.0, 26: 0.38, 203: 0.75, 1000: 1.0},
}


@pytest.mark.parametrize("is_full_range", [False, True])
@pytest.mark.parametrize("transfer", SIGNALS)
def test_grey_of_every_brightness_becomes_the_grey_worked_out_by_hand(
    tmp_path: Path, transfer: int, is_full_range: bool
) -> None:
    low, scale = (0, 1023) if is_full_range else (64, 876)
    codes = [(round(low + scale * signal), 512, 512) for signal in SIGNALS[transfer].values()]
    path = write_hdr(tmp_path / "a.mkv", codes, transfer=transfer, is_full_range=is_full_range)
    found = patches(path)
    assert all(red == green == blue for red, green, blue in found)
    assert [red for red, _, _ in found] == pytest.approx([GREYS[nits] for nits in SIGNALS[transfer]], abs=1)
    assert shown_otherwise(path)


def test_colours_of_bt_709_come_back_out_of_bt_2020(tmp_path: Path) -> None:
    """Each colour at 100 cd/m2: 186 in sRGB, as grey is. Ten bits are coarse near black."""
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    colors = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)]
    codes = []
    for color in colors:
        light = (to_2020 @ color * 100 / 10_000) ** 0.1593017578125
        red, green, blue = ((0.8359375 + 18.8515625 * light) / (1 + 18.6875 * light)) ** 78.84375
        luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
        chroma = (512 + 896 * (blue - luma) / 1.8814, 512 + 896 * (red - luma) / 1.4746)
        codes.append(tuple(round(code) for code in (64 + 876 * luma, *chroma)))
    found = patches(write_hdr(tmp_path / "a.mkv", codes, transfer=16))
    assert np.array(found) == pytest.approx(186 * np.array(colors), abs=12)


def test_a_scene_in_hdr_looks_as_it_does_in_sdr() -> None:
    hdr, sdr = (np.asarray(read_frames(Video(CLIPS / name), 1)[0], dtype=float) for name in ("pq0.mp4", "sdr0.mp4"))
    assert np.abs(hdr - sdr).mean() < 4
    assert np.abs(hdr.mean((0, 1)) - sdr.mean((0, 1))).max() < 3


@pytest.mark.parametrize("transfer", [1, 2, 13, 14])
def test_a_wide_gamut_without_hdr_is_left_to_ffmpeg(tmp_path: Path, transfer: int) -> None:
    path = write_hdr(tmp_path / "a.mkv", [(400, 300, 700), (800, 512, 512)], transfer=transfer)
    assert as_bytes(read_frames(Video(path), 1)) == all_frames(path)
    assert not shown_otherwise(path)
