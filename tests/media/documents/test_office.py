"""Office files and books: each format's words, and what is damaged, encrypted or larger than it seems."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from support.document_files import (
    with_part,
    write_docx,
    write_epub,
    write_odp,
    write_ods,
    write_odt,
    write_pptx,
    write_xlsx,
    zipped,
)
from support.media_files import encoded, picture
from vlm2vec.errors import InputError, LimitError, MediaError
from vlm2vec.items import DOCUMENT_SUFFIXES
from vlm2vec.media import Limits, read_words
from vlm2vec.media.documents import READERS, read_document
from vlm2vec.media.sandbox import Sandbox
from vlm2vec.media.words import FileWords, PartWords

WRITERS: dict[str, Callable[[Path], Path]] = {
    ".docx": write_docx,
    ".pptx": write_pptx,
    ".xlsx": write_xlsx,
    ".odt": write_odt,
    ".odp": write_odp,
    ".ods": write_ods,
    ".epub": write_epub,
}
MAIN_PARTS = {
    ".docx": "word/document.xml",
    ".pptx": "ppt/slides/slide1.xml",
    ".xlsx": "xl/worksheets/sheet1.xml",
    ".odt": "content.xml",
    ".odp": "content.xml",
    ".ods": "content.xml",
    ".epub": "OEBPS/book.opf",
}
ALL = pytest.mark.parametrize("suffix", WRITERS)


def _written(suffix: str, folder: Path) -> Path:
    return WRITERS[suffix](folder / f"a{suffix}")


def test_every_ending_of_a_document_has_a_reader() -> None:
    assert READERS.keys() == DOCUMENT_SUFFIXES


def test_a_docx_is_divided_at_its_headings(tmp_path: Path) -> None:
    assert read_document(write_docx(tmp_path / "a.docx")) == FileWords(
        "Harbour report\nharbour, cranes\nAda Writer\n2024-03-05 March 2024",
        (
            PartWords("Cranes move\nboxes.", "Harbour report\nSummary", page=1),
            PartWords("crane\n900\nboat\n70", "Harbour report\nSummary\nCosts", page=2),
            PartWords("More boxes are expected.", "Harbour report\nOutlook", page=3),
            PartWords("By whom?", "Harbour report", page=4),
        ),
    )


def test_text_of_a_docx_that_is_deleted_or_there_twice_is_left_out(tmp_path: Path) -> None:
    content = (
        '<w:document xmlns:w="w" xmlns:mc="mc"><w:body><w:p><w:r><w:t>kept</w:t></w:r><w:del><w:r><w:delText>gone'
        "</w:delText></w:r></w:del><mc:AlternateContent><mc:Choice><w:p><w:r><w:t>box</w:t></w:r></w:p></mc:Choice>"
        "<mc:Fallback><w:p><w:r><w:t>box</w:t></w:r></w:p></mc:Fallback></mc:AlternateContent>"
        "<w:r><w:t> too</w:t></w:r></w:p></w:body></w:document>"
    )
    path = with_part(write_docx(tmp_path / "a.docx"), "word/document.xml", content)
    assert read_document(path).parts[0] == PartWords("box\nkept too", page=1)


def test_a_pptx_is_one_part_a_slide_with_its_notes(tmp_path: Path) -> None:
    assert read_document(write_pptx(tmp_path / "a.pptx")) == FileWords(
        "Sailing\nAda Speaker\n2023-01-02 January 2023",
        (
            PartWords(
                "Sails\nabout Sails\nand more\nin a table\nKnots\nEast\nWest",
                "Sailing\nSails\nsay Sails slowly",
                page=1,
            ),
            PartWords("Winds\nabout Winds\nand more", "Sailing\nWinds\nsay Winds slowly", page=2),
        ),
    )


def test_an_xlsx_is_one_part_a_sheet_with_dates_as_days(tmp_path: Path) -> None:
    assert read_document(write_xlsx(tmp_path / "a.xlsx")) == FileWords(
        "Accounts\n2022-05-06 May 2022",
        (
            PartWords("day sum\n2024-03-05 0.3\n2024-03-05 12:30 08:15\nTRUE", "Accounts\nBank", page=1),
            PartWords("", "Accounts\nEmpty", page=2),
        ),
    )


def test_cells_of_every_kind_are_read(tmp_path: Path) -> None:
    content = (
        '<worksheet><sheetData><row><c t="inlineStr"><is><r><t>in </t></r><r><t>line</t></r><rPh><t>no</t></rPh></is>'
        '</c><c t="str"><f>A1</f><v>formula</v></c><c t="e"><v>#N/A</v></c><c t="s"><v>99999</v></c><c><v>1E3</v></c>'
        '<c s="99999"><v>2</v></c><c t="d"><v>2024-03-05</v></c><c/></row></sheetData></worksheet>'
    )
    path = with_part(write_xlsx(tmp_path / "a.xlsx"), "xl/worksheets/sheet1.xml", content)
    assert read_document(path).parts[0].text == "in line formula #N/A 1000 2 2024-03-05"


def test_an_odt_is_divided_at_its_headings(tmp_path: Path) -> None:
    assert read_document(write_odt(tmp_path / "a.odt")) == FileWords(
        "Garden letter",
        (
            PartWords("In May.\nReally?\nRoses and tulips\ngrow.", "Garden letter\nPlants", page=1),
            PartWords("One oak.", "Garden letter\nPlants\nTrees", page=2),
        ),
    )


def test_an_odp_is_one_part_a_slide_with_its_notes(tmp_path: Path) -> None:
    assert read_document(write_odp(tmp_path / "a.odp")) == FileWords(
        "", (PartWords("Kites\nThey fly.", "Kites\nsay it loudly", page=1), PartWords("They land.", page=2))
    )


def test_an_ods_is_one_part_a_sheet_as_it_is_shown(tmp_path: Path) -> None:
    assert read_document(write_ods(tmp_path / "a.ods")) == FileWords("", (PartWords("apples 1,200", "Stock", page=1),))


def test_an_epub_is_read_in_the_order_of_its_chapters(tmp_path: Path) -> None:
    assert read_document(write_epub(tmp_path / "a.epub")) == FileWords(
        "The Whale\nH. M.\n1851-10-18 October 1851",
        (
            PartWords("Call me & Ishmael.", "The Whale\nLoomings", page=1),
            PartWords("No heading here.", "The Whale", page=2),
        ),
    )


@ALL
def test_a_file_that_is_something_else_is_a_media_error_that_names_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    for content in (b"", b"words", encoded(picture()), b"PK\x03\x04" + b"\0" * 30):
        path.write_bytes(content)
        with pytest.raises(MediaError, match=rf"a\{suffix} cannot be read as a document"):
            read_document(path)
    with pytest.raises(MediaError, match=rf"a\{suffix} cannot be read as a document: .*; check"):
        read_document(zipped(path, {"a.txt": "words"}))


@ALL
def test_a_part_that_is_cut_off_is_a_media_error(tmp_path: Path, suffix: str) -> None:
    path = with_part(_written(suffix, tmp_path), MAIN_PARTS[suffix], "<a><b>")
    with pytest.raises(MediaError, match=r"no element found: line 1, column 6; check that the file is whole"):
        read_document(path)


@ALL
def test_a_file_that_declares_entities_is_refused(tmp_path: Path, suffix: str) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><a>&b;</a>'
    outside = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><a>&a;</a>'
    for content in (bomb, outside):
        path = with_part(_written(suffix, tmp_path), MAIN_PARTS[suffix], content)
        with pytest.raises(MediaError, match=r"it declares the XML entity 'a'"):
            read_document(path)


@ALL
def test_a_document_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path: Path, suffix: str) -> None:
    bomb = b"<a>" + b" " * 10_000_000 + b"</a>"
    path = with_part(_written(suffix, tmp_path), MAIN_PARTS[suffix], bomb)
    assert path.stat().st_size < 100_000
    with pytest.raises(LimitError, match=r"has more than the 1,000,000 bytes of text allowed"):
        read_document(path, Limits(text_bytes=1_000_000))


def test_a_part_that_holds_more_than_it_says_is_damaged(tmp_path: Path) -> None:
    path = with_part(write_odt(tmp_path / "a.odt"), "content.xml", b"<a>" + b" " * 5_000 + b"</a>")
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", 5_007), struct.pack("<I", 7)))
    with pytest.raises(MediaError, match=r"Bad CRC-32 for file 'content\.xml'"):
        read_document(path)


def test_an_encrypted_document_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 512)
    odt = with_part(write_odt(tmp_path / "a.odt"), "META-INF/manifest.xml", "<manifest:encryption-data/>")
    for path in (tmp_path / "a.docx", odt):
        with pytest.raises(MediaError, match="is encrypted"):
            read_document(path)
    data = bytearray(write_epub(tmp_path / "a.epub").read_bytes())
    at = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    data[at + 8] |= 1
    (tmp_path / "a.epub").write_bytes(data)
    with pytest.raises(MediaError, match="is encrypted; save a copy without a password"):
        read_document(tmp_path / "a.epub")


@pytest.mark.parametrize("suffix", [".pptx", ".xlsx", ".odp"])
def test_more_slides_or_sheets_than_allowed_are_an_error(tmp_path: Path, suffix: str) -> None:
    path = _written(suffix, tmp_path)
    assert len(read_document(path, Limits(pages=2)).parts) == 2
    with pytest.raises(LimitError, match=r"has more than the 1 (slides|sheets) allowed; split it into parts$"):
        read_document(path, Limits(pages=1))


def test_elements_may_lie_a_hundred_thousand_deep(tmp_path: Path) -> None:
    deep = "<b>" * 100_000 + "<p>word</p>" + "</b>" * 100_000
    for suffix in (".odt", ".docx"):
        path = with_part(
            _written(suffix, tmp_path), MAIN_PARTS[suffix], f"<a>{deep}</a>".replace("word", "<t>word</t>")
        )
        assert read_document(path).parts[0].text == "word"


def test_an_ending_that_is_no_document_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the ending '\.png' is none of a document"):
        read_document(tmp_path / "a.png")


def test_words_beyond_the_limit_are_left_out_and_told(tmp_path: Path) -> None:
    words = read_document(write_pptx(tmp_path / "a.pptx"), Limits(text_chars=100))
    assert [part.page for part in words.parts] == [1]
    assert words.notes == (
        "the words from section 2 on are left out: the file has more than the 100 characters of text allowed "
        "(Limits.text_chars)",
    )


def test_a_sandbox_reads_documents_in_a_worker(tmp_path: Path) -> None:
    path = write_docx(tmp_path / "a.docx")
    with Sandbox() as sandbox:
        assert sandbox.read_words(path) == read_words(path) == read_document(path)
