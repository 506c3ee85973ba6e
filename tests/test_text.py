"""How values, names and tables are put into words."""

from __future__ import annotations

import pytest

from vlm2vec.text import aligned, counted, did_you_mean, markdown, printable, shortened


def test_letters_that_are_no_text_or_steer_a_terminal_are_replaced() -> None:
    assert printable("größe\x1b[31m\udcff\n") == "größe\ufffd[31m\ufffd\ufffd"


def test_a_long_value_is_cut_as_it_is_written_in_python() -> None:
    assert shortened("a'b") == '"a\'b"'
    assert shortened("x" * 100, limit=10) == "'xxxxxxxx…"
    assert len(shortened(list(range(1000)), limit=20)) == 20


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ImageNet", "; did you mean 'ImageNet-1K'?"),
        ("imagenet-r", "; did you mean 'ImageNet-R'?"),
        ("MSVP", "; did you mean 'MSVD'?"),
        ("", ""),
        ("nothing like it", ""),
    ],
)
def test_the_most_similar_name_is_offered_first_one_that_begins_so(name: str, said: str) -> None:
    assert did_you_mean(name, ["ImageNet-1K", "ImageNet-R", "MSVD"]) == said


def test_a_number_comes_with_its_noun() -> None:
    said = [counted(1, "file"), counted(1200, "file"), counted(0, "entry", "entries")]
    assert said == ["1 file", "1,200 files", "0 entries"]


def test_names_stand_to_the_left_and_numbers_to_the_right() -> None:
    table = [["name", "kind", "n"], ["a", "image", "12"], ["longer", "page", ""]]
    assert aligned(table) == "name     kind   n\na       image  12\nlonger   page"
    assert aligned(table, num_left=2) == "name    kind    n\na       image  12\nlonger  page"


def test_a_table_in_markdown_has_a_head() -> None:
    assert markdown([["a", "b"], ["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"
