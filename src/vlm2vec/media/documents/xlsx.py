"""Which words and values does an XLSX hold?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from vlm2vec.errors import LimitError
from vlm2vec.media.documents.archive import Archive, open_archive
from vlm2vec.media.documents.markup import End, Event, Start, skip, text_of
from vlm2vec.media.documents.office import main_part, read_properties, relations
from vlm2vec.media.source import Limits
from vlm2vec.media.words import FileWords, PartWords

# Of ECMA-376, part 1, 18.8.30: formats of numbers that are dates or times, without any code in the file.
_DATE_FORMATS = frozenset({*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)})
# Codes of dates, once texts in quotes, escaped letters, colours and conditions are gone.
_NO_CODES = re.compile(r'"[^"]*"|\\.|_.|\*.|\[[^\]]*\]')
_DATE_CODE = re.compile(r"[ymdhs]", re.IGNORECASE)


class _Book(NamedTuple):
    """What cells refer to: texts, which styles are dates, and the day 0."""

    texts: list[str]
    dates: list[bool]
    epoch: datetime


def read_xlsx(path: Path, limits: Limits) -> FileWords:
    """A part for each sheet, hidden ones too: a line for each row, cells parted by tabs, the results of formulas.

    Dates are written as in "2024-03-05". The name of a sheet describes it.

    Raises:
        MediaError: missing, no XLSX, encrypted or damaged. LimitError: larger than `limits` allow.
    """
    with open_archive(path, limits) as archive:
        title, about = read_properties(archive)
        workbook = main_part(archive)
        targets = relations(archive, workbook)
        names: list[tuple[str, str]] = []
        epoch = datetime(1899, 12, 30)
        for event in archive.events(workbook):
            if isinstance(event, Start) and event.name == "sheet":
                names.append((event.attributes.get("name", ""), event.attributes.get("r:id", "")))
            elif isinstance(event, Start) and event.name == "workbookPr":
                epoch = datetime(1904, 1, 1) if event.attributes.get("date1904") in ("1", "true") else epoch
        if len(names) > limits.pages:
            raise LimitError(f"{path} has more than the {limits.pages:,} sheets allowed; split it into parts")
        others = {relation.kind: relation.path for relation in targets.values() if relation.path in archive}
        texts = list(_shared_texts(archive.events(others["sharedStrings"]))) if "sharedStrings" in others else []
        dates = _date_styles(archive.events(others["styles"])) if "styles" in others else []
        book = _Book(texts, dates, epoch)
        parts = []
        for number, (name, reference) in enumerate(names, 1):
            # A sheet of macros or one that is a chart has no rows.
            sheet = targets[reference].path if reference in targets else ""
            rows = "\n".join(_rows(archive, sheet, book)) if sheet in archive else ""
            parts.append(PartWords(rows, "\n".join(filter(None, (title, name))), page=number))
    return FileWords(about, tuple(parts))


def _rows(archive: Archive, sheet: str, book: _Book) -> Iterator[str]:
    cells: list[str] = []
    events = archive.events(sheet)
    for event in events:
        if isinstance(event, Start) and event.name == "c":
            cells.append(_cell(event.attributes, events, book))
        elif isinstance(event, End) and event.name == "row":
            if row := "\t".join(filter(None, cells)):
                yield row
            cells = []


def _cell(attributes: dict[str, str], events: Iterator[Event], book: _Book) -> str:
    """What a cell that has just begun shows, in one line."""
    value = ""
    for event in events:
        if isinstance(event, Start) and event.name in ("v", "is"):
            value = _text(events) if event.name == "is" else text_of(events)
        elif isinstance(event, Start) and event.name == "f":
            skip(events)
        elif isinstance(event, End) and event.name == "c":
            break
    kind = attributes.get("t", "n")
    if kind == "s":
        number = int(value) if value.isdecimal() else -1
        value = book.texts[number] if 0 <= number < len(book.texts) else ""
    elif kind == "b":
        value = {"0": "FALSE", "1": "TRUE"}.get(value, value)
    elif kind == "n" and value:
        style = attributes.get("s", "")
        is_date = style.isdecimal() and int(style) < len(book.dates) and book.dates[int(style)]
        value = _number(value, book.epoch if is_date else None)
    return " ".join(value.split())


def _number(value: str, epoch: datetime | None) -> str:
    """A number as Excel shows it, with 15 digits at most; a date if it counts days from an epoch."""
    try:
        number = float(value)
    except ValueError:
        return value
    if epoch is None:
        return f"{number:.15g}"
    try:
        when = epoch + timedelta(seconds=round(number * 86_400))
    except (OverflowError, ValueError):
        return f"{number:.15g}"
    if number < 1:
        return f"{when:%H:%M}"
    return f"{when:%Y-%m-%d}" if number == int(number) else f"{when:%Y-%m-%d %H:%M}"


def _shared_texts(events: Iterator[Event]) -> Iterator[str]:
    for event in events:
        if isinstance(event, Start) and event.name == "si":
            yield _text(events)


def _text(events: Iterator[Event]) -> str:
    """The text of an element that has just begun, in one format or several, without how it is pronounced."""
    texts: list[str] = []
    for event in events:
        if isinstance(event, Start) and event.name == "t":
            texts.append(text_of(events))
        elif isinstance(event, Start) and event.name == "rPh":
            skip(events)
        elif isinstance(event, End) and event.name in ("si", "is"):
            break
    return "".join(texts)


def _date_styles(events: Iterator[Event]) -> list[bool]:
    """Of each style of cells, whether it shows numbers as dates or times."""
    codes: dict[str, str] = {}
    styles: list[bool] = []
    is_inside = False
    for event in events:
        if isinstance(event, Start) and event.name == "numFmt":
            codes[event.attributes.get("numFmtId", "")] = event.attributes.get("formatCode", "")
        elif isinstance(event, Start | End) and event.name == "cellXfs":
            is_inside = isinstance(event, Start)
        elif isinstance(event, Start) and event.name == "xf" and is_inside:
            number = event.attributes.get("numFmtId", "")
            if number in codes:
                styles.append(bool(_DATE_CODE.search(_NO_CODES.sub("", codes[number]))))
            else:
                styles.append(number.isdecimal() and int(number) in _DATE_FORMATS)
    return styles
