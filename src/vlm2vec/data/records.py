"""What is a training pair, and how does a row of one's own data become one?"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from vlm2vec.data.rows import Columns
from vlm2vec.data.tables import JsonLines, Table
from vlm2vec.errors import DataError, InputError, VLM2VecError
from vlm2vec.items import Image, Item, Target, Video, as_item

_NEEDED, _OPTIONAL = {"query", "positive"}, {"label", "negatives"}


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


Row: TypeAlias = Mapping[str, object]
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
