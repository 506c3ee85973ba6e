"""Which files are the same picture, to the byte or in another encoding or size?

Files of equal content have equal hashes. Of others the vectors say which might be the same picture, and a small version
of both, in colour, whether they are. Vectors alone cannot tell: with the default model a photograph and its version of
half the size may have a cosine of 0.67, and two landscapes have 0.90.

Measured on 103 photographs and drawings: the likeness of both versions is at least 0.994 for JPEGs of quality 30 and
for half the size, and at least 0.995 for 95 % of those of a quarter of it. Of 5,253 pairs of different ones none is
above 0.06, and pages of text in one layout are not above 0.85. What cannot be told apart in little is taken for the
same: nearly empty pages (0.995), and drawings of people that differ in the colour of their skin alone (up to 0.997).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import MediaError
from vlm2vec.items import Image
from vlm2vec.search.store import Store, Unit, Vector

if TYPE_CHECKING:
    from vlm2vec.media import Limits

# Cosines from which on two pictures are compared. A search must not decode many: none of 5,253 pairs of different
# pictures has 0.95, but at least 95 % of JPEGs of quality 75 have, and half of those of half the size. Five of the
# pairs have 0.8, with at least 95 % of those of half the size, and three in four of those of a quarter of it.
_LIKE_IN_HITS, _LIKE_IN_FOLDER = 0.95, 0.8
_SIDE = 32
_SAME = 0.993
# A side of 40 pixels that is halved may be wrong by 2.5 % of itself.
_MOST_STRETCHED = 0.025
# Of 255. Encoding moves it by less than 3.
_MOST_TINTED = 6.0
_ROWS_AT_ONCE = 512
# With models whose vectors lie close together, every picture is like every other one.
_MOST_LIKE = 20
_FILES_AT_ONCE = 1024


class Group(NamedTuple):
    """Files that are the same picture, or equal to the byte.

    Args:
        contents: paths relative to the indexed folder, those of equal content together; all in order.
    """

    contents: tuple[tuple[str, ...], ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """All files of the group."""
        return tuple(path for paths in self.contents for path in paths)

    @property
    def is_exact(self) -> bool:
        """Whether all of them are equal to the byte."""
        return len(self.contents) == 1


class Pictures:
    """Pictures of a folder in a small version each, which is made when it is first asked for.

    Args:
        folder: whose files they are.
        limits: of the files that are read; else `vlm2vec.media.DEFAULT_LIMITS`.
    """

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self._folder = folder
        self._limits = limits
        self._small: dict[str, _Small | None] = {}

    def are_same(self, path: str, other: str) -> bool:
        """Whether two files are one picture; False if one of them can no longer be read."""
        one, another = self._small_of(path), self._small_of(other)
        return one is not None and another is not None and one.likeness(another) >= _SAME

    def _small_of(self, path: str) -> _Small | None:
        if path not in self._small:
            try:
                self._small[path] = _Small.of(Image(self._folder / path), self._limits)
            except MediaError:
                self._small[path] = None
        return self._small[path]


class _Small(NamedTuple):
    """A picture in little.

    Args:
        aspect: width by height.
        colour: mean of its red, green and blue, from 0 to 255.
        levels: what each pixel has more or less of them, with length one; zeros if all pixels are equal.
    """

    aspect: float
    colour: NDArray[np.float32]
    levels: NDArray[np.float32]

    @classmethod
    def of(cls, image: Image, limits: Limits | None) -> _Small:
        # Here, because most searches decode nothing.
        from vlm2vec.media import DEFAULT_LIMITS, open_image
        from vlm2vec.media.image import on_white, open_picture

        limits = limits or DEFAULT_LIMITS
        with open_picture(image.source, limits) as opened:
            # Of a JPEG, no more is decoded than is needed.
            opened.draft("RGB", (4 * _SIDE, 4 * _SIDE))
            picture = on_white(open_image(Image(opened), limits)).convert("RGB")
        pixels = np.asarray(picture.resize((_SIDE, _SIDE), reducing_gap=3.0), np.float32).reshape(-1, 3)
        colour = pixels.mean(0)
        levels = (pixels - colour).ravel()
        length = np.linalg.norm(levels)
        return cls(picture.width / picture.height, colour, levels / length if length else levels)

    def likeness(self, other: _Small) -> float:
        """Correlation of the levels; 0 if the pictures differ in their proportions or in their colour as a whole."""
        if abs(self.aspect / other.aspect - 1) > _MOST_STRETCHED:
            return 0.0
        if float(np.abs(self.colour - other.colour).max()) > _MOST_TINTED:
            return 0.0
        return float(self.levels @ other.levels)


def find_groups(store: Store, pictures: Pictures) -> list[Group]:
    """The files of an index that are there more than once, by their first paths."""
    equal: dict[str, list[str]] = {}
    for path, file in sorted(store.files().items()):
        equal.setdefault(file.content_hash, []).append(path)
    contents = {paths[0]: tuple(paths) for paths in equal.values()}
    leaders = _Leaders(contents)
    names, vectors = _looks_of(store, list(contents))
    for row, column in _alike(vectors):
        one, other = names[row], names[column]
        if leaders.of(one) != leaders.of(other) and pictures.are_same(one, other):
            leaders.join(one, other)
    joined: dict[str, list[tuple[str, ...]]] = {}
    for first, paths in contents.items():
        joined.setdefault(leaders.of(first), []).append(paths)
    groups = (Group(tuple(sorted(several))) for several in joined.values())
    return sorted(group for group in groups if len(group.paths) > 1)


class Folded(NamedTuple):
    """A find, and the other files that are the same; see `fold`.

    Args:
        place: of the find in the list.
        copies: paths, in order.
    """

    place: int
    copies: tuple[str, ...]


def fold(units: Sequence[Unit], num_wanted: int, store: Store, pictures: Pictures) -> list[Folded]:
    """Leave out of a list of units those that are copies of one before; at most `num_wanted` stay.

    Equal files are found in all of the list; other encodings of a picture among what stays and what stands before it.
    """
    kept: list[int] = []
    copies: dict[int, set[str]] = {}
    by_content: dict[tuple[object, ...], int] = {}
    looks = _Looks(store)
    for place, unit in enumerate(units):
        key = (unit.content_hash, unit.kind, unit.page, unit.span_s)
        first = by_content.get(key)
        if first is None and len(kept) < num_wanted:
            first = looks.first_same(unit, pictures)
            if first is None:
                kept.append(place)
                looks.keep(unit, place)
            by_content[key] = place if first is None else first
        if first is not None and unit.path != units[first].path:
            copies.setdefault(first, set()).add(unit.path)
    return [Folded(place, tuple(sorted(copies.get(place, ())))) for place in kept]


class _Looks:
    """The vectors of the pictures that stay, as they come."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: list[tuple[str, int]] = []
        self._vectors: list[Vector] = []
        self._last: tuple[Unit, Vector] | None = None

    def first_same(self, unit: Unit, pictures: Pictures) -> int | None:
        """The place of the first picture that stays and is the same as this one."""
        if unit.kind != "image" or (vector := self._vector(unit)) is None or not self._kept:
            return None
        for row in np.flatnonzero(np.stack(self._vectors) @ vector >= _LIKE_IN_HITS).tolist():
            path, place = self._kept[row]
            if pictures.are_same(path, unit.path):
                return place
        return None

    def keep(self, unit: Unit, place: int) -> None:
        """Take in a picture that stays."""
        if unit.kind == "image" and (vector := self._vector(unit)) is not None:
            self._kept.append((unit.path, place))
            self._vectors.append(vector)

    def _vector(self, unit: Unit) -> Vector | None:
        if self._last is None or self._last[0] != unit:
            vectors = [one.vector for rows in self._store.read([unit.path]) for one in rows.units]
            if len(vectors) != 1 or vectors[0] is None:
                return None
            self._last = unit, vectors[0]
        return self._last[1]


class _Leaders:
    """Sets of names that are joined two by two; the smallest name of each leads it."""

    def __init__(self, names: Iterable[str]) -> None:
        self._above = {name: name for name in names}

    def of(self, name: str) -> str:
        """The leader of the set that a name is in."""
        while self._above[name] != name:
            self._above[name] = name = self._above[self._above[name]]
        return name

    def join(self, one: str, other: str) -> None:
        """Make one set of two."""
        first, second = sorted((self.of(one), self.of(other)))
        self._above[second] = first


def _looks_of(store: Store, paths: Sequence[str]) -> tuple[list[str], Vector]:
    """Those of the files that are pictures, with their vectors [N, dim]."""
    names: list[str] = []
    vectors: list[Vector] = []
    for start in range(0, len(paths), _FILES_AT_ONCE):
        for rows in store.read(paths[start : start + _FILES_AT_ONCE]):
            for unit in rows.units:
                if unit.kind == "image" and unit.vector is not None:
                    names.append(rows.path)
                    vectors.append(unit.vector)
    return names, np.stack(vectors) if vectors else np.empty((0, store.info.dim), np.float32)


def _alike(vectors: Vector) -> Iterator[tuple[int, int]]:
    """Pairs of rows whose cosine is high enough, with the nearest ones of each row alone."""
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        scores = vectors[start : start + _ROWS_AT_ONCE] @ vectors.T
        for row, line in enumerate(scores, start=start):
            line[: row + 1] = -1
            near = np.flatnonzero(line >= _LIKE_IN_FOLDER)
            for column in near[np.argsort(-line[near], kind="stable")][:_MOST_LIKE].tolist():
                yield row, column
