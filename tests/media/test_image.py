"""Images: what comes out of a file, and what a file that is no image says."""

import io
import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.media_files import animation, color_at, encoded, picture, png_header
from vlm2vec.errors import LimitError, MediaError
from vlm2vec.items import Image, Video
from vlm2vec.media import DEFAULT_LIMITS, Frames, Limits, decoded_bytes, load_frames, open_image, resolve
from vlm2vec.media.image import open_picture

COLORS, DURATIONS_MS = ("red", "lime", "blue"), (100, 200, 300)


def _pixels(image: PIL.Image.Image) -> list[list[object]]:
    pixels: list[list[object]] = np.asarray(image).tolist()
    return pixels


def test_warnings_are_as_they_were_whatever_another_thread_did_to_them_meanwhile() -> None:
    before = list(warnings.filters)
    opened = open_picture(encoded(picture(), "PNG"), DEFAULT_LIMITS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened.__enter__()
    opened.__exit__(None, None, None)
    assert list(warnings.filters) == before


def test_path_bytes_and_pil_sources_give_the_same_pixels(tmp_path: Path) -> None:
    original = picture()
    path = tmp_path / "a.png"
    original.save(path)
    for source in (path, path.read_bytes(), original):
        image = open_image(Image(source))
        assert (image.mode, image.tobytes()) == ("RGB", original.tobytes())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_an_image_keeps_its_own_mode_as_stored(mode: str) -> None:
    stored = picture().convert(mode)
    image = open_image(Image(encoded(stored, "TIFF"), as_stored=True))
    assert (image.mode, image.tobytes()) == (mode, stored.tobytes())


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK"])
def test_an_opaque_image_keeps_its_own_mode_for_its_owner(mode: str) -> None:
    stored = picture().convert(mode)
    image = open_image(Image(encoded(stored, "TIFF")))
    assert (image.mode, image.tobytes()) == (mode, stored.tobytes())


def test_orientation_is_applied_for_users_and_not_for_benchmarks() -> None:
    stored = PIL.Image.fromarray(np.array([[10, 20, 30], [40, 50, 60]], dtype=np.uint8))
    exif = PIL.Image.Exif()
    turned = {
        1: [[10, 20, 30], [40, 50, 60]],
        2: [[30, 20, 10], [60, 50, 40]],
        3: [[60, 50, 40], [30, 20, 10]],
        4: [[40, 50, 60], [10, 20, 30]],
        5: [[10, 40], [20, 50], [30, 60]],
        6: [[40, 10], [50, 20], [60, 30]],
        7: [[60, 30], [50, 20], [40, 10]],
        8: [[30, 60], [20, 50], [10, 40]],
    }
    for orientation, expected in turned.items():
        exif[0x0112] = orientation
        source = encoded(stored, "PNG", exif=exif)
        assert _pixels(open_image(Image(source))) == expected
        assert _pixels(open_image(Image(source, as_stored=True))) == turned[1]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_that_was_turned_is_not_turned_again(format: str) -> None:
    exif = PIL.Image.Exif()
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        xmp = f'<rdf:Description tiff:Orientation="{orientation}"/>'.encode()
        options = {"xmp": xmp} if format in ("JPEG", "WEBP") else {}
        once = open_image(Image(encoded(picture(), format, exif=exif, **options)))
        assert _pixels(open_image(Image(once))) == _pixels(once)
        assert (once.width < once.height) == (orientation > 4)


def test_unreadable_exif_leaves_the_picture_as_stored() -> None:
    for exif in (b"Exif\0\0MM\0*\0\0\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01", b"Exif\0\0junk"):
        source = encoded(picture(), "JPEG", exif=exif)
        assert open_image(Image(source)).size == (40, 30)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_for_users_and_kept_for_benchmarks(format: str) -> None:
    stored = PIL.Image.fromarray(np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16))
    source = encoded(stored, format)
    shown = open_image(Image(source))
    assert (shown.mode, _pixels(shown)) == ("L", [[0, 0, 1, 128, 255]])
    kept = open_image(Image(source, as_stored=True))
    assert (kept.mode, _pixels(kept)) == ("I;16", [[0, 255, 256, 32768, 65535]])


def test_mode_i_is_scaled_only_if_it_holds_more_than_eight_bits() -> None:
    wide = PIL.Image.fromarray(np.array([[0, 256, 65535, 70000, -5]], dtype=np.int32))
    assert _pixels(open_image(Image(wide))) == [[0, 1, 255, 255, 0]]
    widened = PIL.Image.fromarray(np.array([[0, 7, 255]], dtype=np.int32))
    assert _pixels(open_image(Image(widened))) == [[0, 7, 255]]


def test_sixteen_bits_that_hold_eight_are_kept() -> None:
    stored = PIL.Image.fromarray(np.array([[0, 200, 255]], dtype=np.uint16))
    assert _pixels(open_image(Image(encoded(stored, "PNG")))) == [[0, 200, 255]]


def test_what_is_no_number_in_a_floating_point_picture_is_black_and_leaves_the_rest() -> None:
    stored = PIL.Image.fromarray(np.array([[0.5, np.nan, 1.0]], dtype=np.float32))
    assert _pixels(open_image(Image(stored))) == [[127, 0, 255]]


def test_palette_with_transparency_converts_to_rgb_without_a_warning() -> None:
    stored = picture().quantize(8)
    source = encoded(stored, "PNG", transparency=bytes([0, 128, 255]))
    image = open_image(Image(source, as_stored=True))
    assert image.mode == "P"
    assert image.convert("RGB").tobytes() == stored.convert("RGB").tobytes()


def test_a_users_pil_image_is_not_changed() -> None:
    mine = picture().quantize(8)
    mine.info["transparency"] = b"\0\x80"
    open_image(Image(mine)).convert("RGB")
    assert mine.info["transparency"] == b"\0\x80"


def test_a_limit_of_pillow_does_not_stop_a_picture_that_ours_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    assert open_image(Image(encoded(picture(40, 30)))).size == (40, 30)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_an_animated_picture_counts_as_video_for_users_only(format: str, tmp_path: Path) -> None:
    source = animation(format, COLORS, DURATIONS_MS)
    path = tmp_path / f"a.{format.lower()}"
    path.write_bytes(source)
    for medium in (Image(source), Image(path)):
        assert resolve(medium) == Video(medium.source)
        assert resolve(medium).kind == "video"
    with PIL.Image.open(path) as opened:
        assert resolve(Image(opened)) == Video(opened)
    stored = Image(source, as_stored=True)
    assert resolve(stored) is stored
    red, green, blue = color_at(open_image(stored).convert("RGB"), (5, 5))
    assert (red > 240, green < 15, blue < 15) == (True, True, True)


def test_the_first_frame_is_opened_as_stored_wherever_a_users_picture_stands(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(animation("GIF", COLORS, DURATIONS_MS))
    with PIL.Image.open(path) as opened:
        opened.seek(2)
        assert open_image(Image(opened, as_stored=True)).convert("RGB").getpixel((0, 0)) == (255, 0, 0)
        assert opened.tell() == 2


@pytest.mark.parametrize(
    ("least_px", "size"),
    [
        ((401, 1), (400, 300)),
        ((201, 10), (400, 300)),
        ((10, 151), (400, 300)),
        ((200, 150), (200, 150)),
        ((101, 75), (200, 150)),
        ((100, 75), (100, 75)),
        ((51, 38), (100, 75)),
        ((50, 37), (50, 38)),
        ((1, 1), (50, 38)),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_part_that_is_large_enough(
    least_px: tuple[int, int], size: tuple[int, int]
) -> None:
    source = encoded(_smooth(), "JPEG")
    [small] = load_frames(Image(source), num_frames=1, least_px=least_px).images
    assert small.size == size
    # Four bytes a pixel.
    assert decoded_bytes(Image(source), num_frames=1, least_px=least_px) == 4 * size[0] * size[1]


def test_a_jpeg_that_lies_on_its_side_is_measured_as_its_owner_sees_it() -> None:
    exif = PIL.Image.Exif()
    for orientation, size in {1: (50, 40), 3: (50, 40), 5: (40, 50), 6: (40, 50), 8: (40, 50)}.items():
        exif[0x0112] = orientation
        source = Image(encoded(picture(400, 320), "JPEG", exif=exif))
        assert open_image(source, least_px=size).size == size
        assert open_image(source, least_px=size[::-1]).size == (2 * size[0], 2 * size[1])


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_is_decoded_small_looks_like_the_whole_one_made_small(mode: str, progressive: bool) -> None:
    source = encoded(_smooth().convert(mode), "JPEG", progressive=progressive, quality=95)
    small, whole = open_image(Image(source), least_px=(100, 75)), open_image(Image(source))
    assert (small.mode, small.size, whole.size) == (mode, (100, 75), (400, 300))
    expected = np.asarray(whole.resize((100, 75), PIL.Image.Resampling.BOX)).astype(int)
    assert np.abs(np.asarray(small) - expected).max() <= 3


def test_all_but_a_users_jpeg_file_keeps_every_pixel() -> None:
    jpeg = encoded(_smooth(), "JPEG")
    opened = PIL.Image.open(io.BytesIO(jpeg))
    for image in (Image(encoded(_smooth())), Image(jpeg, as_stored=True), Image(opened)):
        [seen] = load_frames(image, num_frames=1, least_px=(50, 38)).images
        assert seen.tobytes() == open_image(image).tobytes()
        assert decoded_bytes(image, num_frames=1, least_px=(50, 38)) == 4 * 400 * 300
    assert opened.size == (400, 300)


def _smooth() -> PIL.Image.Image:
    """A picture of 400 x 300 without fine parts."""
    return picture().resize((400, 300), PIL.Image.Resampling.BICUBIC, box=(0, 0, 20, 15))


def test_everything_else_is_resolved_to_itself(tmp_path: Path) -> None:
    unreadable = tmp_path / "broken.gif"
    unreadable.write_bytes(b"GIF89a nothing")
    pages = encoded(picture(), "TIFF", save_all=True, append_images=[picture(shift=1)])
    for medium in (
        Image(encoded(picture())),
        Image(pages),
        Image(picture()),
        Image(unreadable),
        Image(tmp_path / "missing.gif"),
        Image(tmp_path / "a.pdf", page=1),
        Video(tmp_path / "a.mp4"),
    ):
        assert resolve(medium) is medium


def test_load_frames_of_an_image_is_one_picture_that_is_no_video() -> None:
    frames = load_frames(Image(encoded(picture())), num_frames=8)
    assert frames == Frames(frames.images, is_video=False)
    assert [image.tobytes() for image in frames.images] == [picture().tobytes()]
    assert [Image(b"x").kind, Video(b"x").kind, Image(b"x", page=1).kind] == ["image", "video", "page"]


def _broken_files(folder: Path) -> dict[str, str]:
    """File name -> what its error must say."""
    whole = encoded(picture(200, 100), "JPEG")
    (folder / "empty.png").write_bytes(b"")
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "truncated.png").write_bytes(encoded(picture(200, 100))[:-200])
    (folder / "header.jpg").write_bytes(whole[:10])
    (folder / "text.png").write_text("not a picture\n" * 20)
    (folder / "script.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    (folder / "huge.png").write_bytes(png_header(100_000, 100_000))
    (folder / "flat.gif").write_bytes(b"GIF89a" + b"\0" * 20)
    (folder / "folder.png").mkdir()
    (folder / "broken_link.png").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.png")
    return {
        "empty.png": "it is empty",
        "truncated.jpg": "truncated",
        "truncated.png": "truncated",
        "header.jpg": "cannot be read as an image",
        "text.png": "of no known format; check that the file is what its name says",
        "script.jpg": "of no known format; check that the file is what its name says",
        "huge.png": "is 100000 x 100000 pixels, more than the 256,000,000 pixels allowed",
        "flat.gif": "cannot be read as an image",
        "folder.png": "it is a folder",
        "broken_link.png": "No such file or directory",
        "pipe.png": "it is not a regular file",
        "missing.png": "No such file or directory; check the path",
    }


@pytest.mark.parametrize("as_stored", [True, False])
def test_every_broken_file_is_a_media_error_that_names_it(tmp_path: Path, as_stored: bool) -> None:
    for name, reason in _broken_files(tmp_path).items():
        with pytest.raises(MediaError) as caught:
            load_frames(resolve(Image(tmp_path / name, as_stored=as_stored)), num_frames=8)
        assert str(tmp_path / name) in str(caught.value)
        assert reason in str(caught.value)
        assert isinstance(caught.value, LimitError) == (name == "huge.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_a_media_error(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    picture().save(path)
    path.chmod(0)
    with pytest.raises(MediaError, match="Permission denied"):
        open_image(Image(path))


def test_limits_on_bytes_and_pixels_hold_for_every_kind_of_source(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture(40, 30).save(path)
    for source in (path, path.read_bytes(), picture(40, 30)):
        assert open_image(Image(source), Limits(image_px=1200)).size == (40, 30)
        with pytest.raises(LimitError, match="40 x 30 pixels, more than the 1,199 pixels allowed"):
            open_image(Image(source), Limits(image_px=1199))
    for source in (path, path.read_bytes()):
        with pytest.raises(LimitError, match=r"more than the 50 allowed for an image; make it smaller"):
            open_image(Image(source), Limits(image_bytes=50))


_WHOLE = {
    **{name: encoded(picture(32, 24), name) for name in ("JPEG", "PNG", "TIFF", "BMP", "PPM", "ICO", "TGA")},
    **{name: animation(name, COLORS, DURATIONS_MS) for name in ("GIF", "WEBP", "AVIF")},
}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(_WHOLE)),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
)
def test_damage_anywhere_gives_a_picture_or_a_media_error(
    format: str, cut: float, changes: list[tuple[float, int]]
) -> None:
    damaged = bytearray(_WHOLE[format])
    for where, value in changes:
        damaged[int(where * len(damaged))] = value
    source = bytes(damaged[: int(cut * len(damaged))] if not changes else damaged)
    try:
        frames = load_frames(resolve(Image(source)), num_frames=2, limits=Limits(image_px=1_000_000))
    except MediaError as error:
        assert f"<{len(source)} bytes>" in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert all(image.convert("RGB").mode == "RGB" for image in frames.images)


def test_threads_that_silence_pillow_leave_the_warning_filters_as_they_were() -> None:
    source = encoded(picture().quantize(8), "PNG", transparency=bytes([0, 128]))
    before = list(warnings.filters)
    barrier = threading.Barrier(8)

    def open_many(_: int) -> None:
        barrier.wait()
        for _ in range(20):
            open_image(Image(source))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(open_many, range(8)))
    assert list(warnings.filters) == before
