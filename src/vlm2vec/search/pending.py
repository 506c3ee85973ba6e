"""What of a file has its vectors, and what is it stored as when all are there?"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from vlm2vec.search.contents import Content
from vlm2vec.search.parts import Part
from vlm2vec.search.scan import FoundFile
from vlm2vec.search.store import FileRows, StoredUnit, Vector


class Piece(NamedTuple):
    """Which vector of a file some work is for: the look of a part, or one of the passages of its words."""

    part: int
    passage: int | None


@dataclass(slots=True)
class PendingFile:
    """A content that is being embedded, for one file or for several that are equal.

    Args:
        no_words: why the words of the file could not be read; "" if they could.
        looks: of each part the vector of its picture; None if there is none yet, or no picture.
        passages: of each part those of its passages.
        num_waiting: vectors that are to come.
        errors: why a part cannot be embedded, by its number.
        num_unread: passages that the model cannot read.
        passing: whether one of the errors may be over soon.
    """

    content: Content
    files: list[FoundFile]
    parts: list[Part]
    no_words: str
    looks: list[Vector | None]
    passages: list[list[Vector | None]]
    num_waiting: int
    errors: dict[int, str] = field(default_factory=dict)
    num_unread: int = 0
    passing: bool = False

    def put(self, place: Piece, vector: Vector) -> None:
        """Take in a vector."""
        if place.passage is None:
            self.looks[place.part] = vector
        else:
            self.passages[place.part][place.passage] = vector

    def rows(self, file: FoundFile) -> FileRows:
        """One of the files as it is stored."""
        units = [unit for number in range(len(self.parts)) if (unit := self._unit(number)) is not None]
        return FileRows(file.path, file.look, self.content[0], len(self.parts), tuple(units))

    def reason(self, path: Path) -> str | None:
        """Why the file at `path` counts as failed: its first error, and how many of its parts have one."""
        if not self.errors:
            return None
        number = min(self.errors)
        medium = self.parts[number].medium
        # The error names the one of several equal files that was decoded.
        first = self.errors[number] if medium is None else self.errors[number].replace(str(medium.source), str(path))
        if len(self.parts) == 1:
            return first
        return f"{first} ({len(self.errors)} of its {len(self.parts)} parts failed)"

    def _unit(self, number: int) -> StoredUnit | None:
        """What is stored of a part; None if it has a picture that has no vector."""
        part, look = self.parts[number], self.looks[number]
        if part.medium is not None and look is None:
            return None
        passages = tuple(vector for vector in self.passages[number] if vector is not None)
        return StoredUnit(part.kind, part.page, part.span_s, look, part.words, passages)
