"""Which files are taken for the same picture."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageDraw

from support.index_folders import library_of_rows, rows_of
from support.places import ROOT
from vlm2vec.search.copies import Folded, Group, Pictures, find_groups, fold
from vlm2vec.search.store import FileRows, Look, StoredUnit, Unit
from vlm2vec.search.stores import open_store

_COFFEE = ROOT / "samples" / "photos" / "coffee.jpg"


def _picture(x: float, y: float) -> StoredUnit:
    return StoredUnit("image", None, None, np.array([x, y], np.float32))


def _unit(path: str, content: str, page: int | None = None) -> Unit:
    return Unit(path, "image" if page is None else "page", page, None, content)


def _equal(content: str, *paths: str, unit: StoredUnit | None = None) -> list[FileRows]:
    return [FileRows(path, Look(1, 1, 1, 1), content, 1, (unit or _picture(1, 0),)) for path in paths]


def _coffee(path: Path, scale: float = 1.0, quality: int = 90) -> None:
    with PILImage.open(_COFFEE) as picture:
        size = (round(picture.width * scale), round(picture.height * scale))
        picture.convert("RGB").resize(size).save(path, quality=quality)


# Pictures


@pytest.mark.parametrize(
    ("name", "scale", "quality"),
    [
        ("b.png", 1.0, 90),
        ("b.jpg", 1.0, 30),
        ("b.webp", 1.0, 80),
        ("b.jpg", 0.5, 85),
        ("b.jpg", 0.25, 85),
        ("b.jpg", 1.7, 85),
    ],
    ids=["PNG", "JPEG 30", "WebP 80", "half", "quarter", "larger"],
)
def test_a_photograph_is_the_same_in_another_encoding_and_size(
    tmp_path: Path, name: str, scale: float, quality: int
) -> None:
    shutil.copy(_COFFEE, tmp_path / "a.jpg")
    _coffee(tmp_path / name, scale, quality)
    assert Pictures(tmp_path).are_same("a.jpg", name)


def test_a_part_another_colour_and_a_stretched_picture_are_others(tmp_path: Path) -> None:
    shutil.copy(_COFFEE, tmp_path / "a.jpg")
    with PILImage.open(_COFFEE) as picture:
        width, height = picture.size
        picture.crop((width // 20, height // 20, width - width // 20, height - height // 20)).save(
            tmp_path / "part.jpg"
        )
        picture.convert("L").save(tmp_path / "grey.jpg")
        picture.resize((width, round(height * 1.1))).save(tmp_path / "stretched.jpg")
        picture.transpose(PILImage.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.jpg")
    pictures = Pictures(tmp_path)
    others = ["part.jpg", "grey.jpg", "stretched.jpg", "mirrored.jpg"]
    assert [pictures.are_same("a.jpg", other) for other in others] == [False] * 4


def test_empty_pictures_and_what_cannot_be_read_are_the_same_as_nothing(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        PILImage.new("RGB", (40, 40), "red").save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    pictures = Pictures(tmp_path)
    assert not pictures.are_same("a.png", "b.png")
    assert not pictures.are_same("broken.png", "a.png")
    assert not pictures.are_same("a.png", "missing.png")


def test_a_turned_photograph_is_the_same_as_its_turned_pixels(tmp_path: Path) -> None:
    with PILImage.open(_COFFEE) as picture:
        turned = picture.transpose(PILImage.Transpose.ROTATE_270)
        turned.save(tmp_path / "pixels.png")
        exif = PILImage.Exif()
        exif[0x0112] = 6
        picture.save(tmp_path / "exif.jpg", exif=exif)
    assert Pictures(tmp_path).are_same("pixels.png", "exif.jpg")


# Hits


def test_equal_files_are_one_hit_and_pages_of_equal_files_are_apart(tmp_path: Path) -> None:
    pages = [StoredUnit("page", page, None, np.array([1, 0], np.float32)) for page in (1, 2)]
    rows = [FileRows(path, Look(1, 1, 1, 1), "P", 2, tuple(pages)) for path in ("a.pdf", "b.pdf")]
    library = library_of_rows(tmp_path, *_equal("A", "1.png", "3.png", "2.png"), *rows)
    units = [
        *(_unit(path, "A") for path in ("1.png", "3.png", "2.png")),
        *(_unit("a.pdf", "P", 1), _unit("b.pdf", "P", 1), _unit("a.pdf", "P", 2), _unit("b.pdf", "P", 2)),
    ]
    with closing(open_store(library.path)) as store:
        folded = [Folded(0, ("2.png", "3.png")), Folded(3, ("b.pdf",)), Folded(5, ("b.pdf",))]
        assert fold(units, 9, store, Pictures(tmp_path)) == folded
        assert fold(units, 2, store, Pictures(tmp_path)) == folded[:2]


def test_pictures_in_other_encodings_are_one_hit_if_their_vectors_are_near(tmp_path: Path) -> None:
    library = library_of_rows(
        tmp_path,
        *(rows_of("a.jpg", _picture(1, 0)), rows_of("b.png", _picture(0.98, 0.199)), rows_of("c.png", _picture(0, 1))),
    )
    for name in ("a.jpg", "b.png", "c.png"):
        _coffee(tmp_path / name)
    hits = library.search(np.array([1, 0], np.float32))
    # The third is the same picture, but a model that sees none of it could never tell.
    assert [(hit.path, hit.copies) for hit in hits] == [("a.jpg", ("b.png",)), ("c.png", ())]


def test_pages_of_hits_continue_each_other_where_copies_are_folded(tmp_path: Path) -> None:
    several = [row for number in range(5) for row in _equal(f"{number}", f"{number}.png", f"{number} copy.png")]
    library = library_of_rows(tmp_path, *several)
    vector = np.array([1, 0], np.float32)
    shown = [hit for offset in (0, 2, 4) for hit in library.search(vector, 2, offset=offset)]
    assert shown == library.search(vector)
    assert [(hit.path, hit.copies) for hit in shown] == [
        (f"{number} copy.png", (f"{number}.png",)) for number in range(5)
    ]


def test_many_copies_of_one_picture_do_not_push_out_what_else_there_is(tmp_path: Path) -> None:
    copies = _equal("A", *(f"a{number:03}.png" for number in range(450)))
    library = library_of_rows(tmp_path, *copies, rows_of("b.png", _picture(0, 1)), rows_of("c.png", _picture(-1, 0)))
    hits = library.search(np.array([1, 0], np.float32), 2)
    assert [(hit.path, len(hit.copies)) for hit in hits] == [("a000.png", 449), ("b.png", 0)]


# A folder


def test_groups_hold_equal_files_and_other_encodings(tmp_path: Path) -> None:
    shutil.copy(_COFFEE, tmp_path / "a.jpg")
    _coffee(tmp_path / "b.png")
    _coffee(tmp_path / "c.webp", 0.5)
    shutil.copy(ROOT / "samples" / "photos" / "cat.jpg", tmp_path / "cat.jpg")
    library = library_of_rows(
        tmp_path,
        *_equal("A", "a.jpg", "z.jpg"),
        *(rows_of("b.png", _picture(0.9, 0.436)), rows_of("c.webp", _picture(0.85, 0.527))),
        *(rows_of("cat.jpg", _picture(0.99, 0.141)), *_equal("T", "t1.pdf", "t2.pdf")),
    )
    assert library.duplicates() == [
        Group((("a.jpg", "z.jpg"), ("b.png",), ("c.webp",))),
        Group((("t1.pdf", "t2.pdf"),)),
    ]
    assert [(group.paths, group.is_exact) for group in library.duplicates()] == [
        (("a.jpg", "z.jpg", "b.png", "c.webp"), False),
        (("t1.pdf", "t2.pdf"), True),
    ]


def test_an_empty_index_has_no_groups(tmp_path: Path) -> None:
    library = library_of_rows(tmp_path)
    with closing(open_store(library.path)) as store:
        assert find_groups(store, Pictures(tmp_path)) == []


def test_near_pictures_are_compared_and_not_believed(tmp_path: Path) -> None:
    for number in range(2):
        picture = PILImage.new("RGB", (64, 64), "white")
        ImageDraw.Draw(picture).rectangle((8 + 24 * number, 8, 28 + 24 * number, 28), "black")
        picture.save(tmp_path / f"{number}.png")
    library = library_of_rows(tmp_path, rows_of("0.png", _picture(1, 0)), rows_of("1.png", _picture(1, 0)))
    assert library.duplicates() == []
