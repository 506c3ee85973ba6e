"""What every store promises of words: found however they are written, most found first, and never an error."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from support.stores import QUERY, contents, document, film, picture, places, plain, text, worded
from vlm2vec.search.store import FileRows, Filter, Look, Match, Store, Wanted, Words
from vlm2vec.search.stores import open_store

MARKED = str.maketrans({"\x02": "[", "\x03": "]"})


def write(store: Store, *add: FileRows, remove: tuple[str, ...] = ()) -> None:
    with store.writing():
        store.commit(remove, add)


def wanted(words: str = "", *, phrases: tuple[str, ...] = (), without: str = "") -> Wanted:
    return Wanted(tuple(words.split()), phrases, tuple(without.split()))


def paths(found: list[Match]) -> list[str]:
    return [match.unit.path for match in found]


# How words are written


@pytest.mark.parametrize(
    ("there", "asked", "shown"),
    [
        ("Invoice of March", "invoice", "[Invoice] of March"),
        ("INVOICE", "invoices", "[INVOICE]"),
        ("she was running", "runs", "she was [running]"),
        ("ein Café", "cafe", "ein [Café]"),
        ("ein cafe", "Café", "ein [cafe]"),
        ("ein cafe\u0301", "café", "ein [café]"),
        ("die Straße", "strasse", "die [Straße]"),
        ("die Strasse", "STRAßE", "die [Strasse]"),
        ("ﬁnal ofﬁce", "final", "[ﬁnal] ofﬁce"),
        ("ＡＢＣ１２", "abc12", "[ＡＢＣ１２]"),
        ("hy\u00adphen", "hyphen", "[hy\u00adphen]"),
        ("数学公式", "数学", "[数学]公式"),
        ("数学公式", "学公", "数[学公]式"),
        ("数学公式", "式", "数学公[式]"),
        ("データベース", "ベース", "データ[ベース]"),
        ("학교에서", "학교", "[학교]에서"),
        ("ภาษาไทย", "ไทย", "ภาษา[ไทย]"),
        ("code in C++ and C#", "C++", "code in [C++] and C#"),
        ("code in C++ and C#", "c#", "code in C++ and [C#]"),
        ("written in C", "c", "written in [C]"),
        ("see IMG_2031", "img_2031", "see [IMG_2031]"),
        ("see IMG_2031", "2031", "see IMG_[2031]"),
        ("AT&T's 1,234.56", "1,234.56", "AT&T's [1,234.56]"),
        ('quoted "AND"', "AND", 'quoted "[AND]"'),
        ("tab\tand\nline", "and", "tab [and] line"),
        ("bad \x02 marks \x00 here", "here", "bad marks [here]"),
    ],
)
def test_a_word_is_found_however_it_is_written(store: Store, there: str, asked: str, shown: str) -> None:
    write(store, text("a", there), text("b", "something else"))
    (match,) = store.matching(wanted(asked), 5)
    assert (match.unit.path, match.num_found, sorted(match.fields)) == ("a", 1, ["text"])
    assert match.snippet.translate(MARKED) == shown


@pytest.mark.parametrize(
    ("there", "asked"),
    [("written in C", "C++"), ("数学公式", "数公"), ("mountain", "untai"), ("the path", "pat"), ("one two", "onetwo")],
)
def test_a_word_is_not_found_where_it_does_not_stand(store: Store, there: str, asked: str) -> None:
    write(store, text("a", there))
    assert store.matching(wanted(asked), 5) == []


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("mountain.jpg", "untai"),
        ("Cafétière.jpg", "fetie"),
        ("a/IMG_2031.jpg", "2031"),
        ("a/IMG_2031.jpg", "IMG_2031"),
        ("a/IMG_2031.jpg", "mg_203"),
        ("report_2024-03.final.pdf", "2024"),
        ("report_2024-03.final.pdf", "2024-03"),
        ("report_2024-03.final.pdf", "report_2024-03.final.pdf"),
        ("LadyBird.png", "bird"),
        ("LadyBird.png", "ladybird"),
        ("Tax Papers/1.png", "papers"),
        ("C++ notes.pdf", "C++"),
        ("C++ notes.pdf", "notes"),
        ("数学公式.png", "公式"),
        ("cafe\u0301.png", "café"),
        (os.fsdecode(b"caf\xe9 noir.png"), "noir"),
    ],
)
def test_a_name_is_found_by_its_words_and_its_parts(store: Store, path: str, asked: str) -> None:
    write(store, picture(path), picture("other"))
    (match,) = store.matching(wanted(asked), 5)
    assert (match.unit.path, match.num_found, sorted(match.fields), match.snippet) == (path, 1, ["name"], "")


def test_a_whole_name_is_found_as_it_is_written_before_those_that_it_is_a_part_of(store: Store) -> None:
    write(store, *(picture(f"{path}LadyBird2-final.png") for path in ("A", "", "x/B")), picture("other.png"))
    found = store.matching(wanted("LadyBird2-final.png"), 5)
    assert paths(found) == ["LadyBird2-final.png", "ALadyBird2-final.png", "x/BLadyBird2-final.png"]
    assert [match.score > 0 for match in found] == [True, False, False]


def test_names_are_not_stemmed_and_short_parts_of_them_are_none(store: Store) -> None:
    write(store, picture("runs.png"), picture("party.png"), picture("mountains/x.png"))
    assert [store.matching(wanted(word), 5) for word in ("running", "art", "untai")] == [[], [], []]


@pytest.mark.parametrize(
    "asked",
    [
        *('"', "''", "*", "...", "()", "-", ":", "^", "+", "\x00", "\ud800", "😀", "", " "),
        *("AND", "OR NOT", "NEAR(a b)", "a*", "^a", "text:a", "{text}:a", '"a', 'a"b', "a -b", "--", "a;DROP", "\x00a"),
    ],
)
def test_nothing_that_a_person_types_is_an_operator_or_an_error(store: Store, asked: str) -> None:
    write(store, text("x.md", "nothing of this"))
    assert store.matching(Wanted((asked,), (asked,), (asked,)), 5) == []
    assert store.matching(Wanted(("nothing", asked), without=(asked,)), 5) == store.matching(wanted("nothing"), 5)


def test_a_question_may_be_as_long_as_a_book(store: Store) -> None:
    write(store, text("a", "needle"))
    many = tuple(f"word{number}" for number in range(400))
    (match,) = store.matching(Wanted((*many, "needle"), (" ".join(many),)), 5)
    assert (match.num_found, match.snippet.translate(MARKED)) == (1, "[needle]")


# Which comes first


def test_most_found_comes_first_wherever_it_stands(store: Store) -> None:
    write(
        store,
        text("a.md", "march march march march march march"),
        text("invoice.pdf", "of may", "to Beck, of march"),
        text("b.md", "march of the penguins", about="By A. Beck"),
        *(text(f"c{number}.md", "a penguin") for number in range(9)),
    )
    found = store.matching(wanted("invoice march beck"), 9)
    assert [(match.unit.path, match.unit.page, match.num_found, sorted(match.fields)) for match in found] == [
        ("invoice.pdf", 2, 3, ["name", "text"]),
        ("b.md", 1, 2, ["about", "text"]),
        ("invoice.pdf", 1, 1, ["name"]),
        ("a.md", 1, 1, ["text"]),
    ]
    assert [store.matching(wanted("invoice march beck"), limit) for limit in range(6)] == [
        found[:limit] for limit in range(6)
    ]


def test_equally_good_units_are_in_order_of_path_page_and_span(store: Store) -> None:
    write(
        store, *(worded(picture(f"{name}.png"), "red") for name in "dbe"), worded(document("c.pdf", [3, 1, 2]), "red")
    )
    write(store, worded(film("a.mp4", (30.0, 60.0), (0.0, 30.0)), "red"), *(text(f"z{n}", "blue") for n in range(20)))
    order = [
        *(("a.mp4", None, (0.0, 30.0)), ("a.mp4", None, (30.0, 60.0)), ("b.png", None, None)),
        *(("c.pdf", 1, None), ("c.pdf", 2, None), ("c.pdf", 3, None), ("d.png", None, None), ("e.png", None, None)),
    ]
    for limit in (1, 4, 8, 50):
        assert [(path, page, span_s) for path, _, page, span_s in places(store.matching(wanted("red"), limit))] == (
            order[:limit]
        )


def test_of_very_many_equally_good_units_the_first_by_path_come(store: Store) -> None:
    write(store, *(text(f"{number:04}.md", "red") for number in reversed(range(700))))
    assert paths(store.matching(wanted("red"), 3)) == ["0000.md", "0001.md", "0002.md"]


def test_a_rare_word_weighs_more_than_a_common_one_and_a_title_more_than_text(store: Store) -> None:
    write(
        store, *(text(f"{number}.md", "red car") for number in range(5)), text("x.md", "blue car"), text("y.md", "sky")
    )
    write(store, text("z.md", "house", about="blue car"))
    assert paths(store.matching(wanted("red blue"), 2)) == ["z.md", "x.md"]
    scores = [match.score for match in store.matching(wanted("red blue"), 9)]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0


def test_words_that_are_asked_twice_count_once(store: Store) -> None:
    write(store, text("a.md", "red"), text("b.md", "red blue"))
    assert [match.num_found for match in store.matching(wanted("Red red RED blue"), 5)] == [2, 1]


def test_a_file_that_only_its_name_brings_is_one_match(store: Store) -> None:
    write(store, document("manual.pdf", [4, 2, 7]), text("b.md", "a manual"), text("manual.md", "one", "two manual"))
    found = store.matching(wanted("manual"), 9)
    assert sorted((match.unit.path, match.unit.page, sorted(match.fields)) for match in found) == [
        ("b.md", 1, ["text"]),
        ("manual.md", 1, ["name"]),
        ("manual.md", 2, ["name", "text"]),
        ("manual.pdf", 4, ["name"]),
    ]


# Phrases, and what must not be there


def test_the_words_of_a_phrase_stand_side_by_side(store: Store) -> None:
    write(store, text("a.md", "the red car is old"), text("b.md", "the car is red"), text("red_car.md", "blue"))
    found = store.matching(wanted(phrases=("red car",)), 5)
    assert sorted(paths(found)) == ["a.md", "red_car.md"]
    assert [match.snippet.translate(MARKED) for match in found if match.snippet] == ["the [red car] is old"]
    assert paths(store.matching(wanted("red", phrases=("car is red",)), 5))[0] == "b.md"


def test_units_that_have_an_unwanted_word_are_left_out(store: Store) -> None:
    write(
        store,
        text("a.md", "red bus"),
        text("b.md", "red car"),
        text("c.md", "red", about="Cars"),
        text("car/d.md", "red"),
        text("cargo.md", "red"),
    )
    assert sorted(paths(store.matching(wanted("red", without="car"), 9))) == ["a.md", "cargo.md"]
    assert store.matching(Wanted(("red",), without=("red bus", "car", "cargo")), 9) == []
    assert store.matching(wanted(without="car"), 9) == []


def test_a_name_is_found_by_another_part_if_the_first_has_an_unwanted_word(store: Store) -> None:
    write(store, text("invoice.md", "draft", "final"))
    assert places(store.matching(wanted("invoice", without="draft"), 5)) == [("invoice.md", "text", 2, None)]


# What is shown


def test_a_snippet_is_the_words_around_the_first_find(store: Store) -> None:
    words = [f"w{number}" for number in range(50)]
    write(store, text("a.md", " ".join([*words[:25], "Needle", "needles", *words[25:], "needle"]), about="a needle"))
    (match,) = store.matching(wanted("needle"), 1)
    shown = [*words[19:25], "[Needle]", "[needles]", *words[25:38]]
    assert match.snippet.translate(MARKED) == " ".join(shown)
    assert sorted(match.fields) == ["about", "text"]


def test_a_snippet_of_text_without_blanks_is_short(store: Store) -> None:
    write(store, text("a.md", "あ" * 500 + "数学" + "い" * 500))
    (match,) = store.matching(wanted("数学"), 1)
    assert match.snippet.translate(MARKED) == "あ" * 80 + "[数学]" + "い" * 160


def test_of_a_description_is_shown_what_the_text_has_not(store: Store) -> None:
    write(store, worded(picture("a.png"), "nothing", "The tower in Paris"))
    (match,) = store.matching(wanted("tower"), 1)
    assert (match.snippet.translate(MARKED), sorted(match.fields)) == ("The [tower] in Paris", ["about"])


# Filters, and what comes and goes


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (Filter(), "abcd"),
        (Filter(kinds=frozenset({"text"})), "cd"),
        (Filter(kinds=frozenset({"image", "text"})), "acd"),
        (Filter(under="x"), "bc"),
        (Filter(since=2.0), "abc"),
        (Filter(until=2.0), "d"),
        (Filter(types=frozenset({"md"})), "cd"),
        (Filter(frozenset({"page"}), "x", None, None, frozenset({"pdf"})), "b"),
        (Filter(under="y"), ""),
    ],
)
def test_a_filter_lets_through_what_it_says_and_nothing_else(store: Store, where: Filter, found: str) -> None:
    write(
        store,
        worded(picture("a.png", mtime_ns=3 * 10**9), "red"),
        replace(worded(document("x/b.pdf", [1]), "red"), look=Look(1, 4 * 10**9, 1, 1)),
        replace(text("x/c.md", "red"), look=Look(1, 5 * 10**9, 1, 1)),
        text("d.md", "red"),
    )
    letters = [path.rpartition("/")[2][0] for path in paths(store.matching(wanted("red"), 9, where))]
    assert "".join(sorted(letters)) == found


def test_a_name_is_found_by_the_first_unit_that_a_filter_lets_through(store: Store) -> None:
    mixed = text("report.docx", "one", "two")
    look = picture("report.docx").units[0]
    write(store, FileRows(mixed.path, mixed.look, mixed.content_hash, 3, (*mixed.units, look)))
    found = store.matching(wanted("report"), 5, Filter(kinds=frozenset({"image"})))
    assert places(found) == [("report.docx", "image", None, None)]


def test_words_come_and_go_with_their_files(store: Store) -> None:
    reader = open_store(store.place)
    assert reader.matching(wanted("red"), 5) == []
    write(store, text("a.md", "red"), worded(picture("b.png"), "red", "blue", passages=[1, 2]), text("c.md", "green"))
    reader.refresh()
    assert paths(reader.matching(wanted("red"), 5)) == ["a.md", "b.png"]
    write(store, text("a.md", "yellow"), picture("b.png"), remove=("c.md",))
    reader.refresh()
    for one in (store, reader, open_store(store.place)):
        assert [paths(one.matching(wanted(word), 5)) for word in ("red", "blue", "green", "yellow")] == [
            *([], [], []),
            ["a.md"],
        ]
        assert [paths(one.matching(wanted(word), 5)) for word in ("b", "c")] == [["b.png"], []]
    assert store.verify().problems == []


def test_words_come_out_as_they_were_put_in(store: Store) -> None:
    files = [
        text("a.md", "Straße\n数学", " ", about="by  me"),
        worded(document("b.pdf", [2, 1]), "words", passages=[3, 4]),
        text("empty.md", ""),
    ]
    write(store, *files)
    assert contents(store) == contents(open_store(store.place)) == list(map(plain, files))
    assert (store.count(), store.count("text"), store.count("page")) == (5, 3, 2)
    assert store.nearest(QUERY, 9, Filter(kinds=frozenset({"text"}))) == []


def test_words_hold_no_more_than_a_million_characters_and_nothing_that_is_no_text() -> None:
    assert Words("a" * 1_000_001, "b" * 1_000_001) == Words("a" * 1_000_000, "b" * 1_000_000)
    assert Words("a\ud800b\x00c") == Words("a b c")


def test_no_stored_file_lacks_words(store: Store) -> None:
    write(store, text("a.md", "red"), picture("b.png"))
    assert store.lacking_words() == open_store(store.place).lacking_words() == []
