"""What is said in a film, and when? Subtitles of every text format, from single lines to passages."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vlm2vec.media.plain_text import plain
from vlm2vec.media.words import PartWords

PASSAGE_S = 30.0
"""A passage holds what is said in about this time, as long as a span of a film is."""

PASSAGE_WORDS = 200
"""A passage of more words than this ends earlier."""

SUBTITLE_SUFFIXES = frozenset({".srt", ".vtt", ".ass", ".ssa"})
"""Of files with subtitles."""

_CLOCK = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
_TIMES = re.compile(rf"^[ \t]*{_CLOCK}[ \t]*-->[ \t]*{_CLOCK}.*$", re.MULTILINE)
_ASS_LINE = re.compile(rf"^Dialogue:[^,]*,[ \t]*{_CLOCK}[ \t]*,[ \t]*{_CLOCK}[ \t]*,(.*)$", re.MULTILINE)
# After the times: style, name, three margins, effect.
_ASS_FIELDS = 6
# {\i1} of ASS, which also hides remarks; <i>, <c.yellow>, <00:00:01.000> of SubRip and WebVTT.
_MARKUP = re.compile(r"\{[^{}]*\}|<[^<>]*>")
_ASS_BREAK = re.compile(r"\\[Nn]")
# Vector drawings of ASS are numbers, not words.
_ASS_DRAWING = re.compile(r"\{[^{}]*\\p[1-9]")


class Cue(NamedTuple):
    """A subtitle: its text, marks and all, and from when to when it is shown, in seconds."""

    start_s: float
    end_s: float
    text: str


def parse_subtitles(text: str) -> list[Cue]:
    """The subtitles of a SubRip, WebVTT or ASS file, in its order; what is no subtitle in it is passed over."""
    text = text.replace("\r\n", "\n")
    found = list(_TIMES.finditer(text))
    if not found:
        return [
            Cue(_seconds(*line.groups()[:4]), _seconds(*line.groups()[4:8]), line[9].split(",", _ASS_FIELDS)[-1])
            for line in _ASS_LINE.finditer(text)
        ]
    ends = [following.start() for following in found[1:]] + [len(text)]
    return [
        # An empty line ends a subtitle; the number of the next one comes after it.
        Cue(_seconds(*times.groups()[:4]), _seconds(*times.groups()[4:]), text[times.end() : end].split("\n\n", 1)[0])
        for times, end in zip(found, ends, strict=True)
    ]


def join_passages(cues: Iterable[Cue]) -> list[PartWords]:
    """Join subtitles to passages of about `PASSAGE_S` or `PASSAGE_WORDS`, in the order of their times.

    A line that repeats the one before it is taken once: captions that roll up show every line twice. A subtitle whose
    times make no sense is left where it begins.
    """
    passages: list[PartWords] = []
    lines: list[str] = []
    start_s = end_s = 0.0
    num_words = 0
    for cue, text in _told(cues):
        if lines and (cue.end_s - start_s > PASSAGE_S or num_words >= PASSAGE_WORDS):
            passages.append(PartWords("\n".join(lines), span_s=(start_s, end_s)))
            lines, num_words = [], 0
        if not lines:
            start_s = end_s = cue.start_s
        lines.append(text)
        end_s = max(end_s, cue.end_s)
        num_words += len(text.split())
    if lines:
        passages.append(PartWords("\n".join(lines), span_s=(start_s, end_s)))
    return passages


def _told(cues: Iterable[Cue]) -> Iterator[tuple[Cue, str]]:
    """Subtitles in the order of their times, each with those of its lines that have not just been said."""
    before = ""
    for cue in sorted((cue for cue in cues if _has_times(cue)), key=lambda cue: cue.start_s):
        kept = []
        for line in _plain_lines(cue.text):
            if line != before:
                kept.append(line)
            before = line
        if kept:
            yield cue._replace(end_s=max(cue.start_s, cue.end_s)), "\n".join(kept)


def _plain_lines(text: str) -> list[str]:
    if _ASS_DRAWING.search(text):
        return []
    return [line for line in plain(html.unescape(_MARKUP.sub("", _ASS_BREAK.sub("\n", text)))).split("\n") if line]


def _has_times(cue: Cue) -> bool:
    return cue.start_s >= 0 and math.isfinite(cue.start_s) and math.isfinite(cue.end_s)


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> float:
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction}")
