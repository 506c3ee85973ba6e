"""Pictures that Pillow does not open: HEIC, JPEG XL, RAW and SVG, their damage, and packages that are missing."""

from __future__ import annotations

import base64
import html
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pillow_heif
import pylibjxl
import pytest

from support.media_files import encoded
from support.raw_files import dng
from vlm2vec import extras
from vlm2vec.errors import LimitError, MediaError
from vlm2vec.extras import extra_for
from vlm2vec.items import UNUSUAL_SUFFIXES, Image
from vlm2vec.media import Limits, open_image, read_words, svg
from vlm2vec.media.sandbox import Sandbox
from vlm2vec.media.words import FileWords, PartWords

RED, LIME, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def _two_halves(width: int = 64, height: int = 32) -> PIL.Image.Image:
    """Red on the left, lime on the right."""
    picture = PIL.Image.new("RGB", (width, height), RED)
    picture.paste(LIME, (width // 2, 0, width, height))
    return picture


def _heic(picture: PIL.Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(picture).save(buffer, quality=95, **options)
    return buffer.getvalue()


def _jxl(picture: PIL.Image.Image) -> bytes:
    return bytes(pylibjxl.encode(np.asarray(picture), lossless=True))


def _svg(inner: str, head: str = "") -> bytes:
    return (
        f'{head}<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="20" '
        f'height="10" viewBox="0 0 20 10">{inner}</svg>'
    ).encode()


RECTANGLE = '<rect width="10" height="10" fill="red"/>'


def _near(found: object, expected: tuple[int, int, int]) -> bool:
    assert isinstance(found, tuple)
    difference: int = max(abs(a - b) for a, b in zip(found, expected, strict=True))
    return difference <= 12


def _is_halves(picture: PIL.Image.Image) -> bool:
    width, height = picture.size
    left, right = picture.getpixel((width // 4, height // 2)), picture.getpixel((3 * width // 4, height // 2))
    return _near(left, RED) and _near(right, LIME)


@pytest.mark.parametrize("suffix", [".heic", ".heif", ".hif"])
def test_a_heic_is_opened_from_its_path_and_its_bytes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(_heic(_two_halves()))
    for source in (path, path.read_bytes()):
        picture = open_image(Image(source))
        assert (picture.mode, picture.size, _is_halves(picture)) == ("RGB", (64, 32), True)


def test_a_heic_under_the_name_of_a_jpeg_is_opened(tmp_path: Path) -> None:
    # As photographs come from phones by some programs.
    path = tmp_path / "a.jpg"
    path.write_bytes(_heic(_two_halves()))
    assert _is_halves(open_image(Image(path)))


def test_a_heic_is_turned_as_its_owner_sees_it() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    turned = _two_halves().transpose(PIL.Image.Transpose.ROTATE_180)
    assert _is_halves(open_image(Image(_heic(turned, exif=exif.tobytes()))))


def test_an_avif_is_still_opened_by_pillow() -> None:
    assert _is_halves(open_image(Image(encoded(_two_halves(), "AVIF", quality=95))))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_a_jpeg_xl_is_opened(mode: str) -> None:
    picture = open_image(Image(_jxl(_two_halves(1, 3).convert(mode))))
    expected = _two_halves(1, 3).convert("L" if mode == "L" else "RGB")
    assert (picture.mode, picture.tobytes()) == (expected.mode, expected.tobytes())


def test_the_preview_of_a_photograph_is_opened_and_turned(tmp_path: Path) -> None:
    path = tmp_path / "a.dng"
    path.write_bytes(dng(encoded(_two_halves(640, 320), "JPEG", quality=95)))
    picture = open_image(Image(path))
    assert (picture.size, _is_halves(picture)) == ((640, 320), True)
    for number, size in ((3, (640, 320)), (6, (320, 640)), (8, (320, 640))):
        path.write_bytes(dng(encoded(_two_halves(640, 320), "JPEG", quality=95), orientation=number))
        picture = open_image(Image(path))
        assert picture.size == size
        # The left half is now on the right, above, or below.
        at = {3: (500, 100), 6: (100, 100), 8: (100, 500)}[number]
        assert _near(picture.getpixel(at), RED)


def test_the_orientation_of_a_preview_itself_counts_more(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 1
    preview = encoded(_two_halves(640, 320), "JPEG", quality=95, exif=exif.tobytes())
    path = tmp_path / "a.NEF"
    # As cameras write it, without the JFIF segment that Pillow puts first.
    path.write_bytes(dng(preview[:2] + preview[20:], orientation=6))
    assert open_image(Image(path)).size == (640, 320)


@pytest.mark.parametrize("preview", [None, encoded(_two_halves(), "JPEG")], ids=["none", "small"])
def test_a_photograph_without_a_good_preview_is_developed_at_half_its_size(
    tmp_path: Path, preview: bytes | None
) -> None:
    path = tmp_path / "a.dng"
    path.write_bytes(dng(preview, side_px=64))
    assert open_image(Image(path)).size == (32, 32)


@pytest.mark.parametrize("head", ["", "\ufeff", '<?xml version="1.0" encoding="utf-8"?>\n', "<!-- by hand -->\n"])
def test_a_drawing_is_drawn_on_white(tmp_path: Path, head: str) -> None:
    path = tmp_path / "a.svg"
    path.write_bytes(_svg(RECTANGLE, head))
    picture = open_image(Image(path))
    assert (picture.mode, picture.size) == ("RGB", (1024, 512))
    assert (picture.getpixel((256, 256)), picture.getpixel((768, 256))) == (RED, WHITE)


def test_entities_that_drawing_programs_write_are_kept() -> None:
    drawing = _svg(RECTANGLE.replace("red", "&colour;"), '<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY colour "red">]>')
    assert open_image(Image(drawing)).getpixel((256, 256)) == RED


def test_text_of_a_drawing_is_kept_as_it_is() -> None:
    kept = svg._without_references(_svg('<text id="a&lt;&quot;">a &lt; b &amp; c</text>'), 1000, "a")
    assert kept.endswith("""<text id='a&lt;"'>a &lt; b &amp; c</text></svg>""")


_NESTED = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"><image width="20" height="10" href="{path}"/></svg>'
)


@pytest.mark.parametrize(
    "reference",
    [
        '<image href="{path}" width="20" height="10"/>',
        '<image xlink:href="{path}" width="20" height="10"/>',
        '<image HREF="{path}" href="{path}" width="20" height="10"/>',
        '<image href="file://{path}" width="20" height="10"/>',
        '<filter id="f"><feImage href="{path}"/></filter><rect width="20" height="10" filter="url(#f)"/>',
        f'<image href="data:image/svg+xml;utf8,{html.escape(_NESTED)}" width="20" height="10"/>',
    ],
    ids=["href", "xlink", "both", "file", "filter", "nested"],
)
def test_a_drawing_reads_no_other_file(tmp_path: Path, reference: str) -> None:
    path = tmp_path / "secret.png"
    PIL.Image.new("RGB", (20, 10), "red").save(path)
    picture = open_image(Image(_svg(reference.format(path=path))))
    assert picture.getcolors() == [(1024 * 512, WHITE)]


def test_a_picture_inside_of_a_drawing_is_drawn() -> None:
    data = base64.b64encode(encoded(PIL.Image.new("RGB", (2, 1), "red"))).decode()
    drawing = _svg(f'<image href="data:image/png;base64,{data}" width="20" height="10"/>')
    assert open_image(Image(drawing)).getpixel((500, 250)) == RED


def test_the_words_of_a_drawing_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    path.write_bytes(
        _svg(
            '<title>Map</title><desc>of a  harbour</desc><metadata xmlns:dc="d"><dc:creator>Ada</dc:creator></metadata>'
            '<style>text { fill: red }</style><text>North<tspan x="1">ern</tspan> pier</text><text>Dock 4</text>'
        )
    )
    assert read_words(path) == FileWords("Map\nof a harbour\nAda", (PartWords("Northern pier\nDock 4"),))
    path.write_bytes(_svg(RECTANGLE))
    assert read_words(path) == FileWords("", ())


def test_a_drawing_that_is_too_long_is_refused() -> None:
    with pytest.raises(LimitError, match="more than the 100 bytes of text allowed; simplify the drawing"):
        open_image(Image(_svg(RECTANGLE)), Limits(text_bytes=100))


def test_a_drawing_that_grows_by_its_entities_is_refused() -> None:
    lines = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
    bomb = _svg("&e9;", f'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY e0 "aaaaaaaaaa">{lines}]>')
    with pytest.raises(MediaError, match=r"more than the 1,000,000 bytes of text allowed|amplification"):
        open_image(Image(bomb), Limits(text_bytes=1_000_000))


DAMAGED: dict[str, Callable[[], bytes]] = {
    ".heic": lambda: _heic(_two_halves())[:-200],
    ".jxl": lambda: _jxl(_two_halves())[:20],
    ".dng": lambda: dng(None)[:-200],
    ".svg": lambda: _svg(RECTANGLE)[:-3],
}


@pytest.mark.parametrize("suffix", DAMAGED)
def test_a_damaged_picture_is_a_media_error_that_names_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    for content in (DAMAGED[suffix](), b"", b"words"):
        path.write_bytes(content)
        with pytest.raises(MediaError, match=rf"a\{suffix} cannot be read as an image"):
            open_image(Image(path))


@pytest.mark.parametrize("source", [_heic(_two_halves()), _jxl(_two_halves())], ids=["heic", "jxl"])
def test_pixels_are_counted_before_they_are_decoded(source: bytes) -> None:
    with pytest.raises(LimitError, match="is 64 x 32 pixels, more than the 2,000 pixels allowed"):
        open_image(Image(source), Limits(image_px=2_000))


def test_a_picture_whose_package_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sources = {"heif": _heic(_two_halves()), "jxl": _jxl(_two_halves())}
    for extra, module in (("heif", "pillow_heif"), ("jxl", "pylibjxl")):
        monkeypatch.setattr(extras, "find_spec", lambda name: None)
        with pytest.raises(MediaError) as caught:
            open_image(Image(sources[extra]))
        assert str(caught.value).endswith(f": {module} is not installed; install it: pip install 'vlm2vec[{extra}]'")


def test_an_extra_is_named_for_an_ending_only_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    extra_for.cache_clear()
    assert {extra_for(ending) for ending in UNUSUAL_SUFFIXES} == {None}
    extra_for.cache_clear()
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    assert [extra_for(ending) for ending in (".heic", ".jxl", ".nef", ".svg", ".jpg", "")] == [
        *("heif", "jxl", "raw", None, None, None)
    ]
    extra_for.cache_clear()


def test_a_drawing_of_more_than_a_million_million_shapes_is_refused() -> None:
    # Ten of ten of ten, twelve times.
    levels = "".join(f'<g id="u{n + 1}">{f"""<use href="#u{n}"/>""" * 10}</g>' for n in range(12))
    drawing = _svg(f'<defs><rect id="u0" width="1" height="1"/>{levels}</defs><use href="#u12"/>')
    with pytest.raises(MediaError, match="nodes limit reached"):
        open_image(Image(drawing))


@pytest.mark.skipif(sys.platform == "win32", reason="no worker processes there")
def test_a_sandbox_decodes_them_in_a_worker(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_bytes(_svg(RECTANGLE))
    with Sandbox() as sandbox:
        [picture] = sandbox.load_frames(Image(tmp_path / "a.svg"), num_frames=1).images
    assert picture.getpixel((256, 256)) == RED
    with Sandbox(Limits(decode_s=1e-6)) as sandbox, pytest.raises(LimitError, match="took longer than 1e-06 s"):
        sandbox.load_frames(Image(tmp_path / "a.svg"), num_frames=1)
