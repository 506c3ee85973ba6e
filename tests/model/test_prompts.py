"""How each style writes an item down."""

from __future__ import annotations

import re

import pytest

from vlm2vec.errors import InputError, StyleError
from vlm2vec.items import Image, Item, Video
from vlm2vec.model.prompts import STYLES, prompt_style

PICTURE, CLIP = Image(b"p"), Video(b"v")
PUBLISHED, OWN = STYLES["vlm2vec"], STYLES["qwen2-vl"]


@pytest.mark.parametrize(
    ("item", "instruction", "published", "own"),
    [
        (Item("a cat"), None, "a cat", "a cat"),
        (Item("a cat"), "Find:", "Find: a cat", "Find: a cat"),
        (Item("a cat"), "", " a cat", "a cat"),
        (Item(media=(PICTURE,)), None, "<|media|>", "<|media|>"),
        (Item(media=(PICTURE,)), "", "<|media|> ", "<|media|>"),
        (Item(media=(PICTURE,)), "Represent.", "<|media|> Represent.", "<|media|>Represent."),
        (Item("why?", (CLIP,)), "Answer:", "<|media|> Answer: why?", "<|media|>Answer: why?"),
        (Item("compare", (PICTURE, PICTURE)), None, "<|media|> <|media|> compare", "<|media|><|media|>compare"),
        (Item("see <|media|>", (PICTURE,)), "Find:", "see <|media|>", "Find: see <|media|>"),
        (Item("T", (PICTURE,), "I", "<|media|>\nwhole\n"), "I", "<|media|>\nwhole\n", "<|media|>I T"),
    ],
)
def test_composition(item: Item, instruction: str | None, published: str, own: str) -> None:
    assert (PUBLISHED.compose(item, instruction), OWN.compose(item, instruction)) == (published, own)


@pytest.mark.parametrize("style", [PUBLISHED, OWN])
@pytest.mark.parametrize(
    ("item", "message"),
    [
        (Item(), "an item with neither text nor media"),
        (Item(instruction="Find:"), "an item with neither text nor media"),
        (Item("<|media|> a"), "1 <|media|> marker(s) but 0 media in '<|media|> a'"),
        (Item("<|media|> a", (PICTURE, CLIP)), "1 <|media|> marker(s) but 2 media in '<|media|> a'"),
        (Item("<|media|><|media|>", (PICTURE,)), "2 <|media|> marker(s) but 1 media"),
    ],
)
def test_what_cannot_be_written_down_is_refused(style: object, item: Item, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        style.compose(item)  # type: ignore[attr-defined]


def test_default_instructions_depend_on_role_kind_and_target() -> None:
    assert PUBLISHED.instruction("query", "text", "page") == "Find a document image that matches the given query:"
    assert PUBLISHED.instruction("query", "text") == "Find me an everyday image that matches the given caption."
    assert PUBLISHED.instruction("document", "video") == "Understand the content of the provided video."
    assert PUBLISHED.instruction("document", "text") is None


def test_an_unknown_style_is_an_error_that_lists_the_styles() -> None:
    with pytest.raises(StyleError, match="no prompt style named 'clip'; there are: qwen2-vl, vlm2vec"):
        prompt_style("clip")
