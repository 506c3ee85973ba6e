"""What does the demo ask, and which first hits are right?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

if TYPE_CHECKING:
    from vlm2vec import Library

HERE = Path(__file__).parent
NOTHING = "nothing matches"


class Question(TypedDict):
    """One of queries.json.

    Args:
        shows: what the question is there for.
        text: what is asked for; or else
        image: a picture beside this file.
        right: the path that has to be first; without one, no hit may be more than weak.
        place: which page or span of it.
    """

    shows: str
    text: NotRequired[str]
    image: NotRequired[str]
    right: NotRequired[str]
    place: NotRequired[str]


def read_questions() -> list[Question]:
    """All questions of the demo."""
    questions: list[Question] = json.loads((HERE / "queries.json").read_text("utf-8"))
    return questions


def expected(question: Question) -> str:
    """The first hit that is right, as `answer` writes it."""
    return f"{question['right']}  {question.get('place', '')}".rstrip() if "right" in question else NOTHING


def answer(library: Library, question: Question) -> str:
    """The first hit with its page or span, or that there is none above the line."""
    [hit] = library.search(HERE / question["image"] if "image" in question else question["text"], k=1)
    return NOTHING if hit.weak else f"{hit.path}  {hit.place}".rstrip()
