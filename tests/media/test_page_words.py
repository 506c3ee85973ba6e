"""The words of a PDF are those that a person reads on its pages, page by page."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.bombs import pdf_bomb
from support.media_files import bare_pdf, encrypted_pdf, pdf
from support.places import ROOT
from support.word_files import text_pdf
from vlm2vec.errors import LimitError, MediaError
from vlm2vec.media import FileWords, Limits, PartWords
from vlm2vec.media.page_words import read_page_words


def test_every_page_has_its_words_and_the_headings_that_lead_to_it() -> None:
    document = text_pdf(
        ["First page\nof two", "Zweite Seite: Größe"],
        info={"Title": "Über Füchse", "Author": "A. Reader", "Subject": "", "Keywords": "fox, forest", "Creator": "No"},
        outline=[("1 Begin", 1), ("2 End", 2), ("2.1 Last – words", 2)],
    )
    assert read_page_words(document) == FileWords(
        "Über Füchse\nA. Reader\nfox, forest",
        (
            PartWords("First page\nof two", "1 Begin", page=1),
            PartWords("Zweite Seite: Größe", "2 End\n2.1 Last – words", page=2),
        ),
    )


def test_words_that_a_line_end_divides_are_joined_and_ligatures_come_apart() -> None:
    (page,) = read_page_words(text_pdf(["We \1nd infor-\nmation here"])).parts
    assert page.text == "We find information here"


@pytest.mark.parametrize(("lines", "text"), [("Jean-\nPaul", "Jean-Paul"), ("COVID-\n19", "COVID-19")])
def test_a_hyphen_before_a_capital_or_a_number_stays(lines: str, text: str) -> None:
    (page,) = read_page_words(text_pdf([lines])).parts
    assert page.text == text


def test_a_page_without_a_text_layer_is_a_part_without_words() -> None:
    assert read_page_words(pdf(["red", "lime"])) == FileWords("", (PartWords("", page=1), PartWords("", page=2)))


def test_text_outside_of_the_visible_part_of_a_page_is_not_taken() -> None:
    cropped = text_pdf(["Above\n\n\nBelow"]).replace(b"/MediaBox", b"/CropBox [0 690 612 792] /MediaBox")
    (page,) = read_page_words(cropped).parts
    assert page.text == "Above"


def test_text_is_taken_where_the_visible_part_lies_beside_the_page() -> None:
    cropped = text_pdf(["Above"]).replace(b"/MediaBox", b"/CropBox [700 700 800 800] /MediaBox")
    (page,) = read_page_words(cropped).parts
    assert page.text == "Above"


FORM = b"""%PDF-1.4
1 0 obj << /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [4 0 R 6 0 R 8 0 R] >> >> endobj
2 0 obj << /Type /Pages /Kids [3 0 R] /Count 1 >> endobj
3 0 obj << /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] /Annots [4 0 R 5 0 R 7 0 R 8 0 R 9 0 R] >> endobj
4 0 obj << /Type /Annot /Subtype /Widget /FT /Tx /T (Name) /V (Anna Fuchs) /Rect [10 200 200 220] >> endobj
5 0 obj << /Type /Annot /Subtype /Text /Contents (Please check) /Rect [10 100 30 120] >> endobj
6 0 obj << /FT /Tx /T (City) /V (Oslo) /Kids [7 0 R] >> endobj
7 0 obj << /Type /Annot /Subtype /Widget /Parent 6 0 R /Rect [10 230 200 250] >> endobj
8 0 obj << /Type /Annot /Subtype /Widget /FT /Btn /T (Married) /V /Yes /Rect [10 260 20 270] >> endobj
9 0 obj << /Type /Annot /Subtype /Link /Rect [10 280 20 290] >> endobj
trailer << /Root 1 0 R >>
%%EOF
"""


def test_what_is_filled_into_a_form_is_text_and_a_comment_is_about_its_page() -> None:
    assert read_page_words(FORM).parts == (PartWords("Anna Fuchs\nOslo", "Please check", page=1),)


def test_words_beyond_the_limit_are_left_out_with_a_note_that_says_where() -> None:
    document = text_pdf(["1234567890", "abcdefghij", "klmnopqrst"])
    assert read_page_words(document, Limits(text_chars=15)) == FileWords(
        "",
        (PartWords("1234567890", page=1), PartWords("abcde", page=2), PartWords("", page=3)),
        (
            "the words from page 2 on are left out: the file has more than the 15 characters of text allowed "
            "(Limits.text_chars)",
        ),
    )


def test_words_that_begin_at_the_limit_are_told_too() -> None:
    words = read_page_words(text_pdf(["12345", "", "6"]), Limits(text_chars=5))
    assert [part.text for part in words.parts] == ["12345", "", ""]
    assert [note.partition(":")[0] for note in words.notes] == ["the words from page 3 on are left out"]


def test_a_file_of_exactly_the_limit_is_whole() -> None:
    words = read_page_words(text_pdf(["1234567890", "abcde"]), Limits(text_chars=15))
    assert ([part.text for part in words.parts], words.notes) == (["1234567890", "abcde"], ())


def test_an_outline_that_is_a_circle_ends() -> None:
    document = text_pdf(["One"], outline=[("Again", 1)]).replace(b"/Parent 5 0 R", b"/Next 12 0 R /First 12 0 R")
    assert read_page_words(document).parts == (PartWords("One", "Again", page=1),)


def test_a_page_that_cannot_be_read_has_no_words_and_a_note() -> None:
    document = text_pdf(["One", "Two"]).replace(b"10 0 obj << /Type /Page ", b"10 0 obj << /Type /None ")
    words = read_page_words(document)
    assert words.parts == (PartWords("", page=1), PartWords("Two", page=2))
    assert [note.partition(":")[0] for note in words.notes] == ["page 1 has no words"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "it is empty"), (b"%PDF-1.4 no more", "damaged"), (encrypted_pdf(), "is encrypted")],
    ids=["empty", "damaged", "encrypted"],
)
def test_what_is_no_readable_pdf_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(MediaError, match=said):
        read_page_words(content)


def test_a_document_of_too_many_pages_is_refused() -> None:
    with pytest.raises(LimitError) as caught:
        read_page_words(document := pdf(["red", "lime"]), Limits(pages=1))
    assert str(caught.value) == f"<{len(document)} bytes> has 2 pages, more than the 1 allowed; split it into parts"


def test_pages_without_content_have_no_words() -> None:
    for document in (bare_pdf(), pdf_bomb(1000)):
        assert read_page_words(document) == FileWords("", (PartWords("", page=1),))


def test_the_words_of_real_pages_are_read_from_their_file(tmp_path: Path) -> None:
    words = read_page_words(ROOT / "samples" / "documents" / "debmake.pdf")
    assert len(words.parts) == 10
    assert "GNU Coding Standards and FHS, can be done with the debmake command" in words.parts[0].text
