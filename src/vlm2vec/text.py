"""How are values, names and tables put into words that a terminal or a page can show?"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Sequence

_WRITER = reprlib.Repr()
_WRITER.maxstring = _WRITER.maxother = _WRITER.maxlist = _WRITER.maxtuple = _WRITER.maxdict = 60


def printable(name: str) -> str:
    """A name as it can be shown: each letter that is no text, or would steer a terminal, becomes "\ufffd"."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name)


def shortened(value: object, limit: int = 60) -> str:
    """How a value is written in Python, cut to `limit` characters: a whole file may stand in its place."""
    # Cut before it is written down, too: that would take seconds for a text of gigabytes.
    shown = repr(value[: limit + 1]) if isinstance(value, (str, bytes)) else _WRITER.repr(value)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The most similar known name as the rest of a sentence, such as "; did you mean 'colour'?"; "" if none is.

    A name that begins with the given one comes before one that is more similar: ImageNet means ImageNet-1K, not
    ImageNet-R.
    """
    by_word = {one.lower(): one for one in known}
    begun = [word for word in by_word if word.startswith(name.lower())] if name else []
    close = begun or difflib.get_close_matches(name.lower(), list(by_word), n=1)
    return f"; did you mean {by_word[close[0]]!r}?" if close else ""


def counted(count: int, one: str, several: str | None = None) -> str:
    """A number with its noun: "1 file", "1,200 files"."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def aligned(table: Sequence[Sequence[str]], *, num_left: int = 1) -> str:
    """Rows of cells in columns for a terminal, the first `num_left` of them to the left and the others to the right."""
    columns = []
    for place, cells in enumerate(zip(*table, strict=True)):
        width = max(map(len, cells))
        columns.append([cell.ljust(width) if place < num_left else cell.rjust(width) for cell in cells])
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a table in Markdown; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in table]
    lines.insert(1, "|" + "---|" * len(table[0]))
    return "\n".join(lines)
