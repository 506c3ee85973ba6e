"""How does every item of a task get its vector, also a video of which frames are damaged?"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from functools import partial

from vlm2vec.errors import MediaError, VLM2VecError
from vlm2vec.items import Image, Item, Source, Video
from vlm2vec.media.video import damaged_frames
from vlm2vec.processes import Alone, Processes
from vlm2vec.vectors.job import EmbedJob, Encoder, Flush, Work
from vlm2vec.vectors.keys import item_key
from vlm2vec.vectors.store import LISTED_WITHIN_S, TokenStore, VectorStore


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


class TaskEmbedder:
    """Embeds the items of tasks that a store lacks.

    Args:
        encoder: the model, or for a `TokenStore` its `TokenVectors`.
        store: in a folder that all processes share.
        processes: share the work; None: there is one.
        flush: how many vectors a kill may cost.
        patience_s: how long the vectors of other processes may take to appear in the folder.
    """

    def __init__(
        self,
        encoder: Encoder,
        store: VectorStore | TokenStore,
        processes: Processes | None = None,
        *,
        flush: Flush = Flush(),
        patience_s: float = LISTED_WITHIN_S,
    ) -> None:
        self.store = store
        self.processes = processes or Alone()
        self._encoder = encoder
        self._flush = flush
        self._patience_s = patience_s if self.processes.size > 1 else 0.0

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
        failed = self._run(keys, read, origins, mend, on_progress)
        found = {place: key for place, key in enumerate(keys) if key is not None and origins[place] not in failed}
        self.processes.agree(lambda: self.store.wait_for(found.values(), self._patience_s))
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
                return item_key(item, fingerprint=self._encoder.fingerprint)
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

    def _run(
        self,
        keys: Sequence[bytes | None],
        read: Callable[[int], Item],
        origins: Sequence[str],
        mend: Callable[[Item], Item | None],
        on_progress: Callable[[int], None],
    ) -> Set[str]:
        """Embed what has a key; the origins of what can be mended only."""
        place_of = {origin: place for place, origin in enumerate(origins)}

        def refuse(work: Work, error: VLM2VecError) -> None:
            if not isinstance(error, MediaError) or mend(read(place_of[work.origin])) is None:
                work.fail(error)

        work = (Work(key, partial(read, place), origins[place]) for place, key in enumerate(keys) if key is not None)
        job = EmbedJob(self._encoder, self.store, flush=self._flush, processes=self.processes)
        return job.run(work, on_progress=lambda done, _: on_progress(done), on_failure=refuse).failed.keys()


def _mended(item: Item, origin: str, mend: Callable[[Item], Item | None]) -> Item:
    other = mend(item)
    if other is None:
        raise MediaError(f"{origin}: could not be read at first, and then could; start the run again")
    return other
