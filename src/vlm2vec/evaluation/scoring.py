"""What does a model score on a task that has been read? Embeds what is new, ranks, measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vlm2vec.evaluation.embedding import TaskEmbedder
from vlm2vec.items import Item
from vlm2vec.tasks.data import TaskData
from vlm2vec.vectors.metrics import CUTOFFS, Numbers, chance_metrics, query_metrics
from vlm2vec.vectors.ranking import rank, rank_late
from vlm2vec.vectors.store import TokenStore


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

    @classmethod
    def of(cls, data: TaskData, ranked: Callable[..., tuple[NDArray[np.int64], NDArray[np.float32]]]) -> Ranking:
        """Rank a task's candidates, and measure.

        Args:
            ranked: `rank` or `rank_late` of its queries and candidates, in the order of the task.

        Raises:
            InputError: vectors do not fit the task or are not finite.
        """
        pools = None
        if data.pools is not None:
            places = {name: place for place, name in enumerate(data.candidate_names)}
            pools = [np.array([places[name] for name in pool], dtype=np.int64) for pool in data.pools]
        indices_QK, scores_QK = ranked(
            max(CUTOFFS),
            query_ids=data.query_ids,
            candidate_ids=data.candidate_names,
            pools=pools,
            empty=np.array([name in data.empty for name in data.candidate_names], dtype=np.bool_),
        )
        relevant = [data.relevant[query] for query in data.query_ids]
        return cls(indices_QK, scores_QK, query_metrics(indices_QK, data.candidate_names, relevant))


def score_task(
    embedder: TaskEmbedder,
    name: str,
    data: TaskData,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    mend: Callable[[Item], Item | None] = lambda item: None,
) -> Ranking | None:
    """Embed the queries and candidates of a task that the store lacks, and rank them.

    Args:
        name: of the task, for messages.
        on_progress: called with (items done, all items).
        mend: as for `TaskEmbedder.embed`.

    Returns:
        the ranking in the first process, None in the others.

    Raises:
        InputError, MediaError: a query or candidate cannot be embedded; the message names it.
        VLM2VecError: the store cannot be read or written, or is not shared.
    """
    num_queries = len(data.queries)
    filled = [place for place, candidate in enumerate(data.candidate_names) if candidate not in data.empty]
    origins = [f"{name}: query {query}" for query in data.query_ids]
    origins += [f"{name}: candidate {data.candidate_names[place]!r}" for place in filled]

    def read(place: int) -> Item:
        return data.queries[place] if place < num_queries else data.candidates[filled[place - num_queries]]

    keys = embedder.embed(read, origins, mend=mend, on_progress=lambda done: on_progress(done, len(origins)))
    if embedder.processes.rank != 0:
        return None
    of_candidates = [b""] * len(data.candidate_names)
    for place, key in zip(filled, keys[num_queries:], strict=True):
        of_candidates[place] = key
    store = embedder.store
    if isinstance(store, TokenStore):
        return Ranking.of(data, partial(rank_late, store.rows(keys[:num_queries]), store.rows(of_candidates)))
    return Ranking.of(data, partial(rank, store.rows(keys[:num_queries]), store.rows(of_candidates)))


def chance(data: TaskData) -> dict[str, float]:
    """The expected score of a random order of each query's candidates."""
    everything = set(data.candidate_names)
    pools = [everything] * len(data.query_ids) if data.pools is None else [set(pool) for pool in data.pools]
    relevant = [data.relevant[query] for query in data.query_ids]
    found = [
        [grade for name, grade in labels.items() if name in pool] for labels, pool in zip(relevant, pools, strict=True)
    ]
    return chance_metrics([len(pool) for pool in pools], found, [list(labels.values()) for labels in relevant])
