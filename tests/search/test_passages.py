"""A text is divided into pieces that a model can read, and none of its words is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vlm2vec.search.passages import PASSAGE_WORDS, split_passages


def _sentence(num_words: int, word: str = "word") -> str:
    return " ".join([word] * num_words) + "."


def test_a_short_text_is_one_piece_with_its_title_in_front() -> None:
    assert split_passages("The fox jumps.\nIt lands.\n", " Of foxes ") == ["Of foxes\nThe fox jumps.\nIt lands."]


def test_a_title_without_a_text_is_a_piece() -> None:
    assert split_passages("", "Of foxes") == ["Of foxes"]


def test_nothing_gives_no_piece() -> None:
    assert split_passages(" \n", " ") == []


def test_pieces_are_of_about_equal_length_and_end_with_sentences() -> None:
    text = " ".join([_sentence(70), _sentence(30), _sentence(20), _sentence(90)])
    assert split_passages(text) == [" ".join([_sentence(70), _sentence(30)]), " ".join([_sentence(20), _sentence(90)])]


def test_a_line_ends_a_piece_where_no_sentence_does() -> None:
    assert split_passages("to be\n" * 150) == [("to be\n" * 75).strip()] * 2


def test_a_text_without_sentences_and_lines_is_divided_between_words() -> None:
    assert split_passages("word " * 300) == [("word " * 150).strip()] * 2


def test_a_sentence_may_end_with_a_quote_or_a_bracket() -> None:
    said = _sentence(110, "say")[:-1]
    assert split_passages(f"({said}!”) {_sentence(110)}") == [f"({said}!”)", _sentence(110)]


def test_each_letter_counts_in_scripts_without_blanks() -> None:
    text = "世界。" * 150
    assert split_passages(text) == ["世界。" * 50] * 3


def test_pieces_of_numbers_alone_are_left_out() -> None:
    assert split_passages("1 2,5 3 % 4\n" * 40 + _sentence(200)) == [_sentence(200)]


def test_no_text_has_more_pieces_than_allowed() -> None:
    assert split_passages(" ".join(_sentence(20, f"no{number}") for number in range(600))) == [
        " ".join(_sentence(20, f"no{number}") for number in range(first, first + 10)) for first in range(0, 500, 10)
    ]


@given(
    st.lists(st.sampled_from(["ab", "cd.", "ef!”", "gh\n", "世界。"]), max_size=1000), st.sampled_from(["", "Of foxes"])
)
def test_all_words_stay_in_order_and_no_piece_is_too_long(words: list[str], about: str) -> None:
    text = " ".join(words)
    pieces = split_passages(text, about)
    assert "".join("".join(pieces).split()) == "".join(f"{about}{text}".split())
    assert [piece for piece in pieces if len(piece.split()) > PASSAGE_WORDS or piece != piece.strip()] == []
