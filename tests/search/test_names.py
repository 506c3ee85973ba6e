"""The words of a path are those that a person who looks for the file may type."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm2vec.search.names import name_words


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("Photos/IMG_2031.jpg", "photos img 2031 jpg"),
        ("LadyBird", "ladybird lady bird"),
        ("LadyBird2", "ladybird2 ladybird 2 lady bird"),
        ("IMG2031.JPG", "img2031 img 2031 jpg"),
        ("XMLHttpRequest.txt", "xmlhttprequest xml http request txt"),
        ("2024-03-15 Anna's birthday (final).MOV", "2024 03 15 anna s birthday final mov"),
        ("S01E02", "s01e02 s 01 e 02"),
        ("café/Übersicht.pdf", "café übersicht pdf"),
        ("東京Tower写真.png", "東京tower写真 東京 tower 写真 png"),
        ("हिन्दी.txt", "हिन्दी txt"),
        ("03/2024-03-15", "03 2024 03 15"),
        ("f\udcfcr.txt", "f r txt"),
        (".../_-_", ""),
        ("", ""),
    ],
)
def test_the_words_of_a_path(path: str, words: str) -> None:
    assert name_words(path) == words


def test_decomposed_letters_give_the_same_words_as_composed_ones() -> None:
    assert name_words(unicodedata.normalize("NFD", "Grüße/Château.jpg")) == "grüße château jpg"


@given(st.text(st.characters(codec=None)))
def test_any_path_gives_words_of_letters_digits_and_marks_alone(path: str) -> None:
    words = name_words(path).split(" ") if name_words(path) else []
    assert all(word and all(unicodedata.category(one)[0] in "LNM" for one in word) for word in words)
    assert [word for word in words if word != unicodedata.normalize("NFC", word.lower())] == []


@given(st.text(st.characters(codec=None)))
def test_the_words_of_words_are_the_same_words(path: str) -> None:
    words = name_words(path)
    assert set(name_words(words).split()) == set(words.split())


@given(st.text(), st.text())
def test_a_path_has_the_words_of_its_folders_and_then_those_of_its_name(folder: str, name: str) -> None:
    assert name_words(f"{folder}/{name}") == " ".join(filter(None, [name_words(folder), name_words(name)]))
