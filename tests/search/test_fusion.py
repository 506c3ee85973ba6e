"""How finds of several ways become one order: every strength here can be added up by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm2vec.search.fusion import Finds, Fused, fuse, score_of, weak_line
from vlm2vec.search.store import Field, Match, Near, Unit

_LINE = 4.0


def _unit(name: str, page: int | None = None) -> Unit:
    return Unit(name, "image" if page is None else "page", page, None, f"hash of {name}")


def _match(unit: Unit, num_found: int, *fields: Field, score: float = 0.0) -> Match:
    return Match(
        unit, score, num_found, frozenset(fields or ("text",)), "" if fields == ("name",) else "a \x02find\x03"
    )


def _near(unit: Unit, calibrated: float, score: float | None = None) -> Near:
    return Near(unit, calibrated / 10 if score is None else score, calibrated)


def _strengths(fused: list[Fused]) -> list[tuple[str, int | None, float]]:
    return [(one.unit.path, one.unit.page, round(one.strength, 3)) for one in fused]


A, B, C = _unit("a.png"), _unit("b.png"), _unit("c.png")


# What words are worth


def test_all_words_in_one_unit_alone_are_worth_ten_and_less_the_more_have_them() -> None:
    one = fuse(Finds(words=[_match(A, 2)]), num_wanted=2, line=_LINE)
    assert _strengths(one) == [("a.png", None, 10.0)]
    three = fuse(Finds(words=[_match(unit, 2) for unit in (A, B, C)]), num_wanted=2, line=_LINE)
    assert _strengths(three) == [(path, None, round(10 - 2 * math.log(3), 3)) for path in ("a.png", "b.png", "c.png")]


def test_all_words_reach_the_line_however_many_units_have_them() -> None:
    units = [_unit(f"{number:03}.png") for number in range(200)]
    fused = fuse(Finds(words=[_match(unit, 1) for unit in units]), num_wanted=1, line=_LINE)
    assert {one.strength for one in fused} == {_LINE}


def test_a_word_as_it_was_typed_is_told_from_those_with_another_ending() -> None:
    words = [_match(A, 1), _match(B, 1)._replace(num_as_typed=1), _match(C, 1)]
    assert _strengths(fuse(Finds(words=words), num_wanted=1, line=_LINE)) == [
        ("b.png", None, 10.0),
        ("a.png", None, round(10 - 2 * math.log(3), 3)),
        ("c.png", None, round(10 - 2 * math.log(3), 3)),
    ]


def test_some_words_of_a_text_are_worth_little_and_some_of_a_name_their_share() -> None:
    words = [_match(A, 1), _match(B, 1, "name")]
    fused = fuse(Finds(words=words, names=[_match(B, 1, "name")]), num_wanted=2, line=_LINE)
    assert _strengths(fused) == [("b.png", None, 5.5), ("a.png", None, round((10 - 2 * math.log(2)) / 2**8, 3))]


def test_the_question_as_it_was_typed_comes_before_its_words_elsewhere() -> None:
    fused = fuse(Finds(typed=[_match(B, 1)], words=[_match(A, 3), _match(B, 3)]), num_wanted=3, line=_LINE)
    assert _strengths(fused) == [("b.png", None, 20.0), ("a.png", None, round(10 - 2 * math.log(2), 3))]


def test_bm25_decides_between_units_that_have_as_many_words() -> None:
    words = [_match(A, 1, score=2.0), _match(B, 1, score=4.0)]
    fused = fuse(Finds(words=words), num_wanted=1, line=_LINE)
    base = 10 - 2 * math.log(2)
    assert _strengths(fused) == [("b.png", None, round(base + 0.1, 3)), ("a.png", None, round(base + 0.05, 3))]


def test_a_name_counts_for_one_unit_of_its_file_the_strongest() -> None:
    pages = [_unit("a.pdf", page) for page in (1, 2, 3)]
    finds = Finds(names=[_match(pages[0], 1, "name")], meaning=[_near(pages[1], 3.0), _near(pages[2], 2.0)])
    assert _strengths(fuse(finds, num_wanted=1, line=_LINE)) == [("a.pdf", 2, 14.0), ("a.pdf", 3, 2.0)]
    by_name_alone = Finds(names=[_match(pages[0], 1, "name")], words=[_match(pages[0], 1, "name")])
    assert _strengths(fuse(by_name_alone, num_wanted=1, line=_LINE)) == [("a.pdf", 1, 11.0)]


# Words and vectors together


def test_a_unit_is_as_strong_as_the_better_of_its_vectors_and_words_are_on_top() -> None:
    finds = Finds(words=[_match(A, 1)], meaning=[_near(A, 1.0)], look=[_near(A, 2.0), _near(B, -1.0)])
    assert _strengths(fuse(finds, num_wanted=1, line=_LINE)) == [("a.png", None, 12.0), ("b.png", None, -1.0)]


def test_a_vector_that_disagrees_takes_nothing_from_words() -> None:
    finds = Finds(words=[_match(A, 1)], look=[_near(A, -3.0)])
    assert _strengths(fuse(finds, num_wanted=1, line=_LINE)) == [("a.png", None, 10.0)]


def test_a_word_of_many_names_does_not_push_a_clearly_right_picture_down() -> None:
    right = _unit("IMG_2031.jpg")
    named = [_match(_unit(f"photos/{number:03}.png"), 1, "name") for number in range(199)]
    finds = Finds(words=named, names=named, look=[_near(right, 5.0)])
    assert fuse(finds, num_wanted=1, line=_LINE)[0].unit == right


def test_passages_are_in_the_order_of_their_scores_on_the_scale_of_calibrated_ones() -> None:
    meaning = [_near(A, 3.0, 0.8), _near(B, 5.0, 0.6)]
    # Mean 4 and spread 1 of the calibrated ones, 0.7 and 0.1 of the scores.
    assert _strengths(fuse(Finds(meaning=meaning), num_wanted=0, line=_LINE)) == [
        ("a.png", None, 5.0),
        ("b.png", None, 3.0),
    ]


def test_without_a_phrase_in_quotes_no_unit_reaches_the_line() -> None:
    finds = Finds(typed=[_match(A, 1)], words=[_match(A, 2), _match(B, 1)], look=[_near(B, 30.0), _near(C, 1.0)])
    fused = fuse(finds, num_wanted=2, line=_LINE, quoted=True)
    assert [(one.unit, one.strength >= _LINE) for one in fused] == [(A, True), (B, False), (C, False)]


def test_few_of_the_words_lift_nothing_over_the_line_and_half_of_them_do() -> None:
    named = [_match(A, 1, "name"), _match(B, 2, "name")]
    finds = Finds(names=named, look=[_near(A, 3.0), _near(B, 0.0), _near(C, 3.5)])
    fused = fuse(finds, num_wanted=4, line=_LINE)
    assert _strengths(fused) == [("b.png", None, 5.5), ("a.png", None, 4.0), ("c.png", None, 3.5)]
    assert fused[1].strength < _LINE


def test_a_hit_says_by_which_ways_it_reaches_the_line_or_else_by_the_best_one() -> None:
    finds = Finds(
        words=[_match(A, 1)], names=[_match(A, 1, "name")], meaning=[_near(B, 1.0)], look=[_near(A, 2.0), _near(B, 3.0)]
    )
    fused = fuse(finds, num_wanted=1, line=_LINE)
    assert [(one.unit, one.why, one.snippet) for one in fused] == [
        (A, ("words", "name"), "a \x02find\x03"),
        (B, ("look",), ""),
    ]


_UNITS = st.sampled_from([*(_unit(name) for name in "abcdef"), *(_unit("g.pdf", page) for page in (1, 2, 3))])
_NUMBERS = st.floats(-5, 12, width=32)
_NEARS = st.lists(st.builds(_near, _UNITS, _NUMBERS, _NUMBERS), unique_by=lambda near: near.unit, max_size=8)
_WORDS = st.lists(
    st.builds(_match, _UNITS, st.integers(1, 3), st.sampled_from(("text", "about")), score=st.floats(0, 20)),
    unique_by=lambda match: match.unit,
    max_size=8,
)
_NAMES = st.lists(
    st.builds(_match, _UNITS, st.integers(1, 3), st.just("name"), score=st.floats(0, 20)),
    unique_by=lambda match: match.unit.path,
    max_size=6,
)
_FINDS = st.builds(Finds, typed=_WORDS, words=_WORDS, names=_NAMES, meaning=_NEARS, look=_NEARS)


@given(_FINDS)
def test_the_order_of_lists_makes_no_difference(finds: Finds) -> None:
    turned = Finds(finds.typed[::-1], finds.words[::-1], finds.names[::-1], finds.meaning[::-1], finds.look[::-1])
    assert _strengths(fuse(turned, num_wanted=3, line=_LINE)) == _strengths(fuse(finds, num_wanted=3, line=_LINE))


@given(_FINDS)
def test_what_is_far_changes_nothing_among_the_others(finds: Finds) -> None:
    far = [_near(_unit(f"far {number}"), -99.0) for number in range(3)]
    fused = fuse(replace(finds, look=[*finds.look, *far]), num_wanted=3, line=_LINE)
    assert fused[: len(fused) - 3] == fuse(finds, num_wanted=3, line=_LINE)


@given(_FINDS, st.booleans())
def test_every_unit_is_found_once_strongest_first(finds: Finds, quoted: bool) -> None:
    fused = fuse(finds, num_wanted=3, line=_LINE, quoted=quoted)
    units = [one.unit for one in fused]
    assert len(units) == len(set(units))
    in_words = {match.unit for match in (*finds.typed, *finds.words)}
    assert set(units) >= in_words | {near.unit for near in (*finds.meaning, *finds.look)}
    assert [one.strength for one in fused] == sorted((one.strength for one in fused), reverse=True)


# The line, and scores


@pytest.mark.parametrize(("num_units", "line"), [(0, 2.554), (1, 2.554), (397, 4.719), (100_000, 6.124)])
def test_the_line_is_the_quantile_of_the_largest_of_so_many_and_a_fifth(num_units: int, line: float) -> None:
    assert round(weak_line(num_units), 3) == line


def test_scores_lie_between_0_and_1_and_are_one_half_at_the_line() -> None:
    assert score_of(4.0, 4.0) == 0.5
    assert round(score_of(6.0, 4.0), 3) == 0.731
    assert 0 <= score_of(-1e9, 4.0) < 1e-300
    assert score_of(1e9, 4.0) == 1


@given(st.integers(-500, 1200), st.integers(-500, 1200))
def test_larger_strengths_have_larger_scores(one: int, other: int) -> None:
    assert (score_of(one / 100, _LINE) < score_of(other / 100, _LINE)) == (one < other)
