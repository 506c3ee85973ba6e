"""What does a person ask for with a question that may have operators in it?

    "annual report" -draft kind:page in:Invoices after:2024-03 before:2025 type:pdf

A word that only looks like an operator is a word: `http://x`, `12:30`, `C:`, `--all`, `kind:song`, `after:soon`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, time
from math import inf, nextafter
from typing import get_args

from vlm2vec.errors import InputError
from vlm2vec.items import Kind
from vlm2vec.search.store import ANYTHING, Filter, Wanted
from vlm2vec.text import printable

# Writing programs turn straight quotes into others.
_QUOTES = '"“”„«»'
_TOKEN = re.compile(
    rf"(?:(?P<without>-)(?=[\w{_QUOTES}])|(?P<operator>kind|in|after|before|type):)?"
    rf"(?:[{_QUOTES}](?P<quoted>[^{_QUOTES}]*)[{_QUOTES}]|(?P<bare>\S+))",
    re.IGNORECASE,
)
_DATE = re.compile(r"([0-9]{4})(?:-([0-9]{1,2})(?:-([0-9]{1,2}))?)?")
_ENDING = re.compile(r"\.?[a-z0-9][a-z0-9_-]*", re.IGNORECASE | re.ASCII)
# Between them, every time zone has every date, and every store the time.
_YEARS = range(1800, 2201)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A question as it is understood.

    Args:
        text: what the model is asked: the question without its operators; as it was typed if it has none.
        wanted: words and phrases for the full text, each once, and those that no hit may have.
        where: which units may be hits.
        understood: all of that in one line; with what looks like an operator and is none, and why. "" if the question
            has nothing in it.
        plain: whether the question is nothing but words, so that there is nothing to tell of it.
    """

    text: str
    wanted: Wanted
    where: Filter
    understood: str
    plain: bool


def parse_question(text: str, where: Filter = ANYTHING) -> Parsed:
    """Take a question apart. No text raises.

    Several operators of one kind widen what may be found (`kind:page kind:image`), but of several dates the narrowest
    holds. A quote without a second one, and an operator with a value that makes no sense, belong to the words.

    Args:
        where: what holds besides, as if it were in the question too.
    """
    reading = _Reading(where)
    for token in _TOKEN.finditer(text):
        reading.take(token)
    wanted = Wanted(_once(reading.words), _once(reading.phrases), _once(reading.without))
    plain = not (reading.narrowed or wanted.phrases or wanted.without or reading.problems)
    # The model is asked for exactly what was typed, but for what is not meant for it.
    asked = text if plain else " ".join(reading.asked)
    said = printable("; ".join([*_described(wanted, reading.where), *reading.problems]))
    return Parsed(asked, wanted, reading.where, said, plain)


def parse_date(text: str) -> float:
    """The beginning of a day, month or year in local time, in seconds since 1970: "2024-03-15", "2024-03", "2024".

    Raises:
        InputError: it is no such date, or not between 1800 and 2200.
    """
    if match := _DATE.fullmatch(text):
        year, month, day = (int(part or 1) for part in match.groups())
        if year in _YEARS:
            try:
                return datetime(year, month, day).timestamp()
            except (ValueError, OverflowError, OSError):
                # No such day, or a system whose clock begins later.
                pass
    raise InputError(f"{text!r} is no date such as 2024, 2024-03 or 2024-03-15")


def since(where: Filter, date: str) -> Filter:
    """Let only files through that were changed at the beginning of this day, month or year, or later.

    Raises:
        InputError: it is no date.
    """
    return replace(where, since=max(parse_date(date), -inf if where.since is None else where.since))


def until(where: Filter, date: str) -> Filter:
    """Let only files through that were changed before this day, month or year began.

    Raises:
        InputError: it is no date.
    """
    # A filter has both its ends in it.
    last = nextafter(parse_date(date), -inf)
    return replace(where, until=min(last, inf if where.until is None else where.until))


def of_types(where: Filter, endings: str) -> Filter:
    """Let also files through whose names end so: "heic", ".jpg,.png".

    Raises:
        InputError: one of them can end no name.
    """
    several = _listed(endings)
    for ending in several:
        if not _ENDING.fullmatch(ending):
            raise InputError(f"{ending!r} is no ending of file names such as jpg")
    return replace(where, types=where.types | frozenset(several))


def _of_kinds(where: Filter, kinds: str) -> Filter:
    known: dict[str, Kind] = {name: kind for kind in get_args(Kind) for name in (kind, f"{kind}s")}
    several = _listed(kinds.lower())
    for kind in several:
        if kind not in known:
            raise InputError(f"{kind!r} is none of {', '.join(get_args(Kind))}")
    return replace(where, kinds=where.kinds | {known[kind] for kind in several})


def _in_folder(where: Filter, folder: str) -> Filter:
    try:
        is_inside = Filter(under=folder) != ANYTHING
    except InputError:
        is_inside = False
    if not is_inside:
        raise InputError(f"{folder!r} is no folder inside the indexed one")
    return replace(where, under=(*where.under, folder))


_OPERATORS: Mapping[str, Callable[[Filter, str], Filter]] = {
    "kind": _of_kinds,
    "in": _in_folder,
    "after": since,
    "before": until,
    "type": of_types,
}


@dataclass(slots=True)
class _Reading:
    """What the words so far have said."""

    where: Filter
    asked: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    phrases: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    narrowed: bool = False

    def take(self, token: re.Match[str]) -> None:
        quoted, bare = token["quoted"], token["bare"]
        typed = bare.rstrip(",;") if quoted is None else quoted.strip()
        if token["operator"] and self._narrow(token["operator"].lower(), typed):
            return
        if token["operator"] and quoted is None:
            bare = token[0]
        value = _word(bare) if quoted is None else " ".join(quoted.split())
        if not _has_letters(value):
            # Punctuation is nothing to be found, but may mean something to the model.
            self.asked.append(token[0])
        elif token["without"]:
            self.without.append(value)
        elif quoted is None:
            self.asked.append(bare)
            self.words.append(value)
        else:
            self.asked.append(value)
            self.phrases.append(value)

    def _narrow(self, operator: str, value: str) -> bool:
        """Follow an operator; False, and a word about it, if its value makes no sense."""
        try:
            self.where = _OPERATORS[operator](self.where, value)
        except InputError as error:
            self.problems.append(f"{operator}:{value} is a word, because {error.message}")
            return False
        self.narrowed = True
        return True


def _described(wanted: Wanted, where: Filter) -> list[str]:
    """Each part of a question in some words."""
    found = [*wanted.words, *(f'"{phrase}"' for phrase in wanted.phrases)]
    without = [f'"{one}"' if " " in one else one for one in wanted.without]
    parts = {
        "words: ": " ".join(found),
        "without: ": " ".join(without),
        "": " or ".join(f"{kind}s" for kind in get_args(Kind) if kind in where.kinds),
        "in ": " or ".join(where.under),
        "since ": "" if where.since is None else _moment(where.since),
        "before ": "" if where.until is None else _moment(nextafter(where.until, inf)),
        "type: ": " or ".join(sorted(where.types)),
    }
    return [name + value for name, value in parts.items() if value]


def _moment(seconds: float) -> str:
    """A date, with the time of day unless that is midnight; in local time."""
    moment = datetime.fromtimestamp(round(seconds))
    return moment.date().isoformat() if moment.time() == time() else moment.isoformat(" ")


def _listed(values: str) -> list[str]:
    """The parts of "jpg,png". Raises InputError if there are none."""
    parts = [part for part in values.split(",") if part]
    if not parts:
        raise InputError("it has no value")
    return parts


def _word(token: str) -> str:
    """A token without the punctuation around it; "" if there is nothing else."""
    kept = [place for place, letter in enumerate(token) if unicodedata.category(letter)[0] in "LNM"]
    return token[kept[0] : kept[-1] + 1] if kept else ""


def _has_letters(text: str) -> bool:
    return any(unicodedata.category(letter)[0] in "LN" for letter in text)


def _once(words: Iterable[str]) -> tuple[str, ...]:
    """Each different word once, in order; capitals make no difference."""
    first: dict[str, str] = {}
    for word in words:
        first.setdefault(word.casefold(), word)
    return tuple(first.values())
