"""The words of a picture are what people and cameras have written into its file."""

from __future__ import annotations

import struct
import time
import zlib
from pathlib import Path

import PIL.Image
import PIL.TiffImagePlugin
import pytest

from support.media_files import encoded, picture, png_header
from support.word_files import iptc_block, jpeg_with_iptc, png_with, xmp_packet
from vlm2vec.errors import LimitError, MediaError
from vlm2vec.items import Image
from vlm2vec.media import DEFAULT_LIMITS, FileWords, Limits, load_frames
from vlm2vec.media.picture_words import read_picture_words


def _words(data: bytes, folder: Path, limits: Limits = DEFAULT_LIMITS) -> FileWords:
    (folder / "a").write_bytes(data)
    return read_picture_words(folder / "a", limits)


def _exif() -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[0x010E] = b"Ein Fuchs"
    exif[0x010F], exif[0x0110] = "Canon", "Canon EOS 5D"
    exif[0x9C9B], exif[0x9C9E] = "Füchse\0".encode("utf-16-le"), "fox;forest\0".encode("utf-16-le")
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "am Morgen".encode("utf-16-be")
    exif.get_ifd(0x8769)[0x9003] = "2024:03:15 06:30:00"
    return exif


OF_EXIF = "Ein Fuchs\nFüchse\nfox;forest\nam Morgen\nCanon\nCanon EOS 5D\n2024-03-15 March 2024"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_is_read_in_every_format_that_has_it(format: str, tmp_path: Path) -> None:
    exif = _exif()
    if format == "TIFF":
        # Pillow writes the inner directory of a TIFF only if it stands in its place.
        exif[0x8769] = dict(exif.get_ifd(0x8769))
    assert _words(encoded(picture(), format, exif=exif), tmp_path) == FileWords(OF_EXIF, ())


def test_a_description_is_read_in_utf_8_and_in_latin_1(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x010E], exif[0x013B] = "Füchse".encode("latin-1"), "Zoë".encode()
    data = encoded(picture(), "JPEG", exif=exif)
    assert _words(data, tmp_path).about == "Füchse\nZoë"


@pytest.mark.parametrize(
    "comment",
    [
        b"ASCII\0\0\0in the den",
        b"\0\0\0\0\0\0\0\0in the den",
        b"UNICODE\0" + "in the den".encode("utf-16-le"),
        b"UNICODE\0" + "in the den".encode("utf-16-be"),
        b"ASCII\0\0\0in the den" + bytes(200),
    ],
    ids=["ASCII", "undefined", "UTF-16, low byte first", "UTF-16, high byte first", "padded"],
)
def test_a_users_comment_is_read_by_its_code(comment: bytes, tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = comment
    assert _words(encoded(picture(), "JPEG", exif=exif), tmp_path).about == "in the den"


def test_a_camera_whose_clock_was_not_set_gives_no_date(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "0000:00:00 00:00:00"
    assert _words(encoded(picture(), "JPEG", exif=exif), tmp_path) == FileWords("", ())


IPTC = [(5, "Füchse"), (25, "fox"), (25, "forest"), (55, "20240315"), (90, "Oslo"), (101, "Norway"), (120, "A fox")]
OF_IPTC = "Füchse\nA fox\nfox forest\nOslo\nNorway\n2024-03-15 March 2024"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_iptc_of_a_jpeg_is_read(encoding: str, tmp_path: Path) -> None:
    data = jpeg_with_iptc(encoded(picture(), "JPEG"), iptc_block(*IPTC, encoding=encoding))
    assert _words(data, tmp_path) == FileWords(OF_IPTC, ())


@pytest.mark.parametrize(("type", "size"), [(7, 1), (4, 4)], ids=["bytes", "numbers of four bytes"])
def test_iptc_of_a_tiff_is_read_whatever_its_type(type: int, size: int, tmp_path: Path) -> None:
    block = iptc_block(*IPTC)
    block += b"\0" * (-len(block) % 4)
    tags = PIL.TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[33723] = 7
    tags[33723] = block
    written = struct.pack("<HHI", 33723, 7, len(block))
    data = encoded(picture(), "TIFF", tiffinfo=tags)
    assert data.count(written) == 1
    data = data.replace(written, struct.pack("<HHI", 33723, type, len(block) // size))
    assert _words(data, tmp_path) == FileWords(OF_IPTC, ())


XMP = xmp_packet(
    "<dc:title><rdf:Alt><rdf:li xml:lang='x-default'>Foxes</rdf:li><rdf:li xml:lang='en'>Foxes</rdf:li></rdf:Alt>"
    "</dc:title><dc:description>A fox in its den</dc:description>"
    "<dc:subject><rdf:Bag><rdf:li>fox</rdf:li><rdf:li>forest</rdf:li></rdf:Bag></dc:subject>",
    "photoshop:City='Oslo' photoshop:DateCreated='2024-03-15T06:30:00'",
)
OF_XMP = "Foxes\nA fox in its den\nfox forest\nOslo\n2024-03-15 March 2024"


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF"])
def test_xmp_is_read(format: str, tmp_path: Path) -> None:
    assert _words(encoded(picture(), format, xmp=XMP), tmp_path) == FileWords(OF_XMP, ())


def test_xmp_of_a_tiff_is_read(tmp_path: Path) -> None:
    assert _words(encoded(picture(), "TIFF", tiffinfo={700: XMP}), tmp_path) == FileWords(OF_XMP, ())


@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind them"])
def test_texts_of_a_png_are_read_wherever_they_stand(behind: bool, tmp_path: Path) -> None:
    chunks = [
        (b"tEXt", b"Title\0F\xfcchse"),
        (b"zTXt", b"Description\0\0" + zlib.compress(b"A fox in its den")),
        (b"iTXt", b"Comment\0\0\0de\0Kommentar\0" + "schöner Fuchs".encode()),
        (b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(b"a fox, oil on canvas")),
        (b"tEXt", b"Raw profile type exif\0\nexif\n 10\n00000000"),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        (b"eXIf", _exif().tobytes()),
    ]
    assert _words(png_with(encoded(picture()), *chunks, behind=behind), tmp_path) == FileWords(
        "Foxes\nA fox in its den\nfox forest\nOslo\nEin Fuchs\nFüchse\nfox;forest\nam Morgen\nCanon\nCanon EOS 5D\n"
        "schöner Fuchs\na fox, oil on canvas\n2024-03-15 March 2024",
        (),
    )


def test_the_resources_of_a_psd_are_read(tmp_path: Path) -> None:
    resources = b""
    for number, block in ((0x0404, iptc_block((101, "Norway"))), (0x0422, _exif().tobytes()[6:]), (0x0424, XMP)):
        resources += b"8BIM" + struct.pack(">HHI", number, 0, len(block)) + block + b"\0" * (len(block) % 2)
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 1, 1, 8, 3)
    data = header + struct.pack(">II", 0, len(resources)) + resources + struct.pack(">IH", 0, 0) + b"\0" * 3
    assert _words(data, tmp_path) == FileWords(
        "Foxes\nA fox in its den\nfox forest\nOslo\nNorway\nEin Fuchs\nFüchse\nfox;forest\nam Morgen\nCanon\n"
        "Canon EOS 5D\n2024-03-15 March 2024",
        (),
    )


def test_what_several_blocks_say_is_taken_once(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x010E] = "A fox in its den"
    data = jpeg_with_iptc(encoded(picture(), "JPEG", exif=exif, xmp=XMP), iptc_block((25, "fox"), (25, "forest")))
    assert _words(data, tmp_path) == FileWords(OF_XMP, ())


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "ICO", "TGA", "PPM"])
def test_a_picture_that_says_nothing_has_no_words(format: str, tmp_path: Path) -> None:
    assert _words(encoded(picture(), format), tmp_path) == FileWords("", ())


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({"exif": b"Exif\0\0not a TIFF at all"}, "its EXIF data are left out: not a TIFF file"),
        ({"xmp": b"no XML"}, "its XMP data are left out: its XMP is no XML: syntax error"),
        ({"xmp": b"<!DOCTYPE x []><x/>"}, "its XMP data are left out: its XMP declares a document type"),
    ],
    ids=["EXIF", "XMP", "entities"],
)
def test_a_damaged_block_costs_its_words_and_not_the_look(options: dict[str, bytes], note: str, tmp_path: Path) -> None:
    data = jpeg_with_iptc(encoded(picture(), "JPEG", **options), iptc_block((120, "A fox")))
    words = _words(data, tmp_path)
    assert (words.about, [one[: len(note)] for one in words.notes]) == ("A fox", [note])
    assert load_frames(Image(tmp_path / "a"), num_frames=1).images[0].size == (40, 30)


def test_a_text_of_a_png_that_is_damaged_or_too_large_is_a_note(tmp_path: Path) -> None:
    large = 5 << 20
    chunks = [(b"zTXt", b"Comment\0\0no zlib"), (b"tEXt", b"Author\0" + b"x" * large), (b"tEXt", b"Title\0Foxes")]
    words = _words(png_with(encoded(picture()), *chunks, behind=True), tmp_path)
    assert words.about == "Foxes"
    assert words.notes == (
        "the comment in it is left out: Error -3 while decompressing data: incorrect header check",
        "the author in it is left out: it has more than 4,194,304 bytes",
    )


def test_a_packed_text_of_a_png_is_unpacked_no_further_than_allowed(tmp_path: Path) -> None:
    bomb = zlib.compress(b"a " * (20 << 20), 9)
    assert len(bomb) < 100_000
    words = _words(png_with(encoded(picture()), (b"zTXt", b"Comment\0\0" + bomb), behind=True), tmp_path)
    assert words == FileWords("", (), ("the comment in it is left out: it has more than 4,194,304 bytes",))


def test_a_long_text_is_cut_with_a_note(tmp_path: Path) -> None:
    words = _words(png_with(encoded(picture()), (b"tEXt", b"Comment\0" + b"a " * 5001)), tmp_path)
    assert words == FileWords(
        ("a " * 5000).strip(), (), ("a text of 10,002 characters in its PNG data is cut to 10,000",)
    )


def test_many_packed_texts_are_unpacked_once_a_keyword(tmp_path: Path) -> None:
    packed = (b"zTXt", b"Comment\0\0" + zlib.compress(b"a " * (2 << 20), 9))
    start_s = time.process_time()
    words = _words(png_with(encoded(picture()), *[packed] * 1000, behind=True), tmp_path)
    assert words.about == ("a " * 5000).strip()
    assert time.process_time() - start_s < 2


@pytest.mark.parametrize("cut", range(20, 400, 20))
def test_a_block_that_is_cut_off_anywhere_raises_nothing(cut: int, tmp_path: Path) -> None:
    block = _exif().tobytes()
    words = _words(encoded(picture(), "JPEG", exif=block[:cut]), tmp_path)
    assert [line for line in words.about.split("\n") if not f"\n{OF_EXIF}".count(f"\n{line}")] == []


def test_a_picture_that_is_none_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="cannot be read as an image"):
        _words(b"no picture", tmp_path)
    with pytest.raises(LimitError, match="more than the 100 pixels allowed"):
        _words(png_header(20, 20), tmp_path, Limits(image_px=100))
