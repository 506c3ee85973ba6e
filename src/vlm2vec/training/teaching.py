"""What would a larger model say of the training rows? Its vectors, cached for `teachers` of a configuration."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple, Protocol

from vlm2vec.data.collate import Rows
from vlm2vec.data.records import Pair
from vlm2vec.documents import load_json
from vlm2vec.errors import ConfigError, InputError, MediaError, VLM2VecError
from vlm2vec.files import atomic_writer
from vlm2vec.items import Item, Role, Target
from vlm2vec.model.backbone import Ask
from vlm2vec.training.config import TrainConfig
from vlm2vec.training.distillation import TEACHER
from vlm2vec.training.plan import open_rows
from vlm2vec.vectors.encoding import Encoder, Unwritten, checked
from vlm2vec.vectors.keys import uninstructed_key
from vlm2vec.vectors.store import VectorStore

_ROWS_AT_ONCE = 256


class NamedTeacher(Encoder, Protocol):
    """What is asked of a teacher; `Embedder` has it."""

    @property
    def name(self) -> str: ...


class TeachingReport(NamedTuple):
    """What was asked.

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
    teacher: NamedTeacher,
    out: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> TeachingReport:
    """Embed all that the sources of a run hold, each content once, and keep the vectors by content.

    A query is put to the teacher as a query, with the row's instruction, all else as a document; what is both is put as
    it first comes. What has a vector in `out` keeps it, so a stopped run goes on and a repeated one embeds nothing.

    Args:
        teacher: an `Embedder`, or what embeds like one.
        out: folder for `teachers.<name>.vectors`, of this teacher alone.
        on_progress: called with rows done and rows in all.

    Raises:
        ConfigError: a source cannot be opened, no row of it can be read, or `out` cannot be written or is another
            teacher's.
    """
    sources = open_rows(config)
    store = _claim(out, teacher)
    total, done = sum(map(len, sources.values())), 0
    known: set[bytes] = set()
    missing: set[bytes] = set()
    bad: list[str] = []
    unwritten = Unwritten(store)
    try:
        for name, rows in sources.items():
            num_read, numbers = 0, iter(range(len(rows)))
            while part := list(islice(numbers, _ROWS_AT_ONCE)):
                new: dict[bytes, _Question] = {}
                for asked in _asked(rows, part, bad):
                    num_read += 1
                    new |= {key: one for key, one in asked.items() if key not in known and key not in store}
                    known |= asked.keys()
                missing |= new.keys()
                _embed(teacher, new, unwritten, bad)
                done += len(part)
                on_progress(done, total)
            if not num_read:
                raise ConfigError(f"source {name!r}: none of its {len(rows)} rows can be read; the last: {bad[-1]}")
    finally:
        # After Ctrl-C too.
        unwritten.write()
    return TeachingReport(len(known), len(missing), sum(key in store for key in missing), tuple(bad))


def _claim(out: Path, teacher: NamedTeacher) -> VectorStore:
    """The store, which says whose it is from now on."""
    store = VectorStore.open(out, teacher.dim)
    place, ours = out / TEACHER, {"name": teacher.name, "fingerprint": teacher.fingerprint}
    try:
        if place.exists():
            theirs = load_json(place)
            if theirs["fingerprint"] != teacher.fingerprint:
                raise ConfigError(
                    f"{out} holds vectors of {theirs['name']} as it was then (fingerprint {theirs['fingerprint']}), "
                    f"not of this {teacher.name} ({teacher.fingerprint}); give another folder"
                )
        elif VectorStore.dims(out):
            raise ConfigError(f"{out} holds vectors of which nothing says whose they are; give another folder")
        else:
            with atomic_writer(place) as stream:
                stream.write(f"{json.dumps(ours)}\n".encode())
    except OSError as error:
        raise ConfigError(f"cannot write {place}: {error.strerror}; give another folder") from error
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{place} does not say whose vectors lie in {out}; give another folder") from None
    return store


class _Question(NamedTuple):
    item: Item
    role: Role
    target: Target | None
    origin: str


def _asked(rows: Rows, numbers: Iterable[int], bad: list[str]) -> Iterator[dict[bytes, _Question]]:
    """What each row that can be read asks, by the keys of its items."""
    for number in numbers:
        try:
            pair: Pair = rows[number]
        except VLM2VecError as error:
            bad.append(str(error))
            continue
        questions = [_Question(pair.query, "query", pair.target, pair.origin)]
        questions += [_Question(item, "document", None, pair.origin) for item in (pair.positive, *pair.negatives)]
        try:
            asked: dict[bytes, _Question] = {}
            for question in questions:
                asked.setdefault(uninstructed_key(question.item), question)
            yield asked
        except VLM2VecError as error:
            bad.append(f"{pair.origin}: {error}")


def _embed(teacher: Encoder, new: dict[bytes, _Question], unwritten: Unwritten, bad: list[str]) -> None:
    ordered = sorted(new.items(), key=lambda entry: (entry[1].role, entry[1].target or ""))
    for (role, target), group in groupby(ordered, key=lambda entry: (entry[1].role, entry[1].target)):
        asked = list(group)
        for place, found in teacher.stream([question.item for _, question in asked], Ask(role, target)):
            key, question = asked[place]
            try:
                unwritten.add(key, checked(found))
            except (InputError, MediaError) as error:
                bad.append(f"{question.origin}: {error}")
