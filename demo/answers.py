"""What does the demo ask, and which first hits are right?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

if TYPE_CHECKING:
    from vlm2vec import Hit, Library

HERE = Path(__file__).parent


class Question(TypedDict):
    """One of queries.json.

    Args:
        shows: what the question is there for.
        text: what is asked for; or else
        image: a picture beside this file.
        right: the path that has to be first, and not weak; without one, no hit may be more than weak.
        page: the number of its page, slide or section.
        span_s: start and end of its span of a film, in whole seconds.
    """

    shows: str
    text: NotRequired[str]
    image: NotRequired[str]
    right: NotRequired[str]
    page: NotRequired[int]
    span_s: NotRequired[list[int]]


def read_questions() -> list[Question]:
    """All questions of the demo."""
    questions: list[Question] = json.loads((HERE / "queries.json").read_text("utf-8"))
    return questions


def first_hit(library: Library, question: Question) -> Hit:
    """The best hit, weak or not."""
    [hit] = library.search(HERE / question["image"] if "image" in question else question["text"], k=1)
    return hit


def is_right(hit: Hit, question: Question) -> bool:
    """Whether the first hit is what was asked for, down to its page or span."""
    if "right" not in question:
        return hit.weak
    span_s = [round(seconds) for seconds in hit.span_s or ()]
    expected = question["right"], question.get("page"), question.get("span_s", [])
    return not hit.weak and (hit.path, hit.page, span_s) == expected
