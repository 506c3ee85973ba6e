"""How is each kind of task asked for? Instructions in many wordings, so that none of them alone means its task."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from holdouts import BENCHMARK_INSTRUCTIONS, is_held_wording
from rows import INSTRUCTIONS, Row
from wordings import read_words

QUERIES, DOCUMENTS = (read_words("instructions")[name] for name in ("queries", "documents"))
SLOTS, OPENINGS, PATTERNS = (read_words("patterns")[name] for name in ("slots", "openings", "patterns"))

NO_INSTRUCTION = 0.1
"""Share of the rows that go without one, where what is asked can be told without."""

PLAIN_QUERIES = 0.3
"""The same for the queries of corpus.py's files."""

PATTERNED = 0.5
"""Share of the instructions of training rows that are made by a pattern."""

CORPUS_KINDS = {
    "caption_to_image": ("text for images", "image"),
    "caption_to_drawing": ("text for images", "image"),
    "image_to_caption": ("image for texts", ""),
    "image_to_image": ("image for images", "image"),
    "text_to_video": ("text for videos", "video"),
    "video_to_text": ("video for texts", ""),
    "text_to_page": ("text for pages", "page"),
    "text_to_text": ("text for texts", ""),
}
"""For each file of corpus.py the kinds of its queries' and its documents' instructions; "" for none."""

_NEEDED = {"image to class", "image to group", "chart to class", "clip to motion", "clip to thing"}
"""Without their instruction nothing would say which of several tasks on the same picture or clip is meant."""

_VERBS = ("{find}", "{name}", "{say}", "{represent}", "{answer}")
"""Slots of imperatives."""


def instruction(kind: str, rng: random.Random, *, held: bool = False) -> str:
    """One wording for a kind of `QUERIES` or `DOCUMENTS`, "" for a tenth of those that can do without.

    Held rows draw among the held ones of those written by hand; training rows half of the time among the others, and
    else make one by a pattern. What `rows.INSTRUCTIONS` has is the default of the shipped model and always trained.
    """
    if kind not in _NEEDED and rng.random() < NO_INSTRUCTION:
        return ""
    wordings = QUERIES.get(kind) or DOCUMENTS[kind]
    if not held and rng.random() < PATTERNED:
        return _patterned(kind, rng)
    return rng.choice([words for words in wordings if is_held_instruction(words) is held] or wordings)


def _patterned(kind: str, rng: random.Random) -> str:
    """A sentence by one of the kind's patterns that is neither held out nor one of mmeb-mini's."""
    while True:
        pattern = rng.choice(PATTERNS[kind])
        words = re.sub(r"{(\w+)}", lambda slot: rng.choice(SLOTS[slot[1]]), pattern)
        known = _capital(words) in BENCHMARK_INSTRUCTIONS
        if pattern.startswith(_VERBS):
            words = rng.choice(OPENINGS) + words
        words = _capital(words)
        if not words.endswith("?"):
            words += rng.choice((".", ".", ":", ":", ""))
        if not known and not is_held_instruction(words):
            return words


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def worded(file: str, rows: Sequence[Row]) -> list[Row]:
    """Training rows of a file of corpus.py with their instructions in many wordings, or without one.

    Query and document draw apart, so that how one is asked for does not give the other away; hard negatives are worded
    as their positive. More queries go without one than are elsewhere: a search without a kind is such a question.
    """
    asks, notes = CORPUS_KINDS[file]
    found: list[Row] = []
    for number, row in enumerate(rows):
        rng = random.Random(f"instructions/{file}/{number}")
        ask = "" if rng.random() < PLAIN_QUERIES else instruction(asks, rng)
        note = instruction(notes, rng) if notes else ""
        parts = {"query": row["query"] | {"instruction": ask}, "positive": row["positive"] | {"instruction": note}}
        if "negatives" in row:
            parts["negatives"] = [part | {"instruction": note} for part in row["negatives"]]
        found.append(row | parts)
    return found


def is_held_instruction(words: str) -> bool:
    """Whether it is kept for evaluation."""
    return is_held_wording(words) and words not in INSTRUCTIONS.values()
