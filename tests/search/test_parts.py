"""Which parts of a file are found by themselves, and with which words."""

from __future__ import annotations

from pathlib import Path

from support.index_folders import make_picture
from support.word_files import text_pdf, write_film
from vlm2vec import media
from vlm2vec.errors import MediaError
from vlm2vec.items import Image, Video
from vlm2vec.media.words import FileWords
from vlm2vec.search.parts import Part, read_parts
from vlm2vec.search.store import Words


def test_each_page_has_its_words_and_the_first_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(text_pdf(["One fox", "Two geese"], info={"Title": "Animals"}, outline=[("Birds", 2)]))
    assert read_parts(path, "pdf", media).parts == [
        Part("page", 1, None, Image(path, page=1), Words("One fox", "Animals")),
        Part("page", 2, None, Image(path, page=2), Words("Two geese", "Birds")),
    ]


def test_a_film_of_one_part_has_all_words_of_the_files_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_film(path, [(0, 1, "a hen")], codec="subrip")
    (tmp_path / "a.description").write_text("Life on a farm")
    [part] = read_parts(path, "video", media).parts
    assert (part.medium, part.words) == (Video(path), Words("a hen", "Life on a farm"))


def test_sections_of_a_document_have_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("# Foxes\n\nThey are red.\n\n# Geese\n\nThey are grey.\n")
    parts = read_parts(path, "document", media).parts
    assert [(part.kind, part.page, part.medium, part.words.text) for part in parts] == [
        ("text", 1, None, "They are red."),
        ("text", 2, None, "They are grey."),
    ]
    assert ["Foxes" in parts[0].words.about, "Geese" in parts[1].words.about] == [True, True]


def test_an_empty_document_is_found_by_its_name_or_refused_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n")
    assert [(part.kind, part.words) for part in read_parts(path, "document", media).parts] == [("text", Words())]


def test_a_picture_whose_words_cannot_be_read_is_one_part_with_the_reason(tmp_path: Path) -> None:
    path = make_picture(tmp_path / "a.png", 1)

    class Unreadable:
        """A decoder that finds no words."""

        resolve = staticmethod(media.resolve)

        def read_words(self, path: Path) -> FileWords:
            raise MediaError(f"{path} is damaged")

    found = read_parts(path, "image", Unreadable())  # type: ignore[arg-type]
    assert found == ([Part("image", None, None, Image(path), Words())], "is damaged")
