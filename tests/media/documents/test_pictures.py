"""Pictures inside of documents: which are there, and which are left out."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path

import docx
import PIL.Image
import pytest

from support.document_files import write_epub, write_odt, write_pptx, zipped
from support.media_files import encoded, picture, png_header
from vlm2vec.errors import MediaError
from vlm2vec.media import Limits
from vlm2vec.media.documents.pictures import SMALLEST_PX, InnerPictures, list_pictures, read_picture

LARGE = encoded(picture(SMALLEST_PX, SMALLEST_PX))
SMALL = encoded(picture(SMALLEST_PX, SMALLEST_PX - 1))


def test_pictures_of_a_docx_are_listed_and_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(LARGE)
    document = docx.Document()
    document.add_picture(str(tmp_path / "a.png"))
    document.save(str(tmp_path / "a.docx"))
    # The thumbnail that python-docx brings along is none of them.
    assert list_pictures(tmp_path / "a.docx") == InnerPictures(("word/media/image1.png",), 0, 0)
    assert read_picture(tmp_path / "a.docx", "word/media/image1.png") == LARGE


@pytest.mark.parametrize("suffix", [".pptx", ".odt", ".odp", ".epub", ".xlsx"])
def test_small_damaged_and_equal_pictures_are_left_out_and_counted(tmp_path: Path, suffix: str) -> None:
    parts: dict[str, str | bytes] = {
        "m/b.png": LARGE,
        "m/a.png": LARGE,
        "m/icon.gif": SMALL,
        "m/broken.jpg": LARGE[:20],
        "m/huge.png": png_header(100_000, 100_000),
        "m/words.xml": "<a/>",
        "Thumbnails/thumbnail.png": encoded(PIL.Image.new("RGB", (99, 99))),
    }
    assert list_pictures(zipped(tmp_path / f"a{suffix}", parts)) == InnerPictures(("m/a.png",), 1, 2)


def test_pictures_of_a_saved_page_have_their_addresses(tmp_path: Path) -> None:
    message = EmailMessage()
    message.set_content("<p>words", subtype="html")
    message.add_related(LARGE, "image", "png", headers=["Content-Location: http://a.b/c.png"])
    message.add_related(SMALL, "image", "png")
    path = tmp_path / "a.mhtml"
    path.write_bytes(message.as_bytes())
    assert list_pictures(path) == InnerPictures(("http://a.b/c.png",), 1, 0)
    assert read_picture(path, "http://a.b/c.png") == LARGE


def test_documents_without_pictures_have_none(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    for path in (tmp_path / "a.txt", write_odt(tmp_path / "a.odt"), write_epub(tmp_path / "a.epub")):
        assert list_pictures(path) == InnerPictures((), 0, 0)


def test_pictures_beyond_the_limit_are_counted_as_unread(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.odp", {"a.png": LARGE, "b.png": encoded(picture(99, 99))})
    assert list_pictures(path, Limits(image_bytes=len(LARGE))) == InnerPictures(("a.png",), 0, 1)


def test_a_picture_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"a\.pptx has no picture x\.png; list_pictures names those that it has"):
        read_picture(write_pptx(tmp_path / "a.pptx"), "x.png")


def test_a_file_that_is_no_document_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"words")
    with pytest.raises(MediaError, match=r"a\.docx cannot be read as a document: File is not a zip file"):
        list_pictures(tmp_path / "a.docx")
