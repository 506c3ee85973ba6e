"""What may a row of data hold, and which files may it name?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vlm2vec.errors import Action, DataError, Hint
from vlm2vec.items import MEDIA_MARKER
from vlm2vec.text import shortened

# Folders whose real place is remembered: asking for it takes a look at each of its parents, over a network perhaps.
_REMEMBERED = 1 << 16


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of one row, each checked when it is asked for.

    Args:
        values: by name.
        origin: which row it is, for messages; "" if the caller puts it in front.

    Raises, in every method:
        DataError: the column is missing or holds something else; the message names row and column.
    """

    values: Mapping[str, object]
    origin: str = ""

    def text(self, column: str, *, nullable: bool = False) -> str:
        """A text; null is "" where that is allowed."""
        value = self.value(column)
        return "" if nullable and value is None else self.checked(value, column)

    def texts(self, column: str) -> list[str]:
        """A list of texts."""
        return [self.checked(value, column) for value in self.entries(column)]

    def entries(self, column: str) -> list[object]:
        """A list of anything."""
        values = self.value(column)
        if not isinstance(values, list):
            raise self.wrong(column, f"holds {shortened(values)}: it must be a list")
        return values

    def number(self, column: str) -> int:
        """A whole number."""
        value = self.value(column)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(column, f"holds {shortened(value)}: it must be a whole number")
        return value

    def key(self, column: str) -> str:
        """A text or a whole number that identifies something, as text."""
        value = self.value(column)
        return self.checked(value, column) if isinstance(value, str) else str(self.number(column))

    def picture(self, column: str) -> bytes | str:
        """A picture as the library `datasets` stores it: its bytes, or its path if there are none."""
        value = self.value(column)
        data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (None, value)
        if isinstance(data, bytes) and data:
            return data
        if not isinstance(path, str) or not path:
            raise self.wrong(column, f"holds {shortened(value)}: it must be a picture, as bytes or path")
        return path

    def value(self, column: str) -> object:
        """Anything."""
        if column not in self.values:
            raise self.wrong(column, f"is missing: the row has {', '.join(self.values) or 'none'}")
        return self.values[column]

    def checked(self, value: object, column: str) -> str:
        """A value of the column as a text, in which no place of a medium is marked."""
        if not isinstance(value, str):
            raise self.wrong(column, f"holds {shortened(value)}: it must be a text")
        if MEDIA_MARKER in value:
            raise self.wrong(column, f"holds the text {MEDIA_MARKER}, which would be taken for a medium's place")
        return value

    def wrong(self, column: str, problem: str) -> DataError:
        """The error that says what is wrong with a column."""
        return DataError(f"{self.origin and self.origin + ': '}column {column!r} {problem}")


def check_inside(path: Path, folders: Iterable[Path], *hints: Hint | Action, remedy: str = "") -> None:
    """Refuse a path that leads out of some folders; links count by where they lead.

    A folder may itself be a link. Where it lies in a snapshot of the hub's cache, whose files are links to blobs, these
    belong to it.

    Args:
        path: what a row names, joined to the folder that it is relative to.
        folders: where it may be.
        hints, remedy: what allows other places, for the message.

    Raises:
        DataError: it leads elsewhere, or is no path.
    """
    if "\0" in str(path):
        raise DataError(f"{str(path)!r} is no path: it holds a null character")
    leads_to = _real(_absolute(path))
    allowed = [place for folder in folders for place in _places(_absolute(folder))]
    if not any(os.path.normcase(leads_to + os.sep).startswith(place) for place in allowed):
        names = " and ".join(dict.fromkeys(str(folder) for folder in folders))
        advice = f"put the file there{remedy and ', or ' + remedy}"
        raise DataError(f"{path} leads to {leads_to}, outside of {names}: {advice}", *hints)


def _absolute(path: Path) -> str:
    # Without taking ".." out, which leads elsewhere behind a link.
    return os.path.join(os.getcwd(), path)


def _real(path: str) -> str:
    """Where a path leads; what is not there counts by its name."""
    folder, name = os.path.split(path)
    if name in ("", os.curdir, os.pardir):
        return os.path.realpath(path)
    place = os.path.join(_real_folder(folder), name)
    return os.path.realpath(place) if os.path.islink(place) else place


@lru_cache(maxsize=_REMEMBERED)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


@lru_cache(maxsize=_REMEMBERED)
def _places(folder: str) -> tuple[str, ...]:
    """The folder's real place, and the blobs that links in it lead to, each with a separator behind."""
    real = os.path.realpath(folder)
    # datasets--a--b/snapshots/<revision>/... beside datasets--a--b/blobs
    snapshots = [parent for parent in Path(real).parents if parent.name == "snapshots"]
    blobs = [os.path.realpath(parent.parent / "blobs") for parent in snapshots if (parent.parent / "blobs").is_dir()]
    return tuple(os.path.normcase(place.rstrip(os.sep) + os.sep) for place in (real, *blobs))
