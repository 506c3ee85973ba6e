"""What does a model score on a task that has been read? Embeds what is new, ranks, measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, cast, overload

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import MediaError
from vlm2vec.items import Image, Item, Source, Video
from vlm2vec.media.video import damaged_frames
from vlm2vec.processes import Processes
from vlm2vec.tasks.data import TaskData
from vlm2vec.vectors.chance import chance_metrics
from vlm2vec.vectors.encoding import Encoder, store_vectors
from vlm2vec.vectors.late import rank_late
from vlm2vec.vectors.metrics import CUTOFFS, Numbers, query_metrics
from vlm2vec.vectors.ranking import rank
from vlm2vec.vectors.store import Vectors, VectorStore
from vlm2vec.vectors.stored import StoredVectors
from vlm2vec.vectors.token_store import StoredTokens, TokenStore


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best candidates of each query of a task.

    Args:
        indices: [Q, K] into the task's candidates, best first, -1 past the end; K is the metrics' largest cutoff.
        scores: [Q, K] of those, -inf past the end and for empty candidates.
        per_query: for each metric one number a query.
    """

    indices: NDArray[np.int64]
    scores: NDArray[np.float32]
    per_query: Mapping[str, Numbers]


class FrameDropper:
    """Leaves the damaged frames of a task's videos out, as published, and remembers them.

    Attributes:
        reasons: why each cannot be read, which names it, by the frame; each frame once, however many videos have it.
    """

    def __init__(self) -> None:
        self.reasons: dict[Source, str] = {}

    def __call__(self, item: Item) -> Item | None:
        """The item without its damaged frames; None if it has none, or a video has no other.

        The frames have been picked before, so a video has fewer then.
        """
        media = tuple(self._without(medium) for medium in item.media)
        return None if media == item.media else replace(item, media=media)

    def _without(self, medium: Image | Video) -> Image | Video:
        if not isinstance(medium, Video) or not isinstance(medium.source, tuple):
            return medium
        try:
            damaged = damaged_frames(medium.source)
        except MediaError:
            return medium
        if not 0 < len(damaged) < len(medium.source):
            return medium
        self.reasons |= {medium.source[place]: str(error) for place, error in damaged.items()}
        return Video(tuple(frame for place, frame in enumerate(medium.source) if place not in damaged))


def score_task(
    embedder: Encoder,
    name: str,
    data: TaskData,
    *,
    store: VectorStore | TokenStore,
    processes: Processes,
    on_progress: Callable[[int, int], None] | None = None,
    dropper: FrameDropper | None = None,
) -> Ranking | None:
    """Embed the queries and candidates of a task that the store lacks, and rank them.

    Args:
        embedder: the model, or for late interaction its `TokenVectors`.
        name: of the task, for messages.
        store: for late interaction a `TokenStore`.
        processes: share the embedding; the first one ranks.
        on_progress: called with (items done, all items).
        dropper: leaves damaged frames out; None: a video with one is an error.

    Returns:
        the ranking in the first process, None in the others.

    Raises:
        InputError, MediaError: a query or candidate cannot be embedded; the message names it.
        ConfigError: the store cannot be read or written.
    """
    filled = [place for place, candidate in enumerate(data.candidate_names) if candidate not in data.empty]
    total = len(data.queries) + len(filled)
    report = on_progress or (lambda done, total: None)
    queries = store_vectors(
        embedder,
        data.queries,
        store=store,
        origins=[f"{name}: query {query}" for query in data.query_ids],
        on_progress=lambda done, _: report(done, total),
        processes=processes,
        mend=dropper,
    )
    found = store_vectors(
        embedder,
        _Chosen(data.candidates, filled),
        store=store,
        origins=[f"{name}: candidate {data.candidate_names[place]!r}" for place in filled],
        on_progress=lambda done, _: report(len(data.queries) + done, total),
        processes=processes,
        mend=dropper,
    )
    if processes.rank != 0:
        return None
    keys = [b""] * len(data.candidate_names)
    for place, key in zip(filled, found, strict=True):
        keys[place] = key
    if isinstance(store, TokenStore):
        return rank_task(data, StoredTokens(store, queries), StoredTokens(store, keys))
    return rank_task(data, StoredVectors(store, queries), StoredVectors(store, keys))


def rank_task(
    data: TaskData,
    queries: Vectors | StoredVectors | StoredTokens,
    candidates: Vectors | StoredVectors | StoredTokens,
) -> Ranking:
    """Rank a task's candidates by given vectors, and measure.

    Args:
        queries, candidates: float32 [Q, D] and [C, D], in the order of the task, or both the vectors of tokens for late
            interaction. What an empty candidate has is not looked at.

    Raises:
        InputError: vectors do not fit the task or are not finite.
    """
    options = _Options(
        query_ids=data.query_ids,
        candidate_ids=data.candidate_names,
        pools=_pools(data),
        empty=np.array([name in data.empty for name in data.candidate_names], dtype=np.bool_),
    )
    if isinstance(queries, StoredTokens) and isinstance(candidates, StoredTokens):
        indices_QK, scores_QK = rank_late(queries, candidates, max(CUTOFFS), **options)
    else:
        indices_QK, scores_QK = rank(cast(Vectors, queries), cast(Vectors, candidates), max(CUTOFFS), **options)
    relevant = [data.relevant[query] for query in data.query_ids]
    return Ranking(indices_QK, scores_QK, query_metrics(indices_QK, data.candidate_names, relevant))


def chance(data: TaskData) -> dict[str, float]:
    """What a random order of each query's candidates would score on average."""
    everything = set(data.candidate_names)
    pools = [everything] * len(data.query_ids) if data.pools is None else [set(pool) for pool in data.pools]
    relevant = [data.relevant[query] for query in data.query_ids]
    found = [
        [grade for name, grade in labels.items() if name in pool] for labels, pool in zip(relevant, pools, strict=True)
    ]
    return chance_metrics([len(pool) for pool in pools], found, [list(labels.values()) for labels in relevant])


class _Options(TypedDict):
    """What both ways of ranking take."""

    query_ids: Sequence[str]
    candidate_ids: Sequence[str]
    pools: Sequence[NDArray[np.int64]] | None
    empty: NDArray[np.bool_] | None


class _Chosen(Sequence[Item]):
    """Some of a sequence's items, taken from it one at a time: they may be read from disk each time."""

    def __init__(self, items: Sequence[Item], places: Sequence[int]) -> None:
        self._items = items
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, number: int) -> Item: ...

    @overload
    def __getitem__(self, number: slice) -> Sequence[Item]: ...

    def __getitem__(self, number: int | slice) -> Item | Sequence[Item]:
        if isinstance(number, slice):
            return _Chosen(self._items, self._places[number])
        return self._items[self._places[number]]


def _pools(data: TaskData) -> list[NDArray[np.int64]] | None:
    if data.pools is None:
        return None
    places = {name: place for place, name in enumerate(data.candidate_names)}
    return [np.array([places[name] for name in pool], dtype=np.int64) for pool in data.pools]
