"""The words of a file are taken by its ending, and what is left out of them is told."""

from __future__ import annotations

import logging
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest

from support.media_files import bare_pdf, encoded, picture
from support.word_files import text_pdf, write_film
from vlm2vec.errors import MediaError, MissingError
from vlm2vec.media import FileWords, Limits, PartWords, read_words
from vlm2vec.media.sandbox import Sandbox


def test_each_kind_of_file_has_its_reader(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x010E] = "A fox"
    (tmp_path / "a.JPG").write_bytes(encoded(picture(), "JPEG", exif=exif))
    (tmp_path / "a.pdf").write_bytes(text_pdf(["A fox"]))
    write_film(tmp_path / "a.mp4", [(0, 1, "A fox")])
    assert read_words(tmp_path / "a.JPG") == FileWords("A fox", ())
    assert read_words(tmp_path / "a.pdf") == FileWords("", (PartWords("A fox", page=1),))
    assert read_words(tmp_path / "a.mp4") == FileWords("", (PartWords("A fox", span_s=(0.0, 1.0)),))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        read_words(tmp_path / "a.xyz")
    assert str(caught.value) == (
        f"{tmp_path / 'a.xyz'} holds no words that can be read: the ending '.xyz' is that of no picture, film or "
        "document"
    )


def test_what_is_left_out_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(text_pdf(["A fox"]))
    with caplog.at_level(logging.WARNING, "vlm2vec"):
        read_words(path, Limits(text_chars=1))
    assert caplog.messages == [
        f"{path}: the words from page 1 on are left out: the file has more than the 1 characters of text allowed "
        "(Limits.text_chars)"
    ]


def test_recognising_words_without_its_package_is_refused_before_the_file_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlm2vec.extras.find_spec", lambda name: None)
    with pytest.raises(MissingError) as caught:
        read_words(tmp_path / "missing.pdf", ocr=True)
    assert str(caught.value) == "rapidocr is not installed; install it: pip install 'vlm2vec[ocr]'"


def _drawn(text: str) -> PIL.Image.Image:
    """A picture of a line of text."""
    image = PIL.Image.new("RGB", (600, 120), "white")
    PIL.ImageDraw.Draw(image).text((20, 30), text, fill="black", font=PIL.ImageFont.load_default(40))
    return image


@pytest.mark.slow
def test_words_are_recognised_in_pictures_and_in_pages_without_text_alone(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr", reason="rapidocr is not installed: no words are recognised")
    _drawn("A red fox").save(tmp_path / "a.png")
    _drawn("In the den").save(tmp_path / "scan.pdf", resolution=72)
    (tmp_path / "text.pdf").write_bytes(text_pdf(["In the forest"]))
    (tmp_path / "empty.pdf").write_bytes(bare_pdf())
    write_film(tmp_path / "a.mp4", [(0, 1, "On the road")])
    assert {path.name: read_words(path, ocr=True).parts for path in sorted(tmp_path.iterdir())} == {
        "a.png": (PartWords("A red fox"),),
        "scan.pdf": (PartWords("In the den", page=1),),
        "text.pdf": (PartWords("In the forest", page=1),),
        "empty.pdf": (PartWords("", page=1),),
        "a.mp4": (PartWords("On the road", span_s=(0.0, 1.0)),),
    }
    with Sandbox() as sandbox:
        assert sandbox.read_words(tmp_path / "scan.pdf", ocr=True).parts == (PartWords("In the den", page=1),)
