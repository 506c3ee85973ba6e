"""PDFs: pages as pictures, and what a file that is no PDF says."""

import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.media_files import bare_pdf, encoded, encrypted_pdf, pdf, picture
from vlm2vec.errors import LimitError, MediaError
from vlm2vec.items import Image, Item
from vlm2vec.media import Limits, load_frames, page_count, read_pages, render_page
from vlm2vec.media.document import shown_otherwise

RED, LIME, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def _near(found: object, expected: tuple[int, int, int]) -> bool:
    # Pages made by Pillow hold JPEG.
    assert isinstance(found, tuple)
    difference: int = max(abs(a - b) for a, b in zip(found, expected, strict=True))
    return difference <= 3


def test_a_pdf_is_one_item_a_page(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf(["red", "lime", "blue"]))
    items = [Item(media=(Image(path, page=number),)) for number in (1, 2, 3)]
    assert (read_pages(path), read_pages(str(path)), page_count(path)) == (items, items, 3)


def test_pages_are_drawn_in_rgb_at_144_dots_per_inch(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf(["red", "lime", "blue"], (72, 36)))
    for source in (path, path.read_bytes()):
        for number, color in ((3, BLUE), (1, RED), (2, LIME)):
            page = render_page(source, number)
            assert (page.mode, page.size, _near(page.getpixel((72, 36)), color)) == ("RGB", (144, 72), True)
    frames = load_frames(Image(path, page=2), num_frames=8)
    assert (frames.is_video, [_near(image.getpixel((9, 9)), LIME) for image in frames.images]) == (False, [True])


def test_an_empty_page_is_white() -> None:
    page = render_page(bare_pdf(), 1)
    assert (page.size, page.getcolors()) == ((144, 72), [(144 * 72, WHITE)])


@pytest.mark.parametrize("media_box", ["0 0 3000 2000", "0 0 1000000 1000000", "0 0 14400 10"])
def test_a_large_page_is_drawn_with_about_four_megapixels(media_box: str) -> None:
    width_pt, height_pt = (int(number) for number in media_box.split()[2:])
    page = render_page(bare_pdf(media_box), 1)
    expected_px = min(4 * width_pt * height_pt, 4_000_000)
    assert page.width * page.height == pytest.approx(expected_px, rel=0.01)
    assert page.width / page.height == pytest.approx(width_pt / height_pt, rel=0.01)


def test_a_page_that_is_not_there_is_an_error_with_the_count(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf(["red", "lime"]))
    for page in (0, 3):
        with pytest.raises(MediaError, match=rf"a\.pdf has no page {page}: its pages count from 1 to 2"):
            render_page(path, page)


def _broken_files(folder: Path) -> dict[str, str]:
    """File name -> what its error must say."""
    whole = pdf(["red", "lime"])
    (folder / "empty.pdf").write_bytes(b"")
    (folder / "truncated.pdf").write_bytes(whole[: len(whole) // 3])
    (folder / "header.pdf").write_bytes(b"%PDF-1.7\n")
    (folder / "text.pdf").write_text("not a document\n" * 50)
    (folder / "picture.pdf").write_bytes(encoded(picture()))
    (folder / "encrypted.pdf").write_bytes(encrypted_pdf())
    (folder / "no_pages.pdf").write_bytes(bare_pdf().replace(b"/Kids [3 0 R] /Count 1", b"/Kids [] /Count 0"))
    (folder / "folder.pdf").mkdir()
    (folder / "broken_link.pdf").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.pdf")
    return {
        "empty.pdf": "it is empty",
        "truncated.pdf": "cannot be read as a PDF",
        "header.pdf": "cannot be read as a PDF",
        "text.pdf": "cannot be read as a PDF",
        "picture.pdf": "cannot be read as a PDF",
        "encrypted.pdf": "is encrypted; save a copy without a password",
        "no_pages.pdf": "cannot be read as a PDF",
        "folder.pdf": "it is a folder",
        "broken_link.pdf": "No such file or directory",
        "pipe.pdf": "it is not a regular file",
        "missing.pdf": "No such file or directory; check the path",
    }


def test_every_broken_file_is_a_media_error_that_names_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, reason in _broken_files(tmp_path).items():
        for read in (read_pages, lambda path: render_page(path, 1)):
            with pytest.raises(MediaError) as caught:
                read(tmp_path / name)
            assert str(tmp_path / name) in str(caught.value)
            assert reason in str(caught.value)
            assert not isinstance(caught.value, LimitError)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_a_media_error(tmp_path: Path) -> None:
    path = tmp_path / "secret.pdf"
    path.write_bytes(pdf(["red"]))
    path.chmod(0)
    with pytest.raises(MediaError, match="Permission denied"):
        page_count(path)


def test_a_page_that_is_damaged_does_not_hide_the_others() -> None:
    source = bare_pdf(objects="4 0 obj << /Type /Font >> endobj").replace(
        b"/Kids [3 0 R] /Count 1", b"/Kids [3 0 R 4 0 R] /Count 2"
    )
    assert render_page(source, 1).size == (144, 72)
    with pytest.raises(MediaError, match=r"^<\d+ bytes> cannot be read as a PDF at page 2: Failed to load page; check"):
        render_page(source, 2)


_ENCRYPTED = encrypted_pdf()
_NO_PAGES = (
    b"%PDF-1.7\n1 0 obj << /Type /Catalog /Pages 2 0 R >> endobj\n2 0 obj << /Type /Pages /Count 0 /Kids [] >> endobj\n"
    b"xref\n0 3\n0000000000 65535 f \n0000000009 00000 n \n0000000058 00000 n \n"
    b"trailer << /Size 3 /Root 1 0 R >>\nstartxref\n110\n%%EOF\n"
)
_DAMAGED = b"not a document\n" * 50
_REASONS = {
    _ENCRYPTED: "is encrypted; save a copy without a password",
    _NO_PAGES: "has no pages",
    _DAMAGED: "cannot be read as a PDF: its content is no PDF or damaged; check that the file is whole",
    bare_pdf(): None,
}


@pytest.mark.parametrize(
    "order", list(itertools.permutations(_REASONS)), ids=lambda order: "-".join(map(str, map(len, order)))
)
def test_a_file_gives_its_own_error_whatever_was_opened_before(order: tuple[bytes, ...], tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    for source in (order[0], *order):
        path.write_bytes(source)
        for opened, name in ((path, str(path)), (source, f"<{len(source)} bytes>")):
            if _REASONS[source] is None:
                assert page_count(opened) == 1
                continue
            with pytest.raises(MediaError) as caught:
                page_count(opened)
            assert str(caught.value) == f"{name} {_REASONS[source]}"


CORNERS = "1 0 0 rg 0 50 100 50 re f 0 1 0 rg 100 50 100 50 re f 0 0 1 rg 0 0 100 50 re f 1 1 0 rg 100 0 100 50 re f"
_ALL = ((400, 200), RED, LIME, BLUE, (255, 255, 0))


def _boxed(of_page: str, of_tree: str = "") -> bytes:
    """A page whose four quarters, 100 x 50 points each, are red, lime, blue and yellow."""
    content = f"4 0 obj << /Length {len(CORNERS)} >> stream\n{CORNERS}\nendstream endobj"
    whole = bare_pdf("0 0 200 100", objects=content)
    whole = whole.replace(b"/MediaBox [0 0 200 100]", f"/Contents 4 0 R {of_page}".encode())
    return whole.replace(b"/Count 1", f"/Count 1 {of_tree}".encode())


def _corners(page: PIL.Image.Image) -> tuple[object, ...]:
    right, bottom = page.width - 2, page.height - 2
    return (page.size, *(page.getpixel(at) for at in ((1, 1), (right, 1), (1, bottom), (right, bottom))))


BESIDE = ("500 500 600 600", "-90 -90 -10 -10", "600 600 500 500", "200 0 400 100", "0 100 200 200", "0 -1 200 0")


@pytest.mark.parametrize(
    ("crop_box", "seen"),
    [
        *((box, _ALL) for box in BESIDE),
        *((box, _ALL) for box in ("0 0 0 0", "50 50 50 50", "50 0 50 100", "0 0 200 100", "-5 -5 300 300")),
        *((box, _ALL) for box in ("200 100 0 0", "1 2 3", "/A /B /C /D")),
        ("100 50 300 300", ((200, 100), *[LIME] * 4)),
        ("300 300 100 50", ((200, 100), *[LIME] * 4)),
        ("-50 20 100 50", ((200, 60), *[BLUE] * 4)),
        ("110 10 120 20", ((20, 20), *[(255, 255, 0)] * 4)),
        ("50 25 150 75", ((200, 100), RED, LIME, BLUE, (255, 255, 0))),
    ],
)
def test_a_page_is_drawn_where_its_crop_box_covers_its_media_box_or_as_a_whole(
    crop_box: str, seen: tuple[object, ...]
) -> None:
    media, crop = "/MediaBox [0 0 200 100]", f"/CropBox [{crop_box}]"
    for source in (_boxed(media + crop), _boxed(media, crop), _boxed("", media + crop), _boxed(crop, media)):
        assert _corners(render_page(source, 1)) == seen


def test_pages_of_other_looks_than_before_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    media = "/MediaBox [0 0 200 100]"
    for box, told in (*((box, True) for box in BESIDE), ("0 0 0 0", False), ("50 20 300 300", False)):
        path.write_bytes(_boxed(media, f"/CropBox [{box}]"))
        for _ in range(2):
            assert shown_otherwise(path) is told
            # Drawn or not.
            render_page(path, 1)
    for source, told in ((_boxed(media), False), (_DAMAGED, True), (_NO_PAGES, True)):
        path.write_bytes(source)
        assert shown_otherwise(path) is told
    assert shown_otherwise(tmp_path / "missing.pdf")


def test_a_pil_image_has_no_pages() -> None:
    with pytest.raises(MediaError, match=r"<PIL image RGB 40x30> has no pages"):
        load_frames(Image(picture(), page=1), num_frames=8)


def test_limits_on_pages_and_bytes_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf(["red", "lime", "blue"]))
    for source in (path, path.read_bytes()):
        assert page_count(source, Limits(pages=3)) == 3
        with pytest.raises(LimitError, match="has 3 pages, more than the 2 allowed"):
            page_count(source, Limits(pages=2))
        with pytest.raises(LimitError, match=r"more than the 100 allowed for a PDF; make it smaller"):
            render_page(source, 1, Limits(pdf_bytes=100))
    with pytest.raises(LimitError, match="has 3 pages, more than the 2 allowed"):
        read_pages(path, Limits(pages=2))
    # Who has let it through may draw each page.
    assert _near(render_page(path, 3, Limits(pages=2)).getpixel((5, 5)), BLUE)


def test_a_file_that_changes_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf(["red"]))
    assert _near(render_page(path, 1).getpixel((5, 5)), RED)
    path.write_bytes(pdf(["lime", "blue"]))
    assert _near(render_page(path, 1).getpixel((5, 5)), LIME)
    assert page_count(path) == 2


def test_threads_may_draw_pages_of_several_files_at_once(tmp_path: Path) -> None:
    colors = {"red": RED, "lime": LIME, "blue": BLUE}
    for color in colors:
        (tmp_path / color).write_bytes(pdf([color, "white"]))
    jobs = [(color, page) for _ in range(10) for color in colors for page in (1, 2)]
    with ThreadPoolExecutor(8) as pool:
        pages = list(pool.map(lambda job: render_page(tmp_path / job[0], job[1]), jobs))
    for (color, number), page in zip(jobs, pages, strict=True):
        assert _near(page.getpixel((5, 5)), colors[color] if number == 1 else WHITE)


def test_the_program_ends_quietly_with_a_document_open(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf(["red"]))
    code = f"from vlm2vec.media import page_count; from pathlib import Path; print(page_count(Path({str(path)!r})))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "1\n", "")


_WHOLE = pdf(["red", "lime"])


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 1), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6))
def test_damage_anywhere_gives_pages_or_a_media_error(cut: float, changes: list[tuple[float, int]]) -> None:
    damaged = bytearray(_WHOLE)
    for where, value in changes:
        damaged[int(where * len(damaged))] = value
    source = bytes(damaged if changes else damaged[: int(cut * len(damaged))])
    try:
        page = render_page(source, 1)
    except MediaError as error:
        assert f"<{len(source)} bytes>" in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert page.mode == "RGB"
