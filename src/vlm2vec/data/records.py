"""What may a row of data hold, which files may it name, and how does it become a training pair?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from vlm2vec.data.tables import JsonLines, Table
from vlm2vec.errors import Action, DataError, Hint, InputError, VLM2VecError
from vlm2vec.items import MEDIA_MARKER, Image, Item, Target, Video, as_item
from vlm2vec.text import shortened

_NEEDED, _OPTIONAL = {"query", "positive"}, {"label", "negatives"}

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


@dataclass(frozen=True, slots=True)
class Pair:
    """One training example.

    Args:
        query, positive: the two items that belong together.
        label: rows of equal label are no negatives of each other where the loss masks them; None: no such label.
        origin: file and line, for messages.
        negatives: hard negatives: items that look like an answer to the query and are none.
    """

    query: Item
    positive: Item
    label: str | None
    origin: str
    negatives: tuple[Item, ...] = ()

    @property
    def target(self) -> Target | None:
        """Kind of what the query looks for, whose instruction it is asked with; None for a text."""
        return self.positive.media[0].kind if self.positive.media else None


Check: TypeAlias = Callable[[Path], object]
Parse: TypeAlias = Callable[[Columns, str], Pair]
"""From a row and its name to a pair. Raises VLM2VecError, without the name, where the row is wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class PairRows(Sequence[Pair]):
    """The pairs of a table, each made when it is asked for; can be pickled if `parse` can.

    Args:
        table: the rows.
        parse: what makes a pair of one.
        rows: numbers of the rows that count, in order.
    """

    table: Table
    parse: Parse
    rows: range | NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int, /) -> Pair: ...

    @overload
    def __getitem__(self, index: slice, /) -> list[Pair]: ...

    def __getitem__(self, index: int | slice, /) -> Pair | list[Pair]:
        """Make a pair.

        Raises:
            DataError: its row cannot be read or is malformed; the message begins with its name.
        """
        if isinstance(index, slice):
            return [self[position] for position in range(len(self))[index]]
        row = int(self.rows[index])
        name, values = self.table.name(row), Columns(self.table[row])
        try:
            return self.parse(values, name)
        except VLM2VecError as error:
            raise DataError(f"{name}: {error.message}", *error.hints) from None


def read_pairs(path: Path) -> Sequence[Pair]:
    """Open a JSONL file of pairs; a line is read, and its mistakes are told, when its pair is asked for.

    Each line is an object with `query` and `positive`, both an object of `text`, `image`, `video` (a file, or a folder
    of frames) and `instruction`, or just a text; optionally a `label` and a list `negatives` of such objects. Paths are
    relative to the file.

    Raises:
        DataError: the file cannot be read or is empty; later, a line is malformed: the message names it.
    """
    table = JsonLines.open(path)
    if not len(table):
        raise DataError(f"{path} holds no pair")
    return PairRows(table, partial(parse_pair, folder=path.parent), range(len(table)))


def parse_pair(columns: Columns, name: str, folder: Path, check: Check = lambda path: None) -> Pair:
    """Make a pair of a row as `read_pairs` describes it, with paths relative to `folder`.

    Raises:
        InputError: the row is malformed; DataError: `check` refuses a path that it names.
    """
    row = columns.values
    if not set(row) >= _NEEDED or not set(row) <= _NEEDED | _OPTIONAL:
        raise InputError(
            "a row is an object with 'query', 'positive', optionally 'label' and 'negatives', "
            f"not with {', '.join(map(repr, row)) or 'nothing'}"
        )
    label, negatives = row.get("label"), row.get("negatives")
    if label is not None and not isinstance(label, str):
        raise InputError(f"the label is {label!r}, it must be a string")
    if negatives is not None and not isinstance(negatives, list):
        raise InputError(f"'negatives' is {negatives!r}, it must be a list of items")
    values = (row["query"], row["positive"], *(negatives or ()))
    query, positive, *others = (item_of(value, folder, check) for value in values)
    return Pair(query, positive, label, name, tuple(others))


def item_of(value: object, folder: Path, check: Check = lambda path: None) -> Item:
    """Make an item of a text or of an object as `as_item` takes it, with paths relative to `folder`.

    Raises:
        InputError: it is neither, or holds neither text nor medium; DataError: `check` refuses a path that it names.
    """
    if not isinstance(value, (str, dict)):
        raise InputError(f"an item is a text or an object, not {value!r}")
    item = as_item(value)
    if not item.text and not item.media:
        raise InputError("an item has neither text nor medium")
    media = tuple(_under(folder, medium) for medium in item.media)
    for medium in media:
        for source in medium.source if isinstance(medium.source, tuple) else (medium.source,):
            if isinstance(source, Path):
                check(source)
                for link in _links_in(source) if isinstance(medium, Video) else ():
                    check(link)
    return Item(item.text, media, item.instruction)


def _under(folder: Path, medium: Image | Video) -> Image | Video:
    if isinstance(medium.source, Path):
        return replace(medium, source=folder / medium.source)
    if isinstance(medium, Video) and isinstance(medium.source, tuple):
        return replace(medium, source=tuple(folder / one if isinstance(one, Path) else one for one in medium.source))
    return medium


def _links_in(folder: Path) -> list[Path]:
    """The links in a folder, sorted; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in entries if entry.is_symlink())
    except OSError:
        return []


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
