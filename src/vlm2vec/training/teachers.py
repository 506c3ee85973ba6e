"""How does a larger model come to teach a run? Its vectors of the same items, cached by their content."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from vlm2vec.data.collate import Rows
from vlm2vec.documents import load_json
from vlm2vec.errors import ConfigError, DataError, InputError, VLM2VecError
from vlm2vec.files import write_atomically, writing
from vlm2vec.items import Item
from vlm2vec.model.backbone import Ask, Vectors
from vlm2vec.model.similarity import normalize
from vlm2vec.training.batches import open_rows
from vlm2vec.training.config import TrainConfig
from vlm2vec.vectors.job import EmbedJob, NamedEncoder, Work
from vlm2vec.vectors.keys import uninstructed_key
from vlm2vec.vectors.store import VectorStore

_OWNER = "teacher.json"
"""Says whose vectors lie in a folder that `teach` filled."""


class TeacherVectors:
    """The vectors of a teacher, looked up by the content of an item: text and media count, instructions do not.

    Args:
        folder: of a `VectorStore` whose keys are `uninstructed_key`.

    Raises:
        DataError: it holds no vectors, or vectors of several dimensions.
    """

    def __init__(self, folder: Path) -> None:
        dims = VectorStore.dims(folder)
        if not dims:
            raise DataError(f"teachers: {folder} should hold vectors, and holds none", "teach")
        if len(dims) > 1:
            raise DataError(f"teachers: {folder} should hold vectors of one dimension, and holds {dims}")
        [self.dim] = dims
        self.store = VectorStore.open(folder, self.dim)

    def of(self, keys: Sequence[bytes]) -> Tensor:
        """Rows of length one, float32 [N, dim]; zeros where the teacher has no vector."""
        return normalize(torch.from_numpy(self.store.get(keys)[1]))


def write_teacher(folder: Path, items: Sequence[Item], vectors: Vectors) -> None:
    """Keep a teacher's vectors of some items where `teachers` of a training configuration finds them.

    Args:
        folder: made if it is missing; vectors of earlier calls are kept. It must hold one teacher alone: nothing in it
            says whose the vectors are.
        items: of equal content as the items of the training rows, whatever their instructions.
        vectors: float32 [N, dim].

    Raises:
        InputError: an item lacks a vector, or one is not finite.
        MediaError: a medium is missing or cannot be read.
        ConfigError: the folder holds vectors of another dimension, or those of `teach`.
        StorageError: it cannot be written.
    """
    if (folder / _OWNER).exists():
        raise ConfigError(f"{folder} holds the vectors of the model that {_OWNER} names", "other_out")
    if others := [dim for dim in VectorStore.dims(folder) if dim != vectors.shape[-1]]:
        raise ConfigError(
            f"{folder} holds vectors of {' and '.join(map(str, others))} dimensions, and these have "
            f"{vectors.shape[-1]}",
            "other_out",
        )
    if bad := np.flatnonzero(~np.isfinite(vectors).all(-1)).tolist():
        # A vector that is kept is never replaced.
        raise InputError(f"vectors of {len(bad)} items are not finite, first that of item {bad[0]}; nothing is written")
    VectorStore.open(folder, vectors.shape[-1]).put([uninstructed_key(item) for item in items], vectors)


class _TeachingReport(NamedTuple):
    """What became of the items.

    Args:
        items: different texts and media of all rows that could be read.
        missing: of them that had no vector before; embedded: that have one now.
        bad: a message for each row or item that could not be read or embedded.
    """

    items: int
    missing: int
    embedded: int
    bad: tuple[str, ...]


def teach(
    config: TrainConfig,
    teacher: NamedEncoder,
    out: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> _TeachingReport:
    """Embed all that the sources of a run hold, each content once, and keep the vectors by content.

    The teacher is asked for a query with the row's instruction, for everything else as a document, and for an item that
    is both as it comes first. Vectors in `out` are kept: a stopped run continues, and a repeated one embeds nothing.

    Args:
        out: folder for `teachers.<name>.vectors`, of this teacher alone.
        on_progress: called with rows read and rows in all.

    Raises:
        ConfigError: a source cannot be opened, or `out` is another teacher's.
        DataError: no row of a source can be read, or nothing says whose vectors lie in `out`.
        StorageError: `out` cannot be written.
    """
    store = _claim(out, teacher)
    bad: list[str] = []
    failed: list[str] = []
    report = EmbedJob(teacher, store).run(
        _questions(open_rows(config), bad, on_progress),
        on_failure=lambda work, error: failed.append(str(error.of(work.origin))),
    )
    missing = report.embedded + len(failed)
    return _TeachingReport(missing + report.known, missing, report.embedded, (*bad, *failed))


class _Owner(BaseModel):
    """`teacher.json`: whose vectors lie in a folder."""

    name: str
    fingerprint: str


def _claim(out: Path, teacher: NamedEncoder) -> VectorStore:
    """The store, which says whose it is from now on."""
    store = VectorStore.open(out, teacher.dim)
    place = out / _OWNER
    if place.exists():
        try:
            theirs = _Owner.model_validate(load_json(place))
        except (OSError, ValueError):
            raise DataError(f"{place} does not say whose vectors lie in {out}", "other_out") from None
        if theirs.fingerprint != teacher.fingerprint:
            raise ConfigError(
                f"{out} holds vectors of {theirs.name} as it was then (fingerprint {theirs.fingerprint}), not of this "
                f"{teacher.name} ({teacher.fingerprint})",
                "other_out",
            )
        return store
    if VectorStore.dims(out):
        raise DataError(f"{out} holds vectors, and nothing says whose they are", "other_out")
    ours = _Owner(name=teacher.name, fingerprint=teacher.fingerprint)
    with writing(place, "other_out"):
        write_atomically(place, f"{ours.model_dump_json()}\n")
    return store


def _questions(
    sources: Mapping[str, Rows], unread: list[str], on_progress: Callable[[int, int], None]
) -> Iterator[Work]:
    """Each different item of some sources, as it is first asked; why a row cannot be read is added to `unread`."""
    keys: set[bytes] = set()
    done, total = 0, sum(map(len, sources.values()))
    for name, rows in sources.items():
        num_unread = len(unread)
        for number in range(len(rows)):
            for work in _of_row(rows, number, unread):
                if work.key not in keys:
                    keys.add(work.key)
                    yield work
            done += 1
            on_progress(done, total)
        if len(unread) - num_unread == len(rows):
            last = unread[-1] if rows else "it has none"
            raise DataError(f"source {name!r}: none of its {len(rows)} rows can be read; the last: {last}")


def _of_row(rows: Rows, number: int, unread: list[str]) -> list[Work]:
    """What is asked about a row; nothing if an item of it cannot be read."""
    try:
        pair = rows[number]
    except VLM2VecError as error:
        unread.append(str(error))
        return []
    asked = [(pair.query, Ask("query", pair.target))]
    asked += [(item, Ask("document")) for item in (pair.positive, *pair.negatives)]
    try:
        return [Work(uninstructed_key(item), item, pair.origin, ask) for item, ask in asked]
    except VLM2VecError as error:
        unread.append(str(error.of(pair.origin)))
        return []
