"""How is a file decoded so that a decoder that dies, hangs or takes all memory costs this file only?

In worker processes: each decodes one item at a time within limits of memory and time, and is replaced if it ends.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import PIL.Image

from vlm2vec.items import IMAGE_SUFFIXES, UNUSUAL_SUFFIXES, VIDEO_SUFFIXES, Image, Item, Source, Target, Video
from vlm2vec.media.document import as_pdf, page_count
from vlm2vec.media.frames import Frames, decoded_bytes, load_frames
from vlm2vec.media.image import resolve
from vlm2vec.media.ocr import require_ocr, with_recognised
from vlm2vec.media.readers import logged, stored_words
from vlm2vec.media.source import DEFAULT_LIMITS, Limits
from vlm2vec.media.timeline import VideoInfo
from vlm2vec.media.video import probe
from vlm2vec.media.words import FileWords, PartWords
from vlm2vec.media.worker import Message, Worker

SANDBOXED: dict[Target, bool] = {
    "page": True,  # With the pages of a PDF being counted.
    "video": True,  # Films and animated pictures.
    # A photograph is decoded in less time than it takes to hand it over, and its header tells what memory it needs.
    # Those of `items.UNUSUAL_SUFFIXES` go with the pages: their decoders have seen fewer damaged files.
    "image": False,
}
"""Which media `Sandbox` decodes in a worker process if nothing else is said; the rest is decoded where it is called.

Folders and tuples of frames count as pictures."""

_CLOSED = "the sandbox is closed"


class Decoder(Protocol):
    """Makes pictures of media. The package `vlm2vec.media` is one that decodes where it is called; a `Sandbox` is one.

    The methods promise the same as the functions of `vlm2vec.media` of the same names.
    """

    def load_frames(
        self, medium: Image | Video, *, num_frames: int, least_px: tuple[int, int] | None = None
    ) -> Frames: ...

    def resolve(self, medium: Image | Video) -> Image | Video: ...

    def page_count(self, source: Source) -> int: ...

    def probe(self, source: Path) -> VideoInfo: ...

    def decoded_bytes(
        self, medium: Image | Video, *, num_frames: int, least_px: tuple[int, int] | None = None
    ) -> int: ...

    def read_words(self, path: Path, *, ocr: bool = False) -> FileWords: ...


class Sandbox:
    """A `Decoder` of worker processes, which are started when they are needed. Close it, or use it in a with-block.

    Threads may share it: a thread that finds no worker idle starts one, so there are as many as threads decode at once.
    A worker that dies, takes too long or needs too much memory costs the item that it decodes, with an error that says
    so; the next item gets another worker. Workers end with this process, however it ends. PIL images are decoded
    already and stay here.

    Args:
        limits: also of the memory and time of each item.
        kinds: which of them are decoded in workers; the others are decoded in the caller's thread.
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS, kinds: dict[Target, bool] = SANDBOXED) -> None:
        self._limits = limits
        # The parts of a system that this is built on are not in Windows.
        self._kinds = dict.fromkeys(kinds, False) if sys.platform == "win32" else kinds
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._is_closed = False

    def load_frames(self, medium: Image | Video, *, num_frames: int, least_px: tuple[int, int] | None = None) -> Frames:
        """Decode one medium, as `media.load_frames` does.

        Raises:
            MediaError: the medium cannot be read, or the decoder died of it.
            LimitError: it is too large, or takes more memory or time than the limits allow.
        """
        if not self._is_apart(medium):
            return load_frames(medium, num_frames=num_frames, limits=self._limits, least_px=least_px)
        if isinstance(medium, Image) and medium.page is not None and isinstance(medium.source, Path):
            # Here: the program that draws it is a process with limits of its own, and a worker would not end it.
            medium = Image(as_pdf(medium.source, self._limits), page=medium.page, as_stored=medium.as_stored)
        reply = self._ask("frames", medium, num_frames, least_px)
        return Frames(reply["pictures"], reply["is_video"])

    def resolve(self, medium: Image | Video) -> Image | Video:
        """Take an animated picture as a video, as `media.resolve` does.

        Raises:
            MediaError: the decoder died of it. LimitError: it takes more memory or time than the limits allow.
        """
        if isinstance(medium, Video) or not (self._is_apart(medium) or (self._kinds["video"] and _is_gif(medium))):
            return resolve(medium)
        return Video(medium.source) if self._ask("resolve", medium)["value"] else medium

    def page_count(self, source: Source) -> int:
        """Count the pages of a PDF, as `media.page_count` does. Raises as `load_frames`."""
        if isinstance(source, PIL.Image.Image) or not self._kinds["page"]:
            return page_count(source, self._limits)
        if isinstance(source, Path):
            source = as_pdf(source, self._limits)
        count: int = self._ask("pages", Image(source))["value"]
        return count

    def probe(self, source: Path) -> VideoInfo:
        """Measure a video, as `media.probe` does. Raises as `load_frames`."""
        if not self._is_apart(video := Video(source)):
            return probe(source, self._limits)
        info = VideoInfo(*self._ask("probe", video)["value"])
        # JSON knows no tuples.
        return info._replace(gaps_s=tuple((start_s, end_s) for start_s, end_s in info.gaps_s))

    def decoded_bytes(self, medium: Image | Video, *, num_frames: int, least_px: tuple[int, int] | None = None) -> int:
        """Memory that decoding takes, as `media.decoded_bytes` tells it. Raises as `resolve`."""
        if (isinstance(medium, Image) and medium.page is not None) or not self._is_apart(medium):
            return decoded_bytes(medium, num_frames=num_frames, limits=self._limits, least_px=least_px)
        count: int = self._ask("weigh", medium, num_frames, least_px)["value"]
        return count

    def read_words(self, path: Path, *, ocr: bool = False) -> FileWords:
        """Take the words of a file, as `media.read_words` does. Raises as it and `load_frames`.

        What `ocr` recognises is recognised here, in pictures that are decoded as always.
        """
        if ocr:
            require_ocr()
        medium = _as_medium(path)
        if self._is_apart(medium):
            words = _as_words(*self._ask("words", medium)["value"])
        else:
            words = stored_words(path, self._limits)
        if ocr:
            words = with_recognised(words, path, lambda image: self.load_frames(image, num_frames=1).images[0])
        return logged(words, path)

    def close(self) -> None:
        """End all workers; threads that wait for one get a RuntimeError, which says nothing about their file."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            for worker in self._busy:
                worker.kill()
        for worker in idle:
            worker.end()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _is_apart(self, medium: Image | Video) -> bool:
        if Item(media=(medium,)).holds_pictures:
            return False
        return self._kinds[_kind(medium)] or (self._kinds["page"] and _is_unusual(medium))

    def _ask(
        self, work: str, medium: Image | Video, num_frames: int = 0, least_px: tuple[int, int] | None = None
    ) -> Message:
        worker = self._take(medium.source)
        try:
            return worker.ask(work, medium, num_frames, self._time_s(medium), least_px)
        finally:
            self._put_back(worker)

    def _time_s(self, medium: Image | Video) -> float:
        if _kind(medium) != "video":
            return self._limits.decode_s
        size = 0
        if isinstance(medium.source, bytes):
            size = len(medium.source)
        elif isinstance(medium.source, Path):
            with suppress(OSError):
                size = medium.source.stat().st_size
        return self._limits.decode_s + self._limits.film_s_per_mb * size / 1e6

    def _take(self, source: object) -> Worker:
        with self._lock:
            if self._is_closed:
                raise RuntimeError(_CLOSED)
            if self._idle:
                # One that has the file open already, otherwise the one that was used last.
                at = next((i for i, worker in enumerate(self._idle) if worker.source == source), -1)
                worker = self._idle.pop(at)
                self._busy.add(worker)
                return worker
        worker = Worker(self._limits)
        with self._lock:
            if not self._is_closed:
                self._busy.add(worker)
                return worker
        worker.end()
        raise RuntimeError(_CLOSED)

    def _put_back(self, worker: Worker) -> None:
        with self._lock:
            self._busy.remove(worker)
            is_closed = self._is_closed
            if not (worker.is_spent or is_closed):
                self._idle.append(worker)
                return
        worker.end()
        if worker.is_spent and is_closed:
            # Its file is not to blame.
            raise RuntimeError(_CLOSED)


def _as_medium(path: Path) -> Image | Video:
    """A file as the medium that is decoded where its words are read: of a document that is a page."""
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return Video(path)
    return Image(path, page=None if suffix in IMAGE_SUFFIXES else 1)


def _as_words(
    about: str, parts: Iterable[tuple[str, str, int | None, tuple[float, float] | None]], notes: Iterable[str]
) -> FileWords:
    """The words of a reply; JSON knows no tuples."""
    made = (
        PartWords(text, of_part, page, None if span_s is None else (span_s[0], span_s[1]))
        for text, of_part, page, span_s in parts
    )
    return FileWords(about, tuple(made), tuple(notes))


def _kind(medium: Image | Video) -> Target:
    if isinstance(medium, Image):
        return medium.kind
    # Where nobody may look, decoding says so.
    is_folder = isinstance(medium.source, Path) and os.path.isdir(medium.source)
    return "image" if is_folder or isinstance(medium.source, tuple) else "video"


def _is_unusual(medium: Image | Video) -> bool:
    """Whether it is no photograph of an ordinary format: handing it over takes less than a twentieth of decoding."""
    return isinstance(medium.source, Path) and medium.source.suffix.lower() in UNUSUAL_SUFFIXES


def _is_gif(image: Image) -> bool:
    # To tell whether it moves, all of it has to be gone through.
    if image.as_stored or image.page is not None or isinstance(image.source, PIL.Image.Image):
        return False
    if isinstance(image.source, bytes):
        return image.source.startswith(b"GIF8")
    return image.source.suffix.lower() == ".gif"
