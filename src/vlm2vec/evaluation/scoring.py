"""What does a model score on a task that has been read? Embeds what is new, ranks, measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import MediaError, VLM2VecError
from vlm2vec.items import Image, Item, Source, Video
from vlm2vec.media.video import damaged_frames
from vlm2vec.processes import Alone, Processes
from vlm2vec.tasks.data import TaskData
from vlm2vec.text import counted
from vlm2vec.vectors.job import EmbedJob, Encoder, Flush, Work
from vlm2vec.vectors.keys import item_key
from vlm2vec.vectors.metrics import CUTOFFS, Numbers, query_metrics
from vlm2vec.vectors.ranking import rank, rank_late
from vlm2vec.vectors.store import LISTED_WITHIN_S, TokenStore, VectorStore


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best candidates of each query of a task.

    Args:
        indices: [Q, K] into the task's candidates, best first, -1 past the end; K is the metrics' largest cutoff.
        scores: [Q, K] of those, -inf past the end and for empty candidates.
        per_query: for each metric one number a query.
        dropped: why each damaged frame that was left out of a video cannot be read, by the frame.
    """

    indices: NDArray[np.int64]
    scores: NDArray[np.float32]
    per_query: Mapping[str, Numbers]
    dropped: Mapping[Source, str] = field(default_factory=dict)

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


@dataclass(frozen=True)
class TaskEmbedder:
    """Embeds the items of tasks that a store lacks, and ranks by what it holds.

    Args:
        encoder: the model, or for a `TokenStore` what gives its token vectors.
        store: in a folder that all processes share.
        processes: share the work.
        flush: how many vectors a kill may cost.
        patience_s: how long the vectors of other processes may take to appear in the folder.
    """

    encoder: Encoder
    store: VectorStore | TokenStore
    processes: Processes = field(default_factory=Alone)
    _: KW_ONLY
    flush: Flush = Flush()
    patience_s: float = LISTED_WITHIN_S

    def rank_task(
        self,
        name: str,
        data: TaskData,
        *,
        strict: bool = False,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Ranking | None:
        """Embed the queries and candidates of a task that the store lacks, and rank them.

        Args:
            name: of the task, for messages.
            strict: a damaged frame of a video is an error; without it the frame is left out, as published.
            on_progress: called with (items done, all items).

        Returns:
            the ranking in the first process, None in the others.

        Raises:
            InputError, MediaError: a query or candidate cannot be embedded; the message names it.
            VLM2VecError: as `embed`.
        """
        num_queries = len(data.queries)
        filled = [place for place, candidate in enumerate(data.candidate_names) if candidate not in data.empty]
        origins = [f"{name}: query {query}" for query in data.query_ids]
        origins += [f"{name}: candidate {data.candidate_names[place]!r}" for place in filled]

        def read(place: int) -> Item:
            return data.queries[place] if place < num_queries else data.candidates[filled[place - num_queries]]

        dropper = _FrameDropper()
        keys = self.embed(read, origins, mend=dropper, on_progress=lambda done: on_progress(done, len(origins)))
        if strict and (count := len(dropper.reasons)):
            frames = f"{counted(count, 'frame')} of its videos {'is' if count == 1 else 'are'} damaged"
            raise MediaError(f"{frames}: {'; '.join(dropper.reasons.values())}")
        if self.processes.rank != 0:
            return None
        of_candidates = [b""] * len(data.candidate_names)
        for place, key in zip(filled, keys[num_queries:], strict=True):
            of_candidates[place] = key
        if isinstance(self.store, TokenStore):
            ranked = partial(rank_late, self.store.rows(keys[:num_queries]), self.store.rows(of_candidates))
        else:
            ranked = partial(rank, self.store.rows(keys[:num_queries]), self.store.rows(of_candidates))
        return replace(Ranking.of(data, ranked), dropped=dropper.reasons)

    def embed(
        self,
        read: Callable[[int], Item],
        origins: Sequence[str],
        *,
        mend: Callable[[Item], Item | None] = lambda item: None,
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> list[bytes]:
        """The key of each item, under which the store has its vector; of a mended one the key of what it became.

        Args:
            read: gives the item at a place, the same in all processes. It is called for the key, and again for an item
                that is embedded.
            origins: what each item is called if something is wrong with it; all different.
            mend: what is embedded in place of an item whose medium cannot be read; where that is None, it is an error.
                It is called in every process for every such item, and must find the same in all.
            on_progress: called with the number of items done.

        Raises:
            InputError, MediaError: an item cannot be embedded; the message begins with its origin.
            VLM2VecError: the store cannot be read or written, or is not shared. Of several processes all raise it.
        """
        keys = self._keys(read, origins, mend)
        place_of = {origin: place for place, origin in enumerate(origins)}

        def refuse(work: Work, error: VLM2VecError) -> None:
            if not isinstance(error, MediaError) or mend(read(place_of[work.origin])) is None:
                work.fail(error)

        work = (Work(key, partial(read, place), origins[place]) for place, key in enumerate(keys) if key is not None)
        job = EmbedJob(self.encoder, self.store, flush=self.flush, processes=self.processes)
        failed = job.run(work, on_progress=lambda done, _: on_progress(done), on_failure=refuse).failed
        found = {place: key for place, key in enumerate(keys) if key is not None and origins[place] not in failed}
        patience_s = self.patience_s if self.processes.size > 1 else 0.0
        self.processes.agree(lambda: self.store.wait_for(found.values(), patience_s))
        broken = [place for place in range(len(keys)) if place not in found]
        if broken:
            mended = self.processes.agree(lambda: [_mended(read(place), origins[place], mend) for place in broken])
            of_broken = self.embed(mended.__getitem__, [origins[place] for place in broken])
            found |= zip(broken, of_broken, strict=True)
            on_progress(len(keys))
        return [found[place] for place in range(len(keys))]

    def _keys(
        self, read: Callable[[int], Item], origins: Sequence[str], mend: Callable[[Item], Item | None]
    ) -> list[bytes | None]:
        """A key for each place, None where a medium cannot be read and can be mended. Each process reads its share."""

        def key_of(place: int) -> bytes | None:
            item = read(place)
            try:
                return item_key(item, fingerprint=self.encoder.fingerprint)
            except VLM2VecError as error:
                if isinstance(error, MediaError) and mend(item) is not None:
                    return None
                raise error.of(origins[place]) from error

        rank, size = self.processes.rank, self.processes.size
        own = self.processes.agree(lambda: [key_of(place) for place in range(rank, len(origins), size)])
        keys: list[bytes | None] = [None] * len(origins)
        for of_rank, share in enumerate(self.processes.gather(own)):
            keys[of_rank::size] = share
        return keys


@dataclass(frozen=True)
class _FrameDropper:
    """Leaves the damaged frames of a task's videos out, as published, and remembers them.

    Args:
        reasons: why each cannot be read, which names it, by the frame; each frame once, however many videos have it.
    """

    reasons: dict[Source, str] = field(default_factory=dict)

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
        self.reasons.update((medium.source[place], str(error)) for place, error in damaged.items())
        return Video(tuple(frame for place, frame in enumerate(medium.source) if place not in damaged))


def _mended(item: Item, origin: str, mend: Callable[[Item], Item | None]) -> Item:
    other = mend(item)
    if other is None:
        raise MediaError(f"{origin}: could not be read at first, and then could; start the run again")
    return other
