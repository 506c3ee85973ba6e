"""Texts: encodings, headings of four formats, tables, and what is no text."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlm2vec.errors import LimitError, MediaError
from vlm2vec.media import Limits
from vlm2vec.media.documents import read_document
from vlm2vec.media.documents.plain import decoded
from vlm2vec.media.words import FileWords, PartWords


def _read(folder: Path, name: str, content: str | bytes) -> FileWords:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_document(path)


def _parts(words: FileWords) -> list[tuple[str, str]]:
    return [(part.about, part.text) for part in words.parts]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "latin-1"])
def test_a_text_is_read_in_each_encoding(encoding: str) -> None:
    assert decoded("Größe café".encode(encoding), "a.txt") == "Größe café"


def test_bytes_that_windows_1252_lacks_are_read_as_latin_1() -> None:
    assert decoded(b"caf\xe9 \x81", "a.txt") == "café \x81"


def test_an_encoding_that_is_declared_is_used_where_it_fits() -> None:
    assert decoded("кот".encode("cp1251"), "a.html", "windows-1251") == "кот"
    assert decoded("кот".encode(), "a.html", "ascii") == "кот"
    assert decoded("кот".encode(), "a.html", "no-such-encoding") == "кот"


@pytest.mark.parametrize("data", [b"\x7fELF\0\0", b"\xff\xfea\0\0\0", b"\x93\x01\x02\x03 words", b"\x01\x02 words"])
def test_bytes_that_are_no_text_say_why(data: bytes) -> None:
    with pytest.raises(MediaError, match=r"^a\.txt is no text: it has control characters; check"):
        decoded(data, "a.txt")


@pytest.mark.parametrize("name", ["a.txt", "a.text", "a.TXT", "a.tex"])
def test_paragraphs_of_a_text_are_kept_with_their_lines(tmp_path: Path, name: str) -> None:
    words = _read(tmp_path, name, "One line\r\nand another\r\n \r\n# no heading\r\n")
    assert words == FileWords("", (PartWords("One line\nand another\n# no heading", page=1),))


@pytest.mark.parametrize("name", ["a.md", "a.markdown"])
def test_markdown_is_divided_at_its_headings(tmp_path: Path, name: str) -> None:
    text = """Before.

# First #
See [the harbour](http://a.b/c "t") and ![a crane](c.png).
<p align="center">Bold</p>
```sh
# no heading
```
Under
-----
Words.
"""
    assert _parts(_read(tmp_path, name, text)) == [
        ("", "Before."),
        ("First", "See the harbour and a crane.\nBold\n# no heading"),
        ("First\nUnder", "Words."),
    ]


def test_front_matter_describes_a_file_and_names_it(tmp_path: Path) -> None:
    words = _read(tmp_path, "a.md", "---\ntitle: 'Kites'\ntags: [wind]\n---\n# One\nThey fly.\n")
    assert words == FileWords("title: 'Kites'\ntags: [wind]", (PartWords("They fly.", "Kites\nOne", page=1),))


def test_a_rule_without_words_above_it_is_no_heading(tmp_path: Path) -> None:
    assert _parts(_read(tmp_path, "a.md", "one\n\n---\n\ntwo\n")) == [("", "one\n---\ntwo")]


def test_restructured_text_has_levels_in_the_order_of_its_signs(tmp_path: Path) -> None:
    text = "=====\nTitle\n=====\nIntro.\n\nPart\n~~~~\nWords.\n\nOther\n=====\nEnd.\n"
    assert _parts(_read(tmp_path, "a.rst", text)) == [
        ("Title", "Intro."),
        ("Title\nPart", "Words."),
        ("Other", "End."),
    ]


@pytest.mark.parametrize(("name", "mark"), [("a.adoc", "="), ("a.org", "*")])
def test_asciidoc_and_org_are_divided_at_their_headings(tmp_path: Path, name: str, mark: str) -> None:
    words = _read(tmp_path, name, f"{mark} One\na [b](c)\n{mark * 2} Deep\nd\n")
    assert _parts(words) == [("One", "a [b](c)"), ("One\nDeep", "d")]


def test_org_names_its_title_in_a_line_of_its_own(tmp_path: Path) -> None:
    assert _parts(_read(tmp_path, "a.org", "#+TITLE: Kites\n* One\na\n"))[-1] == ("Kites\nOne", "a")


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.tsv", "\t")])
def test_the_first_line_of_a_table_describes_its_rows(tmp_path: Path, name: str, mark: str) -> None:
    words = _read(tmp_path, name, f"day{mark}sum\n1{mark}2\n3{mark}4\n")
    assert _parts(words) == [(f"day{mark}sum".replace("\t", " "), f"1{mark}2\n3{mark}4".replace("\t", " "))]


def test_a_text_that_is_too_large_is_an_error_with_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"words " * 100)
    assert read_document(path, Limits(text_bytes=600)).parts
    with pytest.raises(LimitError, match=r"a\.txt has more than the 599 bytes of text allowed; split it into parts$"):
        read_document(path, Limits(text_bytes=599))


def test_an_empty_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"a\.txt cannot be read as a document: it is empty"):
        _read(tmp_path, "a.txt", "")
