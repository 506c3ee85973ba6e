"""How do finds by words, by the meaning of words and by look become one order of hits?

All of them are brought to one scale, that of calibrated scores: how many spreads a find lies above what questions about
anything give. `weak_line` says from where on it is no accident. What words are worth on it depends on how few units
have them: ten spreads if it is one alone, less by two for each time that there are e times as many. docs/search.md says
what else was tried, and how each way was measured.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, fmean, pstdev
from typing import NamedTuple, TypeVar, get_args

from vlm2vec.search.store import Match, Near, Unit, Why

_ONE_ALONE, _LESS_FOR_MORE = 10.0, 2.0
# A name that has all words was chosen for what is in the file.
_ONE_NAMED = 11.0
# The whole question, word by word as it was typed, is no accident where several words are found apart might be.
_AS_TYPED = 20.0
# Of long texts, some words of any question are found in many. Names are short: there each word counts.
_TEXT_POWER, _NAME_POWER = 8, 1
# With fewer words than this share, nothing is lifted over the line by them.
_ENOUGH_WORDS = 0.5
_JUST_BELOW = 0.001
# Decides between units that are equal in all else.
_BM25 = 0.1
# Later finds change nothing of what is known of a list, so that a longer one begins as a shorter one does.
_HEAD = 200
# Of nonsense, this share may reach the line by its best hit.
_NONSENSE = 0.05
# A unit may be found by its look and by some passages. By vectors alone, 95 % of 80 nonsense questions stayed below
# 1.05 times the quantile of so many, within 0.1 of it, for 25, 50, 100, 200 and 397 units. Where half of the folder is
# prose, among 1,863 units, some stand near to questions about things that are not there: 1.2 keeps 47 of 49 below.
_CHANCES, _EXCESS = 3, 1.2
# Spreads from the line to a score of 0.73, and to one of 0.27.
_SCORE_SCALE = 2.0


@dataclass(frozen=True, slots=True)
class Finds:
    """What the store finds for one question, best first in each list.

    Args:
        typed: units that have the question as one phrase; or all phrases that it has in quotes.
        words: those that have any of its words or phrases.
        names: likewise, looking in names alone, so that `num_found` counts words of the name.
        meaning, look: those with the nearest passages, and pictures.
    """

    typed: Sequence[Match] = ()
    words: Sequence[Match] = ()
    names: Sequence[Match] = ()
    meaning: Sequence[Near] = ()
    look: Sequence[Near] = ()


_Found = TypeVar("_Found", int, tuple[int, int])


class Fused(NamedTuple):
    """A unit with all that speaks for it.

    Args:
        strength: in spreads; see above.
        why: the ways by which it was found that alone would do, or else the best one.
        snippet: of `Match`; "" if no words of the unit were found.
    """

    unit: Unit
    strength: float
    why: tuple[Why, ...]
    snippet: str


@dataclass(slots=True)
class _Evidence:
    """What speaks for a unit, by the way it was found; the share of words that it has, and of the best one's BM25."""

    near: dict[Why, float] = field(default_factory=dict)
    literal: dict[Why, float] = field(default_factory=dict)
    share: float = 0.0
    bm25: float = 0.0
    snippet: str = ""

    @property
    def nearest(self) -> float:
        """The strength by vectors alone."""
        return max(self.near.values(), default=0.0)

    @property
    def strength(self) -> float:
        # Words are words, whatever the model thinks of them.
        found = max(self.nearest, 0.0) + sum(self.literal.values()) if self.literal else self.nearest
        return found + _BM25 * self.bm25

    def add(self, way: Why, strength: float, share: float) -> None:
        """Note that a share of the words was found; of several finds in one way, the strongest counts."""
        self.literal[way] = max(strength, self.literal.get(way, 0.0))
        self.share = max(share, self.share)

    def matches(self, line: float) -> bool:
        """Whether it may lie above the line: not if only words lift it there, and few of those that are wanted."""
        return self.share >= _ENOUGH_WORDS or self.nearest >= line

    def why(self, line: float) -> tuple[Why, ...]:
        """The ways that alone would do, or else the best one."""
        ways = self.literal | self.near
        best = max(ways, key=lambda way: ways[way])
        return tuple(way for way in get_args(Why) if way in ways and (way == best or ways[way] >= line))


def fuse(finds: Finds, *, num_wanted: int, line: float, quoted: bool = False) -> list[Fused]:
    """All units of the lists, the strongest first, ties by path, page and span.

    A unit's strength is the larger one of those of its meaning and its look, with that of its words on top. If it has
    all words, these alone reach the line, however many units have them; if it has less than half of them, they do not
    lift it over the line. Words of a name count for one unit of the file, the strongest.

    Args:
        num_wanted: how many words and phrases are looked for; 0: the question has none.
        line: `weak_line`.
        quoted: phrases were in quotes, so that units that lack one of them stay below the line.
    """
    evidence: defaultdict[Unit, _Evidence] = defaultdict(_Evidence)
    for unit, strength in _by_score(finds.meaning).items():
        evidence[unit].near["meaning"] = strength
    for near in finds.look:
        evidence[near.unit].near["look"] = near.calibrated
    _weigh_words(finds, evidence, num_wanted, line)
    _weigh_names(finds.names, evidence, num_wanted, line)
    typed = {match.unit for match in finds.typed}
    fused = []
    for unit, one in evidence.items():
        may_match = one.matches(line) and (unit in typed or not quoted)
        strength = one.strength if may_match else _below(line, one.strength)
        fused.append(Fused(unit, strength, one.why(line), one.snippet))
    return sorted(fused, key=lambda one: (-one.strength, one.unit.order))


def weak_line(num_units: int) -> float:
    """The strength that the best hit for a nonsense question does not reach in 95 of 100 cases.

    It is the one that of so many normally distributed numbers the largest exceeds in 5 of 100 cases, corrected by what
    was measured.

    Args:
        num_units: of the index; the best of more lies higher.
    """
    return _EXCESS * NormalDist().inv_cdf(1 - _NONSENSE / (_CHANCES * max(num_units, 1)))


def score_of(strength: float, line: float) -> float:
    """A strength as a number from 0 to 1, which is 0.5 at the line."""
    # exp would exceed the numbers there are.
    return 1 / (1 + math.exp(min((line - strength) / _SCORE_SCALE, 700.0)))


def _by_score(meaning: Sequence[Near]) -> dict[Unit, float]:
    """Strengths in the order of scores: those that a line through mean and spread of both makes of the scores.

    Passages found better in the order of their scores, and what is found at all is told better by what is calibrated.
    """
    head = meaning[:_HEAD]
    spread = pstdev(near.score for near in head) if head else 0.0
    if not spread:
        return {near.unit: near.calibrated for near in meaning}
    slope = pstdev(near.calibrated for near in head) / spread
    start = fmean(near.calibrated for near in head) - slope * fmean(near.score for near in head)
    return {near.unit: start + slope * near.score for near in meaning}


def _weigh_words(finds: Finds, evidence: Mapping[Unit, _Evidence], num_wanted: int, line: float) -> None:
    """Note what the words of units are worth."""
    num_with = _num_with_as_many((match.num_found, match.num_as_typed) for match in finds.words)
    in_words = [match for match in finds.words if match.fields != {"name"}]
    for match in in_words:
        share = match.num_found / num_wanted
        strength = _few(num_with[match.num_found, match.num_as_typed], _ONE_ALONE) * share**_TEXT_POWER
        evidence[match.unit].add("words", max(strength, line) if share == 1 else strength, share)
    for match in finds.typed:
        way: Why = "name" if match.fields == {"name"} else "words"
        evidence[match.unit].add(way, max(_few(len(finds.typed), _AS_TYPED), line), 1.0)
    _note_bm25(in_words, evidence)
    for match in (*finds.typed, *in_words):
        one = evidence[match.unit]
        one.snippet = one.snippet or match.snippet


def _weigh_names(names: Sequence[Match], evidence: Mapping[Unit, _Evidence], num_wanted: int, line: float) -> None:
    """Note what the words of a name are worth, for the strongest unit of its file."""
    of_files: dict[str, Match] = {}
    for match in names:
        of_files.setdefault(match.unit.path, match)
    num_with = _num_with_as_many(match.num_found for match in of_files.values())
    units = _units_of(evidence, of_files)
    chosen: list[Match] = []
    for path, match in of_files.items():
        share = match.num_found / num_wanted
        strength = _few(num_with[match.num_found], _ONE_NAMED) * share**_NAME_POWER
        strongest = min(units[path] or [match.unit], key=lambda unit: (-evidence[unit].strength, unit.order))
        evidence[strongest].add("name", max(strength, line) if share == 1 else strength, share)
        chosen.append(match._replace(unit=strongest))
    _note_bm25(chosen, evidence)


def _note_bm25(matches: Sequence[Match], evidence: Mapping[Unit, _Evidence]) -> None:
    """Note their BM25 as shares of the best one's among the first."""
    best = max((match.score for match in matches[:_HEAD]), default=0.0)
    for match in matches if best > 0 else ():
        evidence[match.unit].bm25 = max(evidence[match.unit].bm25, min(match.score / best, 1.0))


def _units_of(units: Iterable[Unit], paths: Container[str]) -> defaultdict[str, list[Unit]]:
    """Those of each of these files."""
    found: defaultdict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        if unit.path in paths:
            found[unit.path].append(unit)
    return found


def _num_with_as_many(found: Iterable[_Found]) -> dict[_Found, int]:
    """For each number of words that something has, how many have as many or more."""
    counts = Counter(found)
    return {num: sum(count for more, count in counts.items() if more >= num) for num in counts}


def _few(num: int, one_alone: float) -> float:
    """What a find is worth that so many share."""
    return max(one_alone - _LESS_FOR_MORE * math.log(num), 0.0)


def _below(line: float, strength: float) -> float:
    """A strength that reaches the line as one just below it, in the same order."""
    return strength if strength < line else line - _JUST_BELOW / (1 + strength - line)
