"""What is kept out of training, by hash of names alone."""

from __future__ import annotations

from types import ModuleType

import pytest

from support.scripts import script


@pytest.fixture
def holdouts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script(monkeypatch, "recipes/default/holdouts.py")


def test_the_line_lies_where_it_lay_when_the_models_were_trained(holdouts: ModuleType) -> None:
    names = ["apple", "butterfly", "fireworks", "hedgehog", "kite", "mouse", "rings", "rocket", "teapot", "zebra"]
    assert [holdouts.bucket(name) for name in names] == [31, 72, 1, 88, 1, 36, 3, 99, 89, 11]
    assert (holdouts.HELD_SHARE, holdouts.HELD_RENDERER) == (12, "noto")


def test_a_held_concept_takes_its_variants_synonyms_and_captions_along(holdouts: ModuleType) -> None:
    held = holdouts.Holdouts(
        ["fireworks", "rings", "tiger"], things=["fireworks", "tiger"], synonyms={"rings": ("bands",)}
    )
    assert held.names == {"fireworks", "rings"}
    # Other spellings, variants and synonyms.
    assert all(map(held.holds, ("Fire works", "fireworks facing right", "bands", "fireworks: medium skin tone")))
    # Things are held inside of longer captions too, over several words and in the plural; names of no thing are not.
    assert held.mentions("a picture of fire works at night")
    assert held.holds("the fireworks")
    assert not held.mentions("some rings on a table")
    assert not any(map(held.holds, ("tiger", "a tiger in the grass")))
    held.hold(["tiger"])
    assert held.holds("tiger")


def test_gender_and_skin_tone_are_variants_of_one_concept(holdouts: ModuleType) -> None:
    assert holdouts.root("Woman with veil: dark skin tone") == "veil"
    assert holdouts.root("man in tuxedo") == holdouts.root("person in tuxedo") == "tuxedo"
    assert holdouts.root("kite") == "kite"
