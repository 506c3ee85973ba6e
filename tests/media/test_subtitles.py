"""Subtitles of every text format become passages of what is said."""

from __future__ import annotations

import pytest

from vlm2vec.media import PartWords
from vlm2vec.media.subtitles import Cue, join_passages, parse_subtitles

SUBRIP = """1
00:00:01,000 --> 00:00:02,500
Hello <i>there</i>,
fox.

2
01:02:03,250 --> 01:02:04,000 X1:40 Y1:10
{\\an8}Second

3
01:02:05,000 --> 01:02:06,000

4
01:02:07,000 --> 01:02:08,000
Last
"""

WEBVTT = """WEBVTT - A film
Kind: captions

STYLE
::cue { color: white }

NOTE a remark

intro
00:01.000 --> 00:02.500 align:start position:0%
<v Anna>Hello <00:00:01.500><c>there</c>&amp;

00:00:03.000 --> 00:00:04.000
Second
"""

ASS = """[Script Info]
Title: A film

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Comment: 0,0:00:00.00,0:00:01.00,Default,,0,0,0,,not said
Dialogue: 0,0:00:01.00,0:00:02.50,Default,Anna,0,0,0,,{\\i1}Hello{\\i0}, there\\Nfox
Dialogue: 0,0:00:03.00,0:00:04.00,Default,,0,0,0,,{\\p1}m 0 0 l 10 0{\\p0}
"""


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_subrip_file_is_read_with_its_marks(line_end: str) -> None:
    assert parse_subtitles(SUBRIP.replace("\n", line_end)) == [
        Cue(1.0, 2.5, "\nHello <i>there</i>,\nfox."),
        Cue(3723.25, 3724.0, "\n{\\an8}Second"),
        Cue(3725.0, 3726.0, ""),
        Cue(3727.0, 3728.0, "\nLast\n"),
    ]


def test_subrip_gives_what_is_said() -> None:
    assert join_passages(parse_subtitles(SUBRIP)) == [
        PartWords("Hello there,\nfox.", span_s=(1.0, 2.5)),
        PartWords("Second\nLast", span_s=(3723.25, 3728.0)),
    ]


def test_webvtt_gives_what_is_said() -> None:
    assert join_passages(parse_subtitles(WEBVTT)) == [PartWords("Hello there&\nSecond", span_s=(1.0, 4.0))]


def test_ass_gives_what_is_said_without_remarks_and_drawings() -> None:
    assert join_passages(parse_subtitles(ASS)) == [PartWords("Hello, there\nfox", span_s=(1.0, 2.5))]


@pytest.mark.parametrize("text", ["", "no subtitles\n\nat all", "00:00 -> 00:01\nHello"])
def test_a_text_that_is_no_subtitles_has_none(text: str) -> None:
    assert join_passages(parse_subtitles(text)) == []


def test_a_passage_ends_after_half_a_minute() -> None:
    cues = [Cue(10.0 * number, 10.0 * number + 5, f"line {number}") for number in range(7)]
    assert join_passages(cues) == [
        PartWords("line 0\nline 1\nline 2", span_s=(0.0, 25.0)),
        PartWords("line 3\nline 4\nline 5", span_s=(30.0, 55.0)),
        PartWords("line 6", span_s=(60.0, 65.0)),
    ]


def test_a_passage_of_many_words_ends_earlier() -> None:
    many = " ".join(["word"] * 150)
    assert join_passages([Cue(number, number + 1, f"{number} {many}") for number in range(3)]) == [
        PartWords(f"0 {many}\n1 {many}", span_s=(0, 2)),
        PartWords(f"2 {many}", span_s=(2, 3)),
    ]


def test_captions_that_roll_up_are_taken_once() -> None:
    rolling = [
        Cue(0.0, 2.0, " \nhello<00:00:00.500><c> world</c>"),
        Cue(2.0, 2.01, "hello world\n "),
        Cue(2.01, 4.0, "hello world\nthis<00:00:02.500><c> is</c>"),
        Cue(4.0, 4.01, "this is\n "),
    ]
    assert join_passages(rolling) == [PartWords("hello world\nthis is", span_s=(0.0, 4.0))]


def test_what_is_said_again_later_is_taken_again() -> None:
    assert join_passages([Cue(0, 1, "yes"), Cue(1, 2, "no"), Cue(2, 3, "yes")]) == [
        PartWords("yes\nno\nyes", span_s=(0, 3))
    ]


def test_subtitles_come_in_the_order_of_their_times() -> None:
    assert join_passages([Cue(2, 3, "b"), Cue(1, 2, "a")]) == [PartWords("a\nb", span_s=(1, 3))]


def test_a_subtitle_that_ends_before_it_begins_is_left_where_it_begins() -> None:
    assert join_passages([Cue(5, 1, "a")]) == [PartWords("a", span_s=(5, 5))]


def test_a_subtitle_before_the_beginning_is_left_out() -> None:
    assert join_passages([Cue(-1, 1, "a"), Cue(float("nan"), 1, "b"), Cue(0, float("inf"), "c")]) == []
