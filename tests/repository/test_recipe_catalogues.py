"""What pictures are called: titles of drawings, names without spaces, and nouns of WordNet's files."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from support.scripts import script


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script(monkeypatch, "recipes/default/drawings.py")


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script(monkeypatch, "recipes/default/catalogue.py")


@pytest.fixture
def wordnet(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script(monkeypatch, "recipes/default/wordnet.py")


def _draw(path: Path, title: str, *tags: str, rights: str = "PublicDomain") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    items = "".join(f"<rdf:li>{tag}</rdf:li>" for tag in tags)
    path.write_text(f"<svg><dc:title>{title}</dc:title>{items}{rights}</svg>", "utf-8")


def test_a_drawing_has_its_title_in_plain_words_and_a_path_that_is_the_same_in_every_checkout(
    drawings: ModuleType, tmp_path: Path
) -> None:
    _draw(tmp_path / "animals" / "cat.svg", "Black_Cat 01 (clip art)", "Pet", "media", "hash#1")
    _draw(tmp_path / "other" / "cat.svg", "cat")
    _draw(tmp_path / "animals" / "gatto.svg", "un gatto nero")
    _draw(tmp_path / "animals" / "kept.svg", "cat", rights="")
    _draw(tmp_path / "shapes" / "box.svg", "box")
    _draw(tmp_path / "food" / "teapot_ganson.svg", "teapot")
    words = {"cat": 1.0, "box": 1.0, "teapot": 1.0}
    assert drawings.read_drawings(words, tmp_path) == [("animals/cat.svg", "black cat", ("pet",))]


def test_four_drawings_of_a_title_are_enough(drawings: ModuleType, tmp_path: Path) -> None:
    for number in range(6):
        _draw(tmp_path / f"{number}.svg", "cat")
    found = drawings.read_drawings({"cat": 1.0}, tmp_path)
    assert [drawing.file for drawing in found] == ["0.svg", "1.svg", "2.svg", "3.svg"]


def test_a_name_without_spaces_is_parted_into_few_known_words_or_is_none(catalogue: ModuleType) -> None:
    words = {"hot": 5.0, "dog": 5.0, "hotdog": 1.0, "air": 3.0, "plane": 3.0}
    # Two common words cost 2 * 4.6 - 10, the rare one 4.6 - 1.
    assert catalogue.part_words("hotdog", words) == "hot dog"
    assert catalogue.part_words("airplane12", words) == "air plane 12"
    assert catalogue.part_words("airship", words) == ""


def test_a_noun_has_the_words_gloss_and_kind_of_its_first_sense_and_the_counts_of_all(
    wordnet: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "data.noun").write_text(
        "  1 licence\n"
        '00000001 05 n 02 dog 0 domestic_dog 0 001 @ 00000002 n 0000 | a pet; "the dog barked"\n'
        "00000002 05 n 01 animal 0 000 | a living thing\n",
        "utf-8",
    )
    (tmp_path / "index.noun").write_text(
        "  1 licence\nanimal n 1 0 1 1 00000002\ndog n 2 1 @ 2 1 00000001 00000002\n", "utf-8"
    )
    (tmp_path / "cntlist.rev").write_text("dog%1:05:00:: 1 42\ndog%1:18:01:: 2 3\ndog%2:38:00:: 1 2\n", "utf-8")
    assert wordnet.read_nouns(tmp_path) == {
        "animal": wordnet.Noun("animal", (), "a living thing", "", 5, 0),
        "dog": wordnet.Noun("dog", ("domestic dog",), "a pet", "animal", 5, 45),
    }


def test_an_article_stands_before_one_thing_and_not_before_several(wordnet: ModuleType) -> None:
    names = ["dog", "owl", "scissors", "drinking glass", "bus"]
    assert [wordnet.with_article(name) for name in names] == [
        *("a dog", "an owl", "scissors", "a drinking glass", "a bus"),
    ]
