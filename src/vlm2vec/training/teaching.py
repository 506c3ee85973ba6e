"""What would a larger model say of the training rows? Its vectors, cached for `teachers` of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

from vlm2vec.data.collate import Rows
from vlm2vec.data.records import Pair
from vlm2vec.errors import ConfigError, VLM2VecError
from vlm2vec.items import Item
from vlm2vec.training.config import TrainConfig
from vlm2vec.training.plan import open_rows
from vlm2vec.vectors.encoding import Encoder
from vlm2vec.vectors.keys import Role, Target, content_key
from vlm2vec.vectors.store import Vectors, VectorStore

_ROWS_AT_ONCE = 256
"""After so many rows what is new is embedded and written, so that a kill costs no more."""


class TeachingReport(NamedTuple):
    """What was asked.

    Args:
        items: different texts and media of all rows that could be read.
        embedded: of them that had no vector yet.
        bad: a message for each row or item that could not be read.
    """

    items: int
    embedded: int
    bad: tuple[str, ...]


def teach(
    config: TrainConfig,
    teacher: Encoder,
    out: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> TeachingReport:
    """Embed all that the sources of a run hold, each content once, and keep the vectors by content.

    A query is put to the teacher as a query, with the row's instruction; all else as a document. What has a vector in
    `out` keeps it, so a stopped run goes on and one that is repeated embeds nothing.

    Args:
        teacher: an `Embedder`, or what embeds like one.
        out: folder for `teachers.<name>.vectors`.
        on_progress: called with rows done and rows in all.

    Raises:
        ConfigError: a source cannot be opened, no row of it can be read, or `out` cannot be written.
    """
    sources = open_rows(config)
    store = VectorStore.open(out, teacher.dim)
    total, done, embedded = sum(map(len, sources.values())), 0, 0
    seen: set[bytes] = set()
    bad: list[str] = []
    for name, rows in sources.items():
        known, numbers = len(seen), iter(range(len(rows)))
        while part := list(islice(numbers, _ROWS_AT_ONCE)):
            new: dict[bytes, _Question] = {}
            for question in _questions(rows, part, bad):
                try:
                    key = content_key(question.item)
                except VLM2VecError as error:
                    bad.append(f"{question.origin}: {error}")
                    continue
                seen.add(key)
                if key not in store:
                    new.setdefault(key, question)
            embedded += _embed(teacher, new, store, bad)
            done += len(part)
            on_progress(done, total)
        if len(seen) == known and bad:
            raise ConfigError(f"source {name!r}: none of its {len(rows)} rows can be read; the last: {bad[-1]}")
    return TeachingReport(len(seen), embedded, tuple(bad))


class _Question(NamedTuple):
    item: Item
    role: Role
    target: Target | None
    origin: str


def _questions(rows: Rows, numbers: list[int], bad: list[str]) -> Iterator[_Question]:
    for number in numbers:
        try:
            pair: Pair = rows[number]
        except VLM2VecError as error:
            bad.append(str(error))
            continue
        yield _Question(pair.query, "query", pair.target, pair.origin)
        for document in (pair.positive, *pair.negatives):
            yield _Question(document, "document", None, pair.origin)


def _embed(teacher: Encoder, new: dict[bytes, _Question], store: VectorStore, bad: list[str]) -> int:
    """Embed and keep what is new; the number of vectors."""
    keys: list[bytes] = []
    vectors: list[Vectors] = []
    ordered = sorted(new.items(), key=lambda entry: (entry[1].role, entry[1].target or ""))
    for (role, target), group in groupby(ordered, key=lambda entry: (entry[1].role, entry[1].target)):
        asked = list(group)
        items = [question.item for _, question in asked]
        for place, found in teacher.stream(items, role=role, target=target):
            key, question = asked[place]
            if isinstance(found, VLM2VecError):
                bad.append(f"{question.origin}: {found}")
            else:
                keys.append(key)
                vectors.append(found)
    if keys:
        store.put(keys, vectors)
    return len(keys)
