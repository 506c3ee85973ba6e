"""Which words does a file hold, and on which page or at which time of it?"""

from __future__ import annotations

from typing import NamedTuple


class PartWords(NamedTuple):
    """Words of a part of a file: a page, a section, a passage of a film.

    Args:
        text: that stands in the part itself.
        about: describes it: a heading, a chapter's title, notes.
        page: number of the page, slide, sheet or section, counted from 1; None for a file that has none.
        span_s: start and end in a film, in seconds; None for what has no clock.
    """

    text: str
    about: str = ""
    page: int | None = None
    span_s: tuple[float, float] | None = None


class FileWords(NamedTuple):
    """Words of a file.

    Args:
        about: describes the file as a whole: title, author, keywords, dates.
        parts: in the order in which they come in the file.
        notes: what is left out though it is there, one sentence each, without the path: "the words from page 9 on are
            left out: ...". They are shown to the user.
    """

    about: str
    parts: tuple[PartWords, ...]
    notes: tuple[str, ...] = ()
