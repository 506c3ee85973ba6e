"""What does a model score on a task that has been read? Embeds what is new, ranks, measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from vlm2vec.tasks.data import TaskData
from vlm2vec.vectors.chance import chance_metrics
from vlm2vec.vectors.encoding import Encoder, Processes, store_vectors
from vlm2vec.vectors.metrics import CUTOFFS, Numbers, query_metrics
from vlm2vec.vectors.ranking import rank
from vlm2vec.vectors.store import Vectors, VectorStore
from vlm2vec.vectors.stored import StoredVectors


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


def score_task(
    embedder: Encoder,
    name: str,
    data: TaskData,
    *,
    store: VectorStore,
    processes: Processes,
    on_progress: Callable[[int, int], None] | None = None,
) -> Ranking | None:
    """Embed the queries and candidates of a task that the store lacks, and rank them.

    Args:
        name: of the task, for messages.
        processes: share the embedding; the first one ranks.
        on_progress: called with (items done, all items).

    Returns:
        the ranking in the first process, None in the others.

    Raises:
        InputError, MediaError: a query or candidate cannot be embedded; the message names it.
        ConfigError: the store cannot be read or written.
    """
    filled = [place for place, candidate in enumerate(data.candidate_names) if candidate not in data.empty]
    # Asked for one by one only where it must be: candidates may be read from disk each time.
    candidates = [data.candidates[place] for place in filled] if data.empty else data.candidates
    total = len(data.queries) + len(filled)
    report = on_progress or (lambda done, total: None)
    queries = store_vectors(
        embedder,
        data.queries,
        store=store,
        origins=[f"{name}: query {query}" for query in data.query_ids],
        on_progress=lambda done, _: report(done, total),
        processes=processes,
    )
    found = store_vectors(
        embedder,
        candidates,
        store=store,
        origins=[f"{name}: candidate {data.candidate_names[place]!r}" for place in filled],
        on_progress=lambda done, _: report(len(data.queries) + done, total),
        processes=processes,
    )
    if processes.rank != 0:
        return None
    keys = [b""] * len(data.candidate_names)
    for place, key in zip(filled, found, strict=True):
        keys[place] = key
    return rank_task(data, StoredVectors(store, queries), StoredVectors(store, keys))


def rank_task(
    data: TaskData,
    queries: Vectors | StoredVectors,
    candidates: Vectors | StoredVectors,
) -> Ranking:
    """Rank a task's candidates by given vectors, and measure.

    Args:
        queries, candidates: float32 [Q, D] and [C, D], in the order of the task. What an empty candidate has is not
            looked at.

    Raises:
        InputError: vectors do not fit the task or are not finite.
    """
    indices_QK, scores_QK = rank(
        cast(Vectors, queries),
        cast(Vectors, candidates),
        max(CUTOFFS),
        query_ids=data.query_ids,
        candidate_ids=data.candidate_names,
        pools=_pools(data),
        empty=np.array([name in data.empty for name in data.candidate_names], dtype=np.bool_),
    )
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


def _pools(data: TaskData) -> list[NDArray[np.int64]] | None:
    if data.pools is None:
        return None
    places = {name: place for place, name in enumerate(data.candidate_names)}
    return [np.array([places[name] for name in pool], dtype=np.int64) for pool in data.pools]
