"""Documents are divided at headings and by length, and nothing of them is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm2vec.errors import LimitError
from vlm2vec.media import Limits
from vlm2vec.media.documents.sections import SECTION_LETTERS, SECTION_WORDS, Block, sections
from vlm2vec.media.source import DEFAULT_LIMITS
from vlm2vec.media.words import PartWords


def _sections(*blocks: Block | str, title: str = "") -> list[PartWords]:
    whole = [Block(block) if isinstance(block, str) else block for block in blocks]
    return list(sections(whole, DEFAULT_LIMITS, "a.txt", title))


def test_a_heading_begins_a_section_and_describes_those_below_it() -> None:
    found = _sections("before", Block("One", 1), "a", "b", Block("Deep\n er", 2), "c", Block("Two", 1), "d", title="T")
    assert found == [
        PartWords("before", "T", page=1),
        PartWords("a\nb", "T\nOne", page=2),
        PartWords("c", "T\nOne\nDeep er", page=3),
        PartWords("d", "T\nTwo", page=4),
    ]


def test_a_heading_with_nothing_below_it_is_a_section_of_its_own() -> None:
    found = _sections(Block("One", 1), Block("Two", 1), Block("Deep", 2), Block("Last", 1))
    assert [part.about for part in found] == ["One", "Two\nDeep", "Last"]
    assert {part.text for part in found} == {""}


def test_a_heading_without_words_ends_what_is_before_it() -> None:
    found = _sections(Block("One", 1), "a", Block("", 1), "b", Block(" ", 1))
    assert [(part.text, part.about) for part in found] == [("a", "One"), ("b", "")]


def test_the_title_is_not_said_twice() -> None:
    assert _sections(Block("Kites", 1), "They fly.", title="Kites") == [PartWords("They fly.", "Kites", page=1)]


def test_a_document_without_words_has_no_sections() -> None:
    assert _sections("", " \n", title="T") == []


def test_a_paragraph_that_does_not_fit_any_more_begins_a_section() -> None:
    half = "word " * (SECTION_WORDS // 2)
    assert [len(part.text.split()) for part in _sections(half, half, "more", half)] == [400, 201]


def test_a_long_paragraph_is_cut_at_the_ends_of_sentences() -> None:
    sentence = "It is " + "so " * 97 + "long."
    found = _sections(" ".join([sentence] * 5))
    assert [part.text for part in found] == [" ".join([sentence] * 3), " ".join([sentence] * 2)]


def test_a_script_without_blanks_is_cut_after_its_full_stops() -> None:
    sentence = "風" * 999 + "。"
    assert [part.text for part in _sections(sentence * 5)] == [sentence * 2, f"{sentence * 2}\n{sentence}"]


@given(st.lists(st.text("ab .。\n", max_size=5_000).map(Block), max_size=3))
def test_no_section_is_too_long_and_no_letter_is_lost(blocks: list[Block]) -> None:
    found = _sections(*blocks)
    assert all(len(part.text.split()) <= SECTION_WORDS for part in found)
    # With the line ends between its paragraphs.
    assert all(len(part.text) <= SECTION_LETTERS + part.text.count("\n") for part in found)
    assert "".join("".join(part.text.split()) for part in found) == "".join("".join(one.text.split()) for one in blocks)
    assert [part.page for part in found] == list(range(1, len(found) + 1))


def test_more_sections_than_allowed_are_an_error_that_names_the_file() -> None:
    blocks = [Block(str(number), 1) for number in range(3)]
    assert len(sections(blocks, Limits(sections=3), "a.md")) == 3
    with pytest.raises(LimitError, match=r"^a\.md has more than the 2 sections allowed; split it into parts$"):
        sections(blocks, Limits(sections=2), "a.md")
