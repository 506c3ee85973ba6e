"""Which words of a question count."""

from __future__ import annotations

import pytest

from vlm2vec.search.store import Wanted
from vlm2vec.search.telling import telling


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (("the", "face", "of", "a", "tabby", "cat"), ("face", "tabby", "cat")),
        (("Where", "Is", "The", "invoice"), ("invoice",)),
        (("to", "be", "or", "not", "to", "be"), ("to", "be", "or", "not", "to", "be")),
        (("May", "can", "will"), ("May", "can", "will")),
        ((), ()),
    ],
)
def test_words_that_any_sentence_has_count_only_if_there_are_no_others(
    words: tuple[str, ...], left: tuple[str, ...]
) -> None:
    assert telling(Wanted(words)) == Wanted(left)


def test_what_is_in_quotes_and_what_must_not_be_there_stays() -> None:
    wanted = Wanted(("the",), ("to be or not",), ("of",))
    assert telling(wanted) == Wanted((), ("to be or not",), ("of",))
