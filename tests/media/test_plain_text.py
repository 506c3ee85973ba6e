"""Text out of files becomes text that is searched and shown, and loses no letter on the way."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm2vec.media.plain_text import date_words, decoded_text, joined, plain


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Größe €".encode(), "Größe €"),
        ("Größe €".encode("utf-8-sig"), "Größe €"),
        ("Größe €".encode("utf-16"), "Größe €"),
        (b"\xfe\xff" + "Größe €".encode("utf-16-be"), "Größe €"),
        ("Größe €".encode("utf-32"), "Größe €"),
        ("Größe €".encode("cp1252"), "Größe €"),
        (b"caf\xe9\x81", "café\x81"),
        (b"", ""),
    ],
    ids=["UTF-8", "with a mark", "UTF-16", "UTF-16, high byte first", "UTF-32", "Windows", "Latin-1", "nothing"],
)
def test_the_text_of_bytes(data: bytes, text: str) -> None:
    assert decoded_text(data) == text


@given(st.binary())
def test_any_bytes_have_a_text(data: bytes) -> None:
    assert isinstance(decoded_text(data), str)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a  b \t c ", "a b c"),
        ("a\r\nb\rc\fd", "a\nb\nc\nd"),
        ("a\n \n\n\n b", "a\n\nb"),
        ("\ufb01nd o\ufb03ce", "find office"),
        ("infor\u00admation\u200b", "information"),
        ("a\x00b\x1bc", "a b c"),
        ("a\ue000b\ud800c", "a b c"),
        ("n\u0303", "ñ"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("\ufeff\u202bא\u202c", "א"),
        ("x² ①", "x² ①"),
    ],
)
def test_text_is_shown_without_what_nobody_reads(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(st.text(st.characters(codec=None)))
def test_plain_text_is_plain(text: str) -> None:
    shown = plain(text)
    assert plain(shown) == shown
    assert {unicodedata.category(letter) for letter in shown if letter != "\n"}.isdisjoint({"Cc", "Cs", "Cn", "Co"})


@given(st.text())
def test_no_letter_or_digit_is_lost(text: str) -> None:
    def kept(one: str) -> str:
        return "".join(letter for letter in unicodedata.normalize("NFKC", one) if letter.isalnum())

    assert kept(plain(text)) == kept(text)


@pytest.mark.parametrize(
    ("stamp", "words"),
    [
        ("2024:03:15 10:11:12", "2024-03-15 March 2024"),
        ("2024-03-15T10:11:12.000000Z", "2024-03-15 March 2024"),
        ("20240315", "2024-03-15 March 2024"),
        ("taken on 1999/12/31", "1999-12-31 December 1999"),
        ("0000:00:00 00:00:00", ""),
        ("2024-13-01", ""),
        ("2024-3-15", ""),
        ("202403151011", ""),
        ("2024", ""),
        ("", ""),
    ],
)
def test_the_day_in_a_time_stamp(stamp: str, words: str) -> None:
    assert date_words(stamp) == words


def test_texts_are_joined_once_each() -> None:
    assert joined("a  b", "", "c", "a b", " ") == "a b\nc"
