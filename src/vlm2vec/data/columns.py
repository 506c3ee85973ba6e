"""What do the columns of a row hold? Each is checked when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vlm2vec.errors import DataError
from vlm2vec.items import MEDIA_MARKER
from vlm2vec.text import shortened


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of one row.

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
