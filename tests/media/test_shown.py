"""Pictures as their owner sees them: on white, with black and white where the file means them."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from support.media_files import animation, encoded, pfm_row, picture, png_row, tiff_row
from vlm2vec.data.records import Columns, parse_pair
from vlm2vec.items import Image, Video
from vlm2vec.media import load_frames, open_image, probe, resolve
from vlm2vec.media.image import shown_otherwise

# Colour and alpha of four pixels, their colours on white, and their colours without alpha. 51 is a fifth of 255.
_DRAWN = [(0, 0, 0, 0), (0, 0, 0, 255), (100, 50, 200, 51), (100, 50, 200, 255)]
_ON_WHITE = [[255, 255, 255], [0, 0, 0], [224, 214, 244], [100, 50, 200]]
_HIDDEN = [[0, 0, 0], [0, 0, 0], [100, 50, 200], [100, 50, 200]]
_GREY_DRAWN, _GREY_ON_WHITE = [(0, 0), (0, 255), (100, 51), (100, 255)], [[255] * 3, [0] * 3, [224] * 3, [100] * 3]


def _rgb(image: PIL.Image.Image) -> list[list[int]]:
    pixels: list[list[int]] = np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()
    return pixels


def _grey(source: PIL.Image.Image | bytes) -> list[int]:
    shown = open_image(Image(source))
    assert shown.mode == "L"
    values: list[int] = np.asarray(shown).reshape(-1).tolist()
    return values


def _drawing(mode: str = "RGBA") -> PIL.Image.Image:
    image = PIL.Image.new("RGBA" if mode == "RGBA" else "LA", (4, 1))
    image.putdata(_DRAWN if mode == "RGBA" else _GREY_DRAWN)
    return image


def _palette_with_alpha() -> PIL.Image.Image:
    image = PIL.Image.frombytes("P", (4, 1), bytes(range(4)))
    image.putpalette([part for pixel in _DRAWN for part in pixel], "RGBA")
    return image


# Transparency.

_ASSOCIATED = tiff_row(
    bytes([0, 0, 0, 0, 0, 0, 0, 255, 20, 10, 40, 51, 100, 50, 200, 255]),
    4,
    bits=(8, 8, 8, 8),
    photometric=2,
    samples=4,
    extra=1,
    format=(1, 1, 1, 1),
)
_SEE_THROUGH: dict[str, PIL.Image.Image | bytes] = {
    "PNG": encoded(_drawing()),
    "WebP": encoded(_drawing(), "WEBP", lossless=True, exact=True),
    "TIFF": encoded(_drawing(), "TIFF"),
    "TIFF with LZW": encoded(_drawing(), "TIFF", compression="tiff_lzw"),
    "TIFF of premultiplied colours": _ASSOCIATED,
    "TGA": encoded(_drawing(), "TGA"),
    "DDS": encoded(_drawing(), "DDS"),
    "JPEG 2000": encoded(_drawing(), "JPEG2000", irreversible=False, num_resolutions=1),
    "PNG of 16 bits": png_row(16, 6, bytes(part for pixel in _DRAWN for one in pixel for part in (one, one))),
    "palette with an alpha for each entry": png_row(
        8, 3, b"\0\1\2\3", PLTE=bytes(part for pixel in _DRAWN for part in pixel[:3]), tRNS=bytes([0, 255, 51])
    ),
    "RGBA in memory": _drawing(),
    "PA in memory": _drawing().convert("PA"),
    "RGBa in memory": PIL.Image.frombytes(
        "RGBa", (4, 1), bytes([0, 0, 0, 0, 0, 0, 0, 255, 20, 10, 40, 51, 100, 50, 200, 255])
    ),
    "palette with alpha in memory": _palette_with_alpha(),
}


@pytest.mark.parametrize("kind", _SEE_THROUGH)
def test_transparency_lies_on_white_for_the_owner_and_is_dropped_as_stored(kind: str, tmp_path: Path) -> None:
    source = _SEE_THROUGH[kind]
    shown = open_image(Image(source))
    assert (shown.mode, _rgb(shown)) == ("RGB", _ON_WHITE)
    stored = open_image(Image(source, as_stored=True))
    opened = source if isinstance(source, PIL.Image.Image) else PIL.Image.open(io.BytesIO(source))
    assert stored.mode == opened.mode
    if opened.mode in ("RGBA", "P") and kind != "TIFF of premultiplied colours":
        assert _rgb(stored) == _HIDDEN
    if isinstance(source, bytes):
        (tmp_path / "a.bin").write_bytes(source)
        assert shown_otherwise(tmp_path / "a.bin")


@pytest.mark.parametrize(
    "source",
    [_drawing("LA"), _drawing("LA").convert("La"), *(encoded(_drawing("LA"), format) for format in ("PNG", "TIFF"))],
)
def test_grey_with_alpha_lies_on_white(source: PIL.Image.Image | bytes) -> None:
    assert _rgb(open_image(Image(source))) == _GREY_ON_WHITE


@pytest.mark.parametrize("format", ["ICO", "ICNS", "AVIF"])
def test_transparency_of_formats_that_want_or_make_other_pixels_lies_on_white(format: str) -> None:
    drawing = PIL.Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    drawing.paste((0, 0, 0, 255), (8, 8, 24, 24))
    options = {"sizes": [(32, 32)]} if format == "ICO" else {"quality": 100} if format == "AVIF" else {}
    shown = open_image(Image(encoded(drawing, format, **options)))
    side = shown.width
    found = [shown.convert("L").getpixel((side * part // 8, side * part // 8)) for part in (0, 1, 3, 4, 7)]
    assert (shown.mode, found) == ("RGB", [255, 255, 0, 0, 255])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png_row(1, 0, b"\x50", tRNS=b"\0\1"), [0, 255, 0, 255]),
        (png_row(1, 0, b"\x50", tRNS=b"\0\0"), [255, 255, 255, 255]),
        (png_row(2, 0, b"\x1b", tRNS=b"\0\1"), [0, 255, 170, 255]),
        (png_row(4, 0, b"\x01\x2f", tRNS=b"\0\2"), [0, 17, 255, 255]),
        (png_row(8, 0, b"\x00\x02\x80\xff", tRNS=b"\0\x80"), [0, 2, 255, 255]),
        (png_row(16, 0, struct.pack(">4H", 0, 300, 800, 65535), tRNS=b"\0\0"), [255, 1, 3, 255]),
        (png_row(16, 0, struct.pack(">4H", 0, 300, 800, 65535), tRNS=struct.pack(">H", 800)), [0, 1, 255, 255]),
        (png_row(8, 2, bytes([0, 0, 0, 7, 7, 7, 9, 9, 9, 0, 0, 0]), tRNS=bytes([0, 7] * 3)), [0, 255, 9, 0]),
        (
            png_row(16, 2, struct.pack(">12H", *[300] * 3, *[600] * 3, *[900] * 3, *[0] * 3), tRNS=b"\2\x58" * 3),
            [1, 255, 3, 0],
        ),
        (png_row(8, 3, b"\0\1\0\1", PLTE=bytes(6), tRNS=b"\0"), [255, 0, 255, 0]),
        (png_row(2, 3, b"\x11", PLTE=bytes(6), tRNS=b"\xff\0"), [0, 255, 0, 255]),
        (encoded(PIL.Image.frombytes("L", (4, 1), b"\0\1\2\1"), "GIF", transparency=1), [0, 255, 2, 255]),
    ],
)
def test_a_transparent_colour_is_white(data: bytes, expected: list[int], tmp_path: Path) -> None:
    assert _rgb(open_image(Image(data))) == [[value] * 3 for value in expected]
    published = PIL.Image.open(io.BytesIO(data))
    stored = open_image(Image(data, as_stored=True))
    assert (stored.mode, stored.tobytes()) == (published.mode, published.tobytes())
    (tmp_path / "a").write_bytes(data)
    assert shown_otherwise(tmp_path / "a")


def test_a_users_picture_with_transparency_is_not_changed() -> None:
    mine = PIL.Image.open(io.BytesIO(png_row(2, 0, b"\x1b", tRNS=b"\0\1")))
    for source in (mine, _drawing("LA"), _drawing().quantize(4)):
        before = (source.mode, source.info.copy())
        assert open_image(Image(source)).getpixel((0, 0)) in ((0, 0, 0), (255, 255, 255))
        assert (source.mode, source.info) == before


@pytest.mark.parametrize("format", ["TGA", "BMP", "DDS"])
def test_an_alpha_channel_of_zeros_alone_hides_nothing_in_formats_where_it_is_filler(format: str) -> None:
    drawing = picture().convert("RGBA")
    drawing.putalpha(0)
    assert _rgb(open_image(Image(encoded(drawing, format)))) == _rgb(picture())


def test_the_fourth_channel_of_a_psd_is_no_transparency(tmp_path: Path) -> None:
    # Its flat picture lies on white already.
    header = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 4, 1, 4, 8, 3) + bytes(12) + b"\0\0"
    data = header + b"".join(bytes(channel) for channel in zip(*_DRAWN, strict=True))
    assert (_rgb(open_image(Image(data))), open_image(Image(data)).mode) == (_HIDDEN, "RGB")
    (tmp_path / "a.psd").write_bytes(data)
    assert not shown_otherwise(tmp_path / "a.psd")


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_frames_of_an_animation_lie_on_white_for_the_owner(format: str) -> None:
    frames = [PIL.Image.new("RGBA", (32, 24), (0, 0, 0, 0)) for _ in range(3)]
    for number, frame in enumerate(frames):
        frame.paste((0, 0, 0, 255), (8 * number, 8, 8 * number + 8, 16))
    options: dict[str, dict[str, object]] = {"GIF": {"disposal": 2}, "WEBP": {"lossless": True}}
    options["AVIF"] = {"quality": 100}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=100, **options.get(format, {}))

    def rows(medium: Image | Video) -> list[list[object]]:
        """The middle row of each frame, every eighth pixel."""
        found = load_frames(resolve(medium), num_frames=8)
        assert (found.is_video, {frame.mode for frame in found.images}) == (True, {"RGB"})
        return [[frame.convert("L").getpixel((x, 12)) for x in (4, 12, 20, 28)] for frame in found.images]

    on_white = [[0, 255, 255, 255], [255, 0, 255, 255], [255, 255, 0, 255]]
    assert rows(Image(data)) == rows(Video(data)) == on_white
    assert rows(Video(data, span_s=(0.1, 0.3))) == on_white[1:]
    assert rows(Video(data, as_stored=True)) == [[0] * 4] * 3


@pytest.mark.parametrize("format", ["WEBP", "PNG"])
def test_an_animation_is_turned_by_its_orientation(format: str) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    data = animation(format, ("red", "lime"), (100, 100), exif=exif)
    assert [frame.size for frame in load_frames(Video(data), num_frames=8).images] == [(24, 32)] * 2
    assert [frame.size for frame in load_frames(Video(data, as_stored=True), num_frames=8).images] == [(32, 24)] * 2
    assert (probe(data).width, probe(data).height) == (24, 32)


# Integers.


@pytest.mark.parametrize(
    ("bits", "row", "expected"),
    [
        (1, b"\x50", [0, 255, 0, 255]),
        (2, b"\x1b", [0, 85, 170, 255]),
        (4, b"\x01\x2f", [0, 17, 34, 255]),
        (8, b"\x00\x02\x80\xff", [0, 2, 128, 255]),
        (16, struct.pack("<4H", 0, 256, 32768, 65535), [0, 1, 128, 255]),
        (16, struct.pack("<4H", 0, 1, 200, 255), [0, 1, 200, 255]),
    ],
)
def test_white_at_zero_is_no_negative(bits: int, row: bytes, expected: list[int], tmp_path: Path) -> None:
    for photometric, values in ((1, expected), (0, [255 - value for value in expected])):
        data = tiff_row(row, 4, bits=bits, photometric=photometric, samples=1)
        shown = open_image(Image(data))
        assert np.asarray(shown.convert("L")).tolist() == [values]
        (tmp_path / "a.tif").write_bytes(data)
        assert shown_otherwise(tmp_path / "a.tif") == (photometric == 0 and bits == 16)


@pytest.mark.parametrize(
    ("bits", "format", "values", "expected"),
    [
        (32, 1, [0, 2**24, 2**31, 2**32 - 1], [0, 1, 128, 255]),
        (32, 1, [0, 256, 65535, 2**32 - 1], [0, 1, 255, 255]),
        (32, 1, [0, 1, 200, 255], [0, 1, 200, 255]),
        (32, 2, [-(2**31), 0, 2**30, 2**31 - 1], [0, 0, 128, 255]),
        (32, 2, [-5, 256, 32768, 65535], [0, 1, 128, 255]),
        (16, 2, [-32768, 0, 16384, 32767], [0, 0, 128, 255]),
        (16, 2, [-1, 0, 200, 255], [0, 0, 200, 255]),
        (8, 2, [-128, -1, 64, 127], [0, 0, 128, 254]),
    ],
)
def test_integers_of_every_type_run_from_black_to_white(
    bits: int, format: int, values: list[int], expected: list[int], tmp_path: Path
) -> None:
    row = np.array(values).astype(f"<{'iu'[format == 1]}{bits // 8}").tobytes()
    data = tiff_row(row, 4, bits=bits, photometric=1, samples=1, format=format)
    assert _grey(data) == expected
    (tmp_path / "a.tif").write_bytes(data)
    assert shown_otherwise(tmp_path / "a.tif")


def test_twelve_bits_run_from_black_to_white() -> None:
    assert _grey(tiff_row(b"\x00\x08\x00\xff\xf0\x10", 4, bits=12, photometric=1, samples=1)) == [0, 128, 255, 1]


# Floating point.

_FRACTIONS = st.floats(2**-7, 1 - 2**-7, width=32)
_ODD = st.sampled_from([np.inf, -np.inf, np.nan, -0.5, -1e30, 0.0])


def _floats(data: st.DataObject, *parts: st.SearchStrategy[list[float]]) -> NDArray[np.float32]:
    values = [value for part in parts for value in data.draw(part)] + data.draw(st.lists(_ODD, max_size=40))
    return np.array(data.draw(st.permutations(values)), np.float32)


def _expected(values: NDArray[np.float32], white: int, scale: float) -> list[int]:
    return [
        0 if value != value or value <= 0 else 255 if value >= white else int(np.float32(value) * np.float32(scale))
        for value in values
    ]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_floating_point_from_0_to_1_is_clipped_there_however_bright_up_to_half_of_it_is(data: st.DataObject) -> None:
    base = data.draw(st.lists(_FRACTIONS, min_size=1, max_size=40))
    bright = st.lists(st.floats(1, 2.0**100, width=32), max_size=len(base))
    values = _floats(data, st.just(base), bright)
    assert _grey(pfm_row(values)) == _grey(PIL.Image.fromarray(values[None])) == _expected(values, 1, 255)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_mask_in_floating_point_is_clipped_with_one_value_in_ten_above_it(data: st.DataObject) -> None:
    num_ones = data.draw(st.integers(9, 60))
    bright = st.lists(st.integers(2, 2**40).map(float), max_size=num_ones // 9)
    values = _floats(data, st.just([1.0] * num_ones), bright)
    assert _grey(PIL.Image.fromarray(values[None])) == _expected(values, 1, 255)


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from([(8, 17, 255), (16, 511, 65535)]), st.sampled_from([0.0, 0.25]))
def test_8_and_16_bits_in_floating_point_come_out_as_the_integers_do(
    data: st.DataObject, kind: tuple[int, int, int], fraction: float
) -> None:
    bits, bright, white = kind
    base = data.draw(st.lists(st.integers(0, white), max_size=40))
    lit = st.lists(st.integers(bright, white), min_size=len(base) + 1, max_size=len(base) + 40)
    values = _floats(
        data, st.just([float(value) for value in base]), lit.map(lambda part: [float(one) for one in part])
    )
    values = np.where(values > 1, np.minimum(values + np.float32(fraction), np.float32(white)), values)
    grey = _grey(PIL.Image.fromarray(values[None]))
    assert grey == _expected(values, white, 1 if bits == 8 else 1 / 256)
    if fraction == 0:
        integers = np.nan_to_num(values, nan=0, posinf=white, neginf=0).clip(0, white).astype(np.uint16)
        assert grey == _grey(PIL.Image.fromarray(integers[None]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([np.inf, np.inf], [255, 255]),
        ([-np.inf, np.nan], [0, 0]),
        ([np.inf, -np.inf, np.nan, 3e38, -3e38], [255, 0, 0, 255, 0]),
        ([0, 0, 0, 0], [0, 0, 0, 0]),
        ([0, 0, 0, 4], [0, 0, 0, 255]),
        ([0.25, 0.5, 1.0, 4.0], [63, 127, 255, 255]),
        # Paper a little above white, as sharpening makes it.
        ([0.5, 1.02, 1.01, 1.03, 1.02], [127, 255, 255, 255, 255]),
        ([127.5, 258.0, 256.5, 261.0], [127, 255, 255, 255]),
        # More than half is brighter than white.
        ([0.5, 2.0, 3.5, 8.0], [127, 255, 255, 255]),
        # Night photographs.
        ([1, 2, 0, 3, 2, 1, 240], [1, 2, 0, 3, 2, 1, 240]),
        # Marks for missing data.
        ([0.25, 0.5, 3.4e38, 3.4e38, 3.4e38], [63, 127, 255, 255, 255]),
        ([-9999, 20, 128, 255], [0, 20, 128, 255]),
    ],
)
def test_floating_point_has_its_white_where_it_is_meant(values: list[float], expected: list[int]) -> None:
    assert _grey(pfm_row(np.array(values, np.float32))) == expected


def test_floating_point_with_white_at_zero_is_no_negative(tmp_path: Path) -> None:
    row = np.array([0.0, 0.25, 1.0, np.nan, 7.0], "<f4").tobytes()
    data = tiff_row(row, 5, bits=32, photometric=0, samples=1, format=3)
    assert _grey(data) == [255, 192, 0, 0, 0]
    (tmp_path / "a.tif").write_bytes(data)
    assert shown_otherwise(tmp_path / "a.tif")


# Which files come out otherwise than before.


def test_ordinary_opaque_pictures_and_every_jpeg_are_shown_as_before(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    deep = PIL.Image.fromarray(np.array([[0, 256, 65535]], np.uint16))
    for number, data in enumerate([
        encoded(picture(), "JPEG", exif=exif),
        encoded(picture().convert("CMYK"), "JPEG"),
        encoded(picture(), "PNG"),
        encoded(picture(), "PNG", exif=exif),
        encoded(picture().convert("RGBA"), "PNG"),
        encoded(picture().convert("LA"), "PNG"),
        encoded(picture().quantize(8), "PNG"),
        encoded(picture().quantize(8), "PNG", transparency=b"\xff" * 8),
        encoded(picture().convert("1"), "TIFF"),
        encoded(picture().convert("L"), "TIFF"),
        encoded(picture(), "WEBP"),
        encoded(picture().quantize(8), "GIF"),
        encoded(deep, "PNG"),
        encoded(deep, "TIFF"),
        encoded(picture(), "BMP"),
        encoded(picture(), "TIFF", save_all=True, append_images=[picture(shift=1)]),
    ]):  # fmt: skip
        (tmp_path / str(number)).write_bytes(data)
        assert not shown_otherwise(tmp_path / str(number)), number


def test_animations_and_files_that_cannot_be_opened_may_be_shown_otherwise(tmp_path: Path) -> None:
    (tmp_path / "moving").write_bytes(animation("GIF", ("red", "lime"), (100, 100)))
    (tmp_path / "floats").write_bytes(pfm_row(np.array([0.5], np.float32)))
    (tmp_path / "text").write_text("no picture")
    (tmp_path / "cut").write_bytes(encoded(_drawing().resize((200, 100)))[:-200])
    for name in ("moving", "floats", "text", "cut", "missing"):
        assert shown_otherwise(tmp_path / name), name


# Training rows.


def test_media_of_own_rows_are_taken_as_their_owner_sees_them(tmp_path: Path) -> None:
    own = parse_pair(Columns({"query": {"image": "a.png"}, "positive": {"video": ["b.png"]}}), "row", tmp_path)
    assert own.query.media == (Image(tmp_path / "a.png"),)
    assert own.positive.media == (Video((tmp_path / "b.png",)),)
    assert [one.as_stored for one in (*own.query.media, *own.positive.media)] == [False, False]
