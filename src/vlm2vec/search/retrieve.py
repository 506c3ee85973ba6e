"""How does a question become hits?"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import get_args

import numpy as np

from vlm2vec.errors import IndexFolderError, InputError
from vlm2vec.items import Image, Item, ItemLike, Target, Video
from vlm2vec.search.scan import name_in
from vlm2vec.search.store import ANYTHING, UNKNOWN, Filter, Hit, Look, Store, Vector
from vlm2vec.text import shortened


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for, and which hits are wanted.

    Args:
        item: a text (str), a file (Path), a PIL image or anything else that `as_item` takes; or a vector [dim] of any
            length but zero.
        k: how many hits.
        offset: how many of the best to leave out, which were shown before.
        where: which files, pages and spans may be hits. With one kind in it, the question carries the instruction that
            the model was trained with for looking for that kind. Otherwise it carries none: each default instruction
            names a kind, and vectors of several instructions give scores that cannot be compared.
    """

    item: ItemLike | Vector
    k: int = 10
    offset: int = 0
    where: Filter = ANYTHING

    def __post_init__(self) -> None:
        if not isinstance(self.k, Integral) or self.k < 1:
            raise InputError(f"k is {self.k!r}: ask for at least one hit")
        if not isinstance(self.offset, Integral) or self.offset < 0:
            raise InputError(f"offset is {self.offset!r}: it counts hits from 0")
        if not isinstance(self.where, Filter):
            raise InputError(f"where is {shortened(self.where)}: it must be a Filter")

    @property
    def target(self) -> Target | None:
        """The one kind of picture that is looked for; None if there is no such."""
        kinds = {kind for kind in get_args(Target) if kind in self.where.kinds}
        return kinds.pop() if len(self.where.kinds) == len(kinds) == 1 else None


def retrieve(store: Store, question: Question, vector: Vector) -> list[Hit]:
    """The hits for a question by its vector, best first; equal scores by path, page, span.

    Raises:
        InputError: the vector has another shape than the stored ones, or is no direction.
        IndexFolderError: the index cannot be read.
    """
    query = np.asarray(vector, dtype=np.float32)
    norm = float(np.linalg.norm(query))
    if query.shape != (store.info.dim,) or not 0 < norm < math.inf:
        raise InputError(
            f"cannot search with a vector of shape {query.shape} and length {norm}: "
            f"this index needs {store.info.dim} finite numbers that are not all zero"
        )
    near = store.nearest(query / norm, question.offset + question.k, question.where)[question.offset :]
    return [Hit(one.unit.path, one.unit.kind, one.score, one.unit.page, one.unit.span_s) for one in near]


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
        look = Look.of(path.stat())
    except OSError:
        return False
    return look == stored or (look[:2] == stored[:2] and stored[2:] == (UNKNOWN, UNKNOWN))
