"""What does an index keep of the files of a folder, and what is asked of the store that keeps it?"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from numbers import Real
from pathlib import Path, PurePath
from typing import Literal, NamedTuple, Protocol, Self, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import InputError
from vlm2vec.items import Kind
from vlm2vec.text import counted

Vector: TypeAlias = NDArray[np.float32]
Field: TypeAlias = Literal["text", "about", "name"]
"""Where words of a unit stand: in it, in the description of it or of its file, or in its path."""

Why: TypeAlias = Literal["words", "name", "meaning", "look"]
"""How a hit was found: by words in it or in its description, by words in its path, by the meaning of its words, or by
how it looks."""

DEFAULT_NAME = ".vlm2vec"
"""Folder of an index inside the folder it is for."""

UNKNOWN = -1
"""Change time and inode of a file in an index that was made before they were stored."""

DECODING = 2
"""Counts the releases in which files came out of decoding otherwise than before."""

WORDS = 1
"""Counts the releases in which reading a file gave other words than before; 0: they were not read."""

# The integers of databases have 64 bits and a sign: a clock that is wrong by centuries needs more.
_LARGEST = 2**63 - 1
# Stores count nanoseconds in 63 bits.
_MOST_SECONDS = 9e9
# Vectors are stored with length 1, and were perhaps made in half precision.
_MOST_OFF = 0.01
# Some 150,000 words: more than any page has, and less than a text file may have.
_MOST_CHARACTERS = 1_000_000
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_LEAST_SPREAD = 1e-6
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What an index says of itself.

    Args:
        model, fingerprint: of the model that made the vectors; its name as given to `Embedder.load`.
        dim: dimensions of a vector.
        dtype: in which the model computed, such as "bfloat16"; None: the index does not say.
        folder: whose files are indexed, relative to the index where it lies inside.
        decoding: how files were decoded for the vectors; 1 for the first releases, which did not say so.
        text_vectors: whether the meaning of words is embedded too.
    """

    model: str
    fingerprint: str
    dim: int
    dtype: str | None
    folder: str
    decoding: int = DECODING
    text_vectors: bool = True


class Look(NamedTuple):
    """Of a file without reading it: as long as all of it stays, the file is taken to be as it was.

    Args:
        size: bytes.
        mtime_ns: modification time.
        ctime_ns: when content, name, owner or rights changed last, which no program can set.
        inode: the number that the file system gave the file, at most 63 bits of it.
    """

    size: int
    mtime_ns: int
    ctime_ns: int = UNKNOWN
    inode: int = UNKNOWN

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """That of a file of this status."""
        mtime_ns, ctime_ns = min(status.st_mtime_ns, _LARGEST), min(status.st_ctime_ns, _LARGEST)
        return cls(status.st_size, mtime_ns, ctime_ns, status.st_ino & _LARGEST)


class StoredFile(NamedTuple):
    """What a store knows of a file, without its vectors.

    Args:
        look: when it was indexed.
        content_hash: 32 hex digits of its bytes.
        num_units: parts the file has, readable or not.
        num_stored: those that are stored.
    """

    look: Look
    content_hash: str
    num_units: int
    num_stored: int

    @property
    def complete(self) -> bool:
        """Whether every part of the file is stored."""
        return self.num_stored == self.num_units


@dataclass(frozen=True, slots=True)
class Words:
    """Words of a unit, by where they stand. Those of its name are not among them: the store takes them from the path.

    Args:
        text: of the page, section, slide or subtitle passage itself. What exceeds 1,000,000 characters is cut off;
            surrogates and NUL, which are no text, become blanks.
        about: describes it: title, headings, outline, speaker notes, keywords, EXIF, IPTC and XMP description, dates;
            treated likewise.
    """

    text: str = ""
    about: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", _NO_TEXT.sub(" ", self.text[:_MOST_CHARACTERS]))
        object.__setattr__(self, "about", _NO_TEXT.sub(" ", self.about[:_MOST_CHARACTERS]))


@dataclass(frozen=True, slots=True)
class StoredUnit:
    """A picture, page, section or span with what it is found by.

    Args:
        page: number of the page, slide, sheet or section, counted from 1; None for a whole file or a span.
        span_s: start and end in a long video, in seconds; else None.
        vector: of its look, float32 [dim], of length one; None for what has no picture.
        passages: vectors of the meaning of its words, in their order, each like `vector`.
    """

    kind: Kind
    page: int | None
    span_s: tuple[float, float] | None
    vector: Vector | None
    words: Words = Words()
    passages: tuple[Vector, ...] = ()

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """All of them, that of its look first."""
        return self.passages if self.vector is None else (self.vector, *self.passages)


@dataclass(frozen=True, slots=True)
class FileRows:
    """A file as it is stored: all its units go in and out together.

    Args:
        path: relative to the indexed folder, with "/" between its parts; any bytes that a file name may have, as
            `os.fsdecode` gives them.
        num_units: parts the file has, readable or not.
        units: those that have a look, words or passages; at least one.
    """

    path: str
    look: Look
    content_hash: str
    num_units: int
    units: tuple[StoredUnit, ...]

    @property
    def stored(self) -> StoredFile:
        """What is known of it without its vectors."""
        return StoredFile(self.look, self.content_hash, self.num_units, len(self.units))

    def unit(self, page: int | None) -> StoredUnit:
        """The one part that is meant by its page, or by none.

        Raises:
            InputError: there is no such part, or there are several.
        """
        if page is None and self.num_units > 1:
            parts = f"{self.path} has {counted(self.num_units, 'part')}, each with its own vector"
            is_film = any(unit.span_s for unit in self.units)
            raise InputError(f"{parts}: {'search for Video(path, span_s=...)' if is_film else 'name a page'}")
        for unit in self.units:
            if page in (None, unit.page):
                return unit
        raise InputError(f"{self.path} has no page {page}")

    def oddities(self) -> Iterator[str]:
        """What cannot be right though it is as it was written, one sentence each."""
        if len(self.units) > self.num_units:
            yield f"{self.path} has {len(self.units)} stored parts of {self.num_units}"
        for unit in self.units:
            for length in (float(np.linalg.norm(vector)) for vector in unit.vectors):
                if not abs(length - 1) < _MOST_OFF:
                    yield f"a vector of {self.path} has the length {length:.3g}, not 1"
            if unit.kind not in get_args(Kind):
                yield f"{self.path} is of the unknown kind {unit.kind!r}"


class Failure(NamedTuple):
    """Why a file could not be read, and how it looked then; no look where even that could not be had."""

    reason: str
    look: Look | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which units may be hits.

    Args:
        kinds: of these kinds; empty: of any.
        under: a folder inside the indexed one, relative to it, or several: only files in one of them; empty: in any.
            It is kept as a tuple of folders, sorted.
        since, until: modification time of the file in seconds since 1970, both ends included.
        types: endings of file names, such as ".png"; empty: any.

    Raises:
        InputError: one of them is of another type, or can be true of no file.
    """

    kinds: frozenset[Kind] = frozenset()
    under: str | Collection[str] = ()
    since: float | None = None
    until: float | None = None
    types: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name, values in (("kinds", self.kinds), ("types", self.types)):
            if isinstance(values, str) or not isinstance(values, Collection):
                raise InputError(f"Filter.{name} is {values!r}: it must be a set")
        for kind in self.kinds:
            if kind not in get_args(Kind):
                raise InputError(f"no kind {kind!r}: use {', '.join(get_args(Kind))}")
        for name, time_s in (("since", self.since), ("until", self.until)):
            if time_s is not None and not (isinstance(time_s, Real) and abs(time_s) < _MOST_SECONDS):
                raise InputError(f"Filter.{name} is {time_s!r}: it must be a number of seconds since 1970")
        under = {_inside(folder) for folder in ([self.under] if isinstance(self.under, str) else self.under)}
        object.__setattr__(self, "kinds", frozenset(self.kinds))
        # In the indexed folder itself are all files.
        object.__setattr__(self, "under", () if "" in under else tuple(sorted(under)))
        object.__setattr__(self, "types", frozenset(f".{ending.lower().removeprefix('.')}" for ending in self.types))


ANYTHING = Filter()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Words that are looked for, as a person typed them: nothing in them is an operator.

    Args:
        words: any of them; one that has neither letters nor digits is found nowhere.
        phrases: likewise; the words of one stand beside each other in this order.
        without: words and phrases of which a unit must have none.
    """

    words: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


class Unit(NamedTuple):
    """A unit as results name it; see `StoredUnit` and `FileRows`."""

    path: str
    kind: Kind
    page: int | None
    span_s: tuple[float, float] | None
    content_hash: str

    @property
    def order(self) -> tuple[str, int, tuple[float, float]]:
        """Sorts equally good units: by path, page, span."""
        return self.path, self.page or 0, self.span_s or (0.0, 0.0)


class Near(NamedTuple):
    """A unit that was found by vector; of several passages, the best counts.

    Args:
        score: cosine similarity, at most 1.
        calibrated: how many spreads the score is above the mean of this vector's scores with the background questions;
            the score itself if the index has no background.
    """

    unit: Unit
    score: float
    calibrated: float


class Match(NamedTuple):
    """A unit that was found by words.

    Args:
        score: BM25; larger is better, and not comparable between questions.
        num_found: how many different words and phrases of the question it has, in its text, description or name.
        fields: where something was found.
        snippet: some 20 words around the first find, in which found words stand between "\\x02" and "\\x03"; "" if the
            name alone has them.
        num_as_typed: how many of them stand in its text or description as they were asked for, not with another ending.
    """

    unit: Unit
    score: float
    num_found: int
    fields: frozenset[Field]
    snippet: str
    num_as_typed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """Questions about anything, by which scores become comparable: a score counts by how far it exceeds theirs.

    Args:
        vectors: of the questions, float32 [B, dim], each of length one; at least two.

    Raises:
        InputError: the vectors have another shape, or another length.
    """

    vectors: Vector

    def __post_init__(self) -> None:
        vectors = np.asarray(self.vectors)
        if vectors.ndim != 2 or len(vectors) < 2 or vectors.dtype != np.float32:
            raise InputError(f"a background is float32 with two rows or more, not {vectors.dtype} {vectors.shape}")
        for length in np.linalg.norm(vectors, axis=1).tolist():
            if not abs(length - 1) < _MOST_OFF:
                raise InputError(f"a vector of the background has the length {length:.3g}, not 1")

    def mean_and_spread(self, vectors: Vector) -> tuple[Vector, Vector]:
        """Mean [N] and standard deviation [N] of the scores of each of `vectors` [N, dim] with the questions.

        Equal vectors have equal ones wherever they stand: float64 sums differ by their order in bits that float32 has
        not. The standard deviation is at least 1e-6, that of a vector to which all questions are one.
        """
        means, spreads = np.empty(len(vectors), np.float32), np.empty(len(vectors), np.float32)
        questions = self.vectors.T.astype(np.float64)
        for start in range(0, len(vectors), _ROWS_AT_ONCE):
            scores = vectors[start : start + _ROWS_AT_ONCE].astype(np.float64) @ questions
            means[start : start + len(scores)] = scores.mean(axis=1)
            spreads[start : start + len(scores)] = scores.std(axis=1).clip(_LEAST_SPREAD)
        return means, spreads


@dataclass(frozen=True, slots=True)
class Hit:
    """A file, page or span found.

    Args:
        path: relative to the indexed folder, with "/" between its parts.
        kind: "image", "video", "page", or "text" for a section without a picture of its own.
        score: of a text, from 0 to 1, and 0.5 at the line between what matches and what is only nearest, whatever the
            model and the size of the index; of a picture, page, film or vector, the cosine, at most 1. Better hits
            have larger scores.
        page: of a PDF, counted from 1; else None.
        span_s: start and end in a long video, in seconds; else None.
        weak: it is below that line: of 100 questions that make no sense, 5 have a hit above it. False for questions
            that are no text.
        why: the ways by which it was found.
        snippet: some words of it around those that were found, which stand between "\\x02" and "\\x03"; or "".
        copies: paths of other files that are the same: equal to the byte, or one picture in other encodings.
    """

    path: str
    kind: Kind
    score: float
    page: int | None = None
    span_s: tuple[float, float] | None = None
    weak: bool = False
    why: tuple[Why, ...] = ("look",)
    snippet: str = ""
    copies: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where in its file it lies: "page 3", "section 2", "0:30-1:00", or "" for the whole file."""
        if self.page is not None:
            return f"{'section' if self.kind == 'text' else 'page'} {self.page}"
        return "-".join(_clock(seconds) for seconds in self.span_s or ())


class Verdict(NamedTuple):
    """What a look through all of an index has found.

    Args:
        model: that made the index.
        num_files, num_units: indexed files, and their pictures, pages and spans.
        num_sealed: checksums that hold; None: the store has none, because it was made before there were any.
        problems: one sentence each; with some of them, the numbers may be 0.
    """

    model: str
    num_files: int
    num_units: int
    num_sealed: int | None
    problems: list[str]


Building: TypeAlias = Callable[[int], AbstractContextManager[object]]
"""Entered with the number of vectors while an approximate index is made, which takes minutes."""


class Store(Protocol):
    """The vectors and words of one index, and what is known of their files.

    Every method raises IndexFolderError where the store is damaged, and those that write raise StorageError where the
    disk refuses.
    """

    @property
    def place(self) -> Path:
        """The folder of the index."""

    @property
    def info(self) -> IndexInfo: ...

    @property
    def background(self) -> Background | None:
        """By which scores are calibrated; None: they are not."""

    def writing(self) -> AbstractContextManager[None]:
        """Held while the store is written: one writer at a time, however it ends, which begins with a `refresh`.

        Raises:
            BusyError: another process, or another writer of this one, holds it.
        """

    def refresh(self) -> None:
        """See what other processes have written since."""

    def files(self) -> Mapping[str, StoredFile]:
        """Every stored file by its path, as they are now."""

    def failures(self) -> dict[str, Failure]:
        """Files that could not be read at the last try, by their paths."""

    def read(self, paths: Sequence[str]) -> list[FileRows]:
        """Some files with their vectors and words, in the order of `paths`; those that are not stored are left out."""

    def commit(self, remove: Sequence[str], add: Sequence[FileRows]) -> None:
        """Let files go and put others in; one that is in both is replaced. A reader sees each file whole or not at all.

        A kill leaves what was before, or all of it; or, of a store that has no transactions, files missing that the
        next run adds.
        """

    def note_failures(self, failures: Mapping[str, Failure]) -> None:
        """Write down all files that could not be read, in place of those before."""

    def note_looks(self, looks: Mapping[str, Look]) -> None:
        """Write down how files look whose content is as it was."""

    def mark_outdated(self, paths: Sequence[str]) -> None:
        """Let files equal no file and no content, so that they are embedded anew; until then they are found."""

    def note_decoding(self) -> None:
        """Write down that all vectors are of files decoded as this release does."""

    def lacking_words(self) -> list[str]:
        """Stored files whose words were not read, or by an earlier `WORDS`, in the order of their paths.

        They are found by their looks. To commit them again with their words needs no look to be embedded anew: `read`
        gives it.
        """

    def note_background(self, background: Background) -> None:
        """Calibrate scores by a background from now on: mean and spread of all that is stored are made anew."""

    def count(self, kind: Kind | None = None) -> int:
        """Number of units of one kind, or of all."""

    def nearest(
        self,
        vector: Vector,
        limit: int,
        where: Filter = ANYTHING,
        *,
        of: Literal["look", "words"] = "look",
        calibrated: bool = False,
    ) -> list[Near]:
        """The `limit` units with the largest dot product with `vector` [dim], of length one; ties are exact.

        Args:
            of: compare their looks, or the meanings of their words.
            calibrated: the largest calibrated scores instead.

        Returns:
            Each unit once, sorted by that score, largest first; equal ones by path, page, span.
        """

    def matching(
        self, wanted: Wanted, limit: int, where: Filter = ANYTHING, *, names_only: bool = False
    ) -> list[Match]:
        """The units that have at least one of the wanted words and phrases and none of `wanted.without`.

        Words are found whole, whatever their case and accents; in texts also with another English ending. Of runs of
        Chinese, Japanese, Korean and the like, and of names, any part is found: of names if it has four characters.
        A file of many units of which nothing but the name is found is one match, by its first unit.

        Args:
            names_only: look for words and phrases in names alone, and count those that are there.

        Returns:
            Those of which most is found first, then those of the best score; equal ones by path, page, span.
        """

    def is_untidy(self) -> bool:
        """Whether `tidy` has something to do."""

    def tidy(self, building: Building) -> None:
        """Merge what many commits have left, and make an approximate index where the store needs one."""

    def verify(self) -> Verdict:
        """Read all of it, and compare it with its checksums."""

    def close(self) -> None: ...


def _inside(folder: str) -> str:
    """A folder as the paths of its files begin, without the "/". Raises InputError if it is not inside."""
    path = PurePath(folder)
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"Filter.under is {folder!r}: it must be relative to the indexed folder, and inside")
    return "/".join(path.parts)


def _clock(seconds: float) -> str:
    """As a player shows it: "1:05", "1:02:05"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
