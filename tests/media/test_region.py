"""Which pixels a region of a picture has, and which regions are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from support.index_folders import make_pdf
from vlm2vec import media
from vlm2vec.errors import InputError, MediaError
from vlm2vec.items import Image
from vlm2vec.media.region import Region


def _pixels(image: Image) -> list[list[int]]:
    [picture] = media.load_frames(image, num_frames=1).images
    pixels: list[list[int]] = np.asarray(picture).tolist()
    return pixels


def _counted(width: int, height: int) -> PILImage.Image:
    """A grey picture whose pixels are 0, 1, 2, ... row by row."""
    return PILImage.fromarray(np.arange(width * height, dtype=np.uint8).reshape(height, width))


@pytest.mark.parametrize(
    ("region", "pixels"),
    [
        ("1,0,2,1", [[1, 2]]),
        ("25%,50%,50%,50%", [[5, 6]]),
        (" 3, 0, 25%, 100%", [[3], [7]]),
        ("0,0,4,2", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ("37.5%,0,1,1", [[2]]),
    ],
)
def test_a_region_is_in_pixels_or_in_percent_of_its_side(region: str, pixels: list[list[int]]) -> None:
    assert _pixels(Region.parse(region).of(Image(_counted(4, 2)))) == pixels


def test_a_region_is_of_the_picture_as_it_is_seen(tmp_path: Path) -> None:
    exif = PILImage.Exif()
    exif[0x0112] = 3  # Upside down.
    _counted(4, 2).save(tmp_path / "a.png", exif=exif)
    assert _pixels(Region.parse("0,0,2,1").of(Image(tmp_path / "a.png"))) == [[7, 6]]


def test_a_region_of_a_page_is_in_percent(tmp_path: Path) -> None:
    page = Image(make_pdf(tmp_path / "a.pdf", 10, 120), page=2)
    [whole] = media.load_frames(page, num_frames=1).images
    part = Region.parse("0%,0%,50%,100%").of(page).source
    assert isinstance(part, PILImage.Image)
    assert part.size == (round(whole.width / 2), whole.height)
    with pytest.raises(InputError, match=r"a page has no pixels: .* not 0,0%,50%,100%"):
        Region.parse("0,0%,50%,100%").of(page)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "1,2,3,-4", "a,b,c,d", "1;2;3;4", "1,2,3,4px", "nan,1,1,1"])
def test_what_is_no_region_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no region: write x,y,width,height, as 100,50,300,200"):
        Region.parse(text)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ("0,0,0,1", "the region 0,0,0,1 of .* is empty"),
        ("0,0,1%,1", "the region 0,0,1%,1 of .* is empty"),
        ("3,0,2,1", "reaches out of .*, which has 4 x 2 pixels"),
        ("0,60%,1,60%", "reaches out of"),
    ],
)
def test_a_region_lies_inside_the_picture(region: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Region.parse(region).of(Image(_counted(4, 2)))


def test_a_region_of_a_picture_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError):
        Region.parse("0,0,1,1").of(Image(tmp_path / "no.png"))
