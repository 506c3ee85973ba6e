"""What a question is taken for: words, phrases, and operators that say where to look."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm2vec.errors import InputError
from vlm2vec.search.language import parse_date, parse_question, since, until
from vlm2vec.search.store import ANYTHING, Filter, Wanted

_OPERATORS = st.sampled_from([
    "kind:page", "kind:", "in:a", 'in:"two words', 'in:"two words"', "in:..", "after:2024", "before:2024-13",
    "type:jpg,", "-", "--", '"', "“", "”", "-a", '-"b c"', "http://x", "\x00", "\ud800", "(", "°", "数学",
])  # fmt: skip
_QUESTIONS = st.lists(st.one_of(_OPERATORS, st.text(max_size=8))).map(" ".join) | st.text()


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def _time(*of_day: int) -> float:
    return datetime(*of_day, tzinfo=timezone(timedelta(hours=1))).timestamp()  # type: ignore[arg-type,misc]


# Words


def test_a_question_of_words_alone_is_asked_as_it_was_typed() -> None:
    parsed = parse_question("  A dog,\non the beach?  ")
    assert parsed.text == "  A dog,\non the beach?  "
    assert parsed.wanted == Wanted(("A", "dog", "on", "the", "beach"))
    assert parsed.where == ANYTHING
    assert parsed.understood == "words: A dog on the beach"
    assert parsed.plain


def test_everything_that_an_operator_says_is_understood_at_once() -> None:
    question = 'invoice "annual report" -draft -"first try" kind:page in:Invoices type:pdf march'
    parsed = parse_question(question)
    assert parsed.text == "invoice annual report march"
    assert parsed.wanted == Wanted(("invoice", "march"), ("annual report",), ("draft", "first try"))
    assert parsed.where == Filter(frozenset({"page"}), "Invoices", types=frozenset({".pdf"}))
    assert parsed.understood == (
        'words: invoice march "annual report"; without: draft "first try"; pages; in Invoices; type: .pdf'
    )
    assert not parsed.plain


@pytest.mark.parametrize(
    "question",
    [
        "http://x", "12:30", "C:", r"C:\in", "kind:", "in: the box", "type :jpg", "--all", "- draft", "well-known",
        "5-3", '19" monitor', "(-5)", "Inside:out", "->", "size:large", "don't",
    ],
)  # fmt: skip
def test_what_only_looks_like_an_operator_is_words(question: str) -> None:
    parsed = parse_question(question)
    assert (parsed.text, parsed.where, parsed.wanted.phrases, parsed.wanted.without) == (question, ANYTHING, (), ())
    assert parsed.plain


def test_words_are_wanted_without_the_punctuation_around_them_and_once() -> None:
    wanted = parse_question("(What is) C++, “what” C#? ... IMG_2031.jpg don't it's_ हिन्दी!").wanted
    assert wanted == Wanted(("What", "is", "C", "IMG_2031.jpg", "don't", "it's", "हिन्दी"), ("what",))


def test_a_quote_without_a_second_one_is_no_error() -> None:
    parsed = parse_question('"annual report -draft')
    assert parsed.wanted == Wanted(("annual", "report"), (), ("draft",))
    assert parsed.text == '"annual report'


def test_words_stand_beside_a_phrase_without_a_space_between_them() -> None:
    assert parse_question('"a  b"c "" "?!" d').wanted == Wanted(("c", "d"), ("a b",))


@pytest.mark.parametrize("question", ["", "  \n", "?!", "kind:page", "-draft", 'in:"a b" -"c d"'])
def test_a_question_may_have_no_words(question: str) -> None:
    assert parse_question(question).wanted.words == ()
    assert parse_question(question).wanted.phrases == ()


@given(_QUESTIONS)
def test_no_question_raises_and_nothing_is_made_up(question: str) -> None:
    parsed = parse_question(question)
    said = [*parsed.wanted.words, *parsed.wanted.phrases, *parsed.wanted.without]
    assert all(word in " ".join(question.split()) for word in said)
    assert "\n" not in parsed.understood
    assert parsed.text == question or not parsed.plain


# Operators


def test_several_operators_of_one_kind_let_more_through_and_several_dates_less() -> None:
    several = "kind:page in:b kind:images type:jpg,png in:a type:.HEIC after:2020 after:2021 before:2024 before:2023"
    where = parse_question(several).where
    assert where.kinds == {"page", "image"}
    assert where.under == ("a", "b")
    assert where.types == {".jpg", ".png", ".heic"}
    assert (where.since, where.until) == (since(ANYTHING, "2021").since, until(ANYTHING, "2023").until)


def test_operators_add_to_what_holds_besides() -> None:
    parsed = parse_question("KIND:Video x", Filter(frozenset({"page"}), "a"))
    assert parsed.where == Filter(frozenset({"page", "video"}), "a")
    assert parsed.understood == "words: x; videos or pages; in a"
    assert parse_question("x", Filter(under="a")).plain
    assert parse_question("x in:a", Filter(under="a")).text == "x"


@pytest.mark.parametrize(
    ("question", "word", "why"),
    [
        ("kind:song", "kind:song", "'song' is none of text, image, video, page"),
        ("after:soon", "after:soon", "'soon' is no date such as 2024, 2024-03 or 2024-03-15"),
        ("after:2024-02-30", "after:2024-02-30", "'2024-02-30' is no date such as 2024, 2024-03 or 2024-03-15"),
        ("before:9999", "before:9999", "'9999' is no date such as 2024, 2024-03 or 2024-03-15"),
        ("in:../x", "in:../x", "'../x' is no folder inside the indexed one"),
        ("in:/home", "in:/home", "'/home' is no folder inside the indexed one"),
        ("type:*", "type", "'*' is no ending of file names such as jpg"),
    ],
)
def test_an_operator_whose_value_makes_no_sense_is_a_word_and_that_is_told(question: str, word: str, why: str) -> None:
    parsed = parse_question(f"dog {question}")
    assert (parsed.wanted, parsed.where) == (Wanted(("dog", word)), ANYTHING)
    assert parsed.understood == f"words: dog {word}; {question} is a word, because {why}"
    assert parsed.text == f"dog {question}"
    assert not parsed.plain


def test_the_punctuation_of_a_sentence_belongs_to_no_operator() -> None:
    assert parse_question("pages in:Invoices, kind:page; x").where == Filter(frozenset({"page"}), "Invoices")


# Dates


@pytest.mark.usefixtures("in_berlin")
@pytest.mark.parametrize(
    ("date", "begins"),
    [("2024", (2024, 1, 1)), ("2024-03", (2024, 3, 1)), ("2024-3-5", (2024, 3, 5)), ("2024-02-29", (2024, 2, 29))],
)
def test_a_date_is_the_beginning_of_its_day_month_or_year_in_local_time(date: str, begins: tuple[int, ...]) -> None:
    assert parse_date(date) == _time(*begins)


@pytest.mark.usefixtures("in_berlin")
def test_after_has_the_moment_when_its_date_begins_and_before_has_not() -> None:
    where = parse_question("after:2024-03 before:2024-03-02").where
    first, end = _time(2024, 3, 1), _time(2024, 3, 2)
    assert where.since == first
    assert where.until is not None
    # A nanosecond is as near as files are told apart; a float has some 240 of them here.
    assert end - 1e-6 < where.until < end
    assert parse_question("after:2024-03 before:2024-03-02").understood == "since 2024-03-01; before 2024-03-02"


@pytest.mark.usefixtures("in_berlin")
def test_a_time_of_day_is_told_where_python_has_given_one() -> None:
    where = replace(ANYTHING, since=_time(2024, 3, 1, 12, 30))
    assert parse_question("x", where).understood == "words: x; since 2024-03-01 12:30:00"


@pytest.mark.parametrize("date", ["", "24", "20240301", "2024/03", "2024-00", "2024-2-30", "0001", "２０２４", "24-1"])
def test_what_is_no_date_is_refused(date: str) -> None:
    with pytest.raises(InputError, match="is no date such as 2024, 2024-03 or 2024-03-15"):
        parse_date(date)
