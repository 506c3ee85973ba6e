"""How does a question become hits?"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from vlm2vec.errors import IndexFolderError, InputError
from vlm2vec.items import Image, Item, ItemLike, Target, Video
from vlm2vec.search.copies import Pictures, fold
from vlm2vec.search.examples import Examples
from vlm2vec.search.fusion import Finds, fuse, score_of, weak_line
from vlm2vec.search.language import Parsed
from vlm2vec.search.looks import look_at
from vlm2vec.search.scan import name_in
from vlm2vec.search.store import ANYTHING, UNKNOWN, Filter, Hit, Look, Match, Near, Store, Unit, Vector, Wanted, Why
from vlm2vec.search.telling import telling
from vlm2vec.text import shortened

Place: TypeAlias = "tuple[str, int | None, tuple[float, float] | None]"
"""Path, page and span of a unit."""
Mode: TypeAlias = Literal["auto", "words", "meaning"]
"""What a text is compared with: all there is, full text alone, or vectors alone."""

# So many finds of each list take part. It is what hits and their scores are made from, however few are asked for, so
# that the pages of hits continue each other.
_DEPTH = 200
# Units with words that must not be there are left out of what vectors find, as far as the store names them.
_MOST_UNWANTED = 10_000
# Without a background, so much of a cosine counts as a spread.
_COSINE_A_SPREAD = 0.1


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for, and which hits are wanted.

    Args:
        item: a text (str), a file (Path), a PIL image or anything else that `as_item` takes; or a vector [dim] of any
            length but zero; or `Examples`, each of them asked for by itself.
        k: how many hits.
        offset: how many of the best to leave out, which were shown before.
        where: which files, pages and spans may be hits. With one kind in it, the question carries the instruction that
            the model was trained with for looking for that kind. Otherwise it carries none: each default instruction
            names a kind, and vectors of several instructions give scores that cannot be compared.
        mode: of a text: "words" looks for its words alone, and needs no model; "meaning" compares vectors alone, of
            looks and of the meaning of words; "auto" does both.
        min_score: leaves out hits with a smaller score.

    Raises:
        InputError: one of them makes no sense.
    """

    item: ItemLike | Vector | Examples
    k: int = 10
    offset: int = 0
    where: Filter = ANYTHING
    mode: Mode = "auto"
    min_score: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.k, Integral) or self.k < 1:
            raise InputError(f"k is {self.k!r}: ask for at least one hit")
        if not isinstance(self.offset, Integral) or self.offset < 0:
            raise InputError(f"offset is {self.offset!r}: it counts hits from 0")
        if not isinstance(self.where, Filter):
            raise InputError(f"where is {shortened(self.where)}: it must be a Filter")
        if self.mode not in get_args(Mode):
            raise InputError(f"no mode {shortened(self.mode)}: use {', '.join(get_args(Mode))}")
        if self.min_score is not None and not isinstance(self.min_score, Real):
            raise InputError(f"min_score is {shortened(self.min_score)}: it must be a number")

    @property
    def target(self) -> Target | None:
        """The one kind of picture that is looked for; None if there is no such."""
        kinds = {kind for kind in get_args(Target) if kind in self.where.kinds}
        return kinds.pop() if len(self.where.kinds) == len(kinds) == 1 else None


class _Find(NamedTuple):
    """A unit with what its hit says."""

    unit: Unit
    score: float
    weak: bool = False
    why: tuple[Why, ...] = ("look",)
    snippet: str = ""


def find_by_vector(
    store: Store, question: Question, vector: Vector, pictures: Pictures, *, but: Place | None = None
) -> list[Hit]:
    """What looks most like a picture, page or film by its vector, best first; equal scores by path, page, span.

    Scores are cosines. None of the hits is weak: there is no background of pictures to which they could be compared.

    Args:
        but: the place of a unit that is no hit.

    Raises:
        InputError: the vector has another shape than the stored ones, or is no direction.
        IndexFolderError: the index cannot be read.
    """
    query = _as_direction(store, vector)

    def find(depth: int) -> list[_Find]:
        near = store.nearest(query, depth, question.where)
        return [_Find(one.unit, one.score) for one in near if (one.unit.path, one.unit.page, one.unit.span_s) != but]

    return _hits(store, question, find, pictures)


def find_by_text(
    store: Store, question: Question, parsed: Parsed, encode: Callable[[], Vector], pictures: Pictures
) -> list[Hit]:
    """What a text finds by its words, their meaning and looks, best first; equal scores by path, page, span.

    Args:
        parsed: the text of the question.
        encode: makes the vector of `parsed.text`; called unless words alone are looked for.

    Raises:
        InputError: there is nothing to look for, or the model cannot read it and has no words either.
        IndexFolderError: the index cannot be read.
    """
    if not parsed.text.strip():
        raise InputError("the question has filters alone: say what is looked for, too")
    vector = None if question.mode == "words" else _vector_of(store, encode, optional=question.mode == "auto")
    num_wanted = count_wanted(parsed)
    if vector is None and not num_wanted:
        raise InputError(f"there are no words in {shortened(parsed.text)}")
    line = weak_line(store.count())
    has_line = vector is None or store.background is not None
    is_quoted = bool(parsed.wanted.phrases) and question.mode != "meaning"

    def find(depth: int) -> list[_Find]:
        finds = Finds() if question.mode == "meaning" else find_words(store, parsed, depth)
        if vector is not None:
            finds = with_near(store, finds, parsed, vector, depth)
        return [
            _Find(one.unit, score_of(one.strength, line), has_line and one.strength < line, one.why, one.snippet)
            for one in fuse(finds, num_wanted=num_wanted, line=line, quoted=is_quoted)
        ]

    return _hits(store, replace(question, where=parsed.where), find, pictures)


def _hits(store: Store, question: Question, find: Callable[[int], list[_Find]], pictures: Pictures) -> list[Hit]:
    """The part of what is found that a question asks for, copies folded.

    Args:
        find: what is found if lists of so many units are asked for; at least so many units, if there are.
    """
    num_wanted, num_units = question.offset + question.k, store.count()
    depth = _DEPTH
    while depth < min(num_wanted, num_units):
        depth *= 2
    while True:
        found = find(min(depth, max(num_units, 1)))
        is_all = depth >= num_units
        if question.min_score is not None:
            kept = [one for one in found if one.score >= question.min_score]
            is_all = is_all or len(kept) < len(found)
            found = kept
        folded = fold([one.unit for one in found], num_wanted, store, pictures)
        if is_all or len(folded) >= num_wanted:
            break
        depth *= 2
    return [_as_hit(found[one.place], one.copies) for one in folded[question.offset :]]


def _as_hit(find: _Find, copies: tuple[str, ...]) -> Hit:
    unit = find.unit
    return Hit(
        unit.path,
        unit.kind,
        find.score,
        unit.page,
        unit.span_s,
        weak=find.weak,
        why=find.why,
        snippet=find.snippet,
        copies=copies,
    )


def count_wanted(parsed: Parsed) -> int:
    """How many words and phrases of a question are looked for."""
    wanted = telling(parsed.wanted)
    return len(wanted.words) + len(wanted.phrases)


def find_words(store: Store, parsed: Parsed, depth: int) -> Finds:
    """What the full text has: all that is wanted beside each other, any of it, and any of it in names."""
    wanted = telling(parsed.wanted)
    typed: Sequence[Match] = ()
    if wanted.phrases:
        as_quoted = store.matching(replace(wanted, words=()), depth, parsed.where)
        typed = [match for match in as_quoted if match.num_found == len(wanted.phrases)]
    elif len(parsed.wanted.words) > 1:
        typed = store.matching(replace(wanted, words=(), phrases=(parsed.text,)), depth, parsed.where)
    words = store.matching(wanted, depth, parsed.where)
    return Finds(typed, words, store.matching(wanted, depth, parsed.where, names_only=True))


def with_near(store: Store, finds: Finds, parsed: Parsed, vector: Vector, depth: int) -> Finds:
    """The same with what is near by vectors, without what has words that must not be there."""
    has_background = store.background is not None
    meaning = store.nearest(vector, depth, parsed.where, of="words")
    look = store.nearest(vector, depth, parsed.where, calibrated=has_background)
    if not has_background:
        meaning, look = ([_as_calibrated(near) for near in several] for several in (meaning, look))
    if parsed.wanted.without:
        left_out = _unwanted(store, parsed)
        meaning, look = ([near for near in several if not left_out(near.unit)] for several in (meaning, look))
    return replace(finds, meaning=meaning, look=look)


def _unwanted(store: Store, parsed: Parsed) -> Callable[[Unit], bool]:
    """Whether a unit, or the name of its file, has words that must not be there."""
    matches = store.matching(Wanted(parsed.wanted.without), _MOST_UNWANTED, parsed.where)
    units = {match.unit for match in matches}
    # Of units that have nothing but their name in common, the store names the first.
    paths = {match.unit.path for match in matches if "name" in match.fields}
    return lambda unit: unit in units or unit.path in paths


def _as_calibrated(near: Near) -> Near:
    return near._replace(calibrated=near.score / _COSINE_A_SPREAD)


def _vector_of(store: Store, encode: Callable[[], Vector], *, optional: bool) -> Vector | None:
    """The vector of a text; None if it is optional and the model cannot read it, as one of unknown letters."""
    try:
        vector = encode()
    except InputError:
        if optional:
            return None
        raise
    return _as_direction(store, vector)


def _as_direction(store: Store, vector: Vector) -> Vector:
    """A vector of length one.

    Raises:
        InputError: it has another shape than the stored ones, or is no direction.
    """
    query = np.asarray(vector, dtype=np.float32)
    norm = float(np.linalg.norm(query))
    if query.shape != (store.info.dim,) or not 0 < norm < math.inf:
        raise InputError(
            f"cannot search with a vector of shape {query.shape} and length {norm}: "
            f"this index needs {store.info.dim} finite numbers that are not all zero"
        )
    return query / norm


def stored_vector(store: Store, folder: Path, item: Item) -> Vector | None:
    """The vector of a file that is in the index; None if the index has no up-to-date vector for exactly this item.

    It carries the instruction of a document, so that a file is nearest to itself.

    Args:
        folder: whose files are indexed.
        item: has a vector there only if it is a file or a page, without words beside it.
    """
    if len(item.media) != 1 or item != Item(media=item.media):
        return None
    [medium] = item.media
    if not isinstance(medium.source, Path) or medium.as_stored:
        # The index holds files as their owner sees them.
        return None
    try:
        name = name_in(folder, medium.source)
    except IndexFolderError:
        return None
    # A relative path may have the name of a file in the index, and lead to another one from the current folder.
    path = medium.source if os.path.exists(medium.source) else folder / name
    page, span_s = (medium.page, None) if isinstance(medium, Image) else (None, medium.span_s)
    for rows in store.read([name]):
        for unit in rows.units:
            is_whole = rows.num_units == 1 or unit.page is not None
            as_asked = (unit.page, span_s, unit.kind == "video") == (page, None, isinstance(medium, Video))
            if is_whole and as_asked and _is_unchanged(path, rows.look):
                return unit.vector
    return None


def _is_unchanged(path: Path, stored: Look) -> bool:
    try:
        look = look_at(path)
    except OSError:
        return False
    return look == stored or (look[:2] == stored[:2] and stored[2:] == (UNKNOWN, UNKNOWN))
