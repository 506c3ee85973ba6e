"""What is stored of a vector, what is known of a file, and what is a hit?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlm2vec.items import Target

Vector = NDArray[np.float32]

UNKNOWN = -1
"""Change time and inode of a file in an index that was made before they were stored."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A file, page or span found.

    Args:
        path: relative to the indexed folder, with "/" between its parts.
        kind: "image", "video" or "page".
        score: cosine similarity with the query, at most 1.
        page: of a PDF, counted from 1; else None.
        span_s: start and end in a long video, in seconds; else None.
    """

    path: str
    kind: Target
    score: float
    page: int | None = None
    span_s: tuple[float, float] | None = None

    @property
    def place(self) -> str:
        """Where in its file it lies: "page 3", "0:30-1:00", or "" for the whole file."""
        if self.page is not None:
            return f"page {self.page}"
        return "-".join(_clock(seconds) for seconds in self.span_s or ())


def hit_order(hit: Hit) -> tuple[float, str, int, tuple[float, float]]:
    """Sort key of hits: best score first; equal scores by path, page, span."""
    return -hit.score, hit.path, hit.page or 0, hit.span_s or (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Row:
    """One vector as it is stored, with what is known of its file.

    `num_units` counts the parts the file has, readable or not, so that a file with fewer rows is known as incomplete.
    """

    path: str
    kind: Target
    page: int | None
    span_s: tuple[float, float] | None
    num_units: int
    content_hash: str
    size: int
    mtime_ns: int
    vector: Vector
    ctime_ns: int = UNKNOWN
    inode: int = UNKNOWN


class StoredFile(NamedTuple):
    """What the table knows of a file, without its vectors."""

    size: int
    mtime_ns: int
    content_hash: str
    num_units: int
    num_rows: int
    ctime_ns: int = UNKNOWN
    inode: int = UNKNOWN

    @property
    def complete(self) -> bool:
        """Whether every part of the file has its row."""
        return self.num_rows == self.num_units


def _clock(seconds: float) -> str:
    """As a player shows it: "1:05", "1:02:05"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
