"""How is a file decoded so that a decoder that dies, hangs or takes all memory costs this file only?

In worker processes: each decodes one item at a time within limits of memory and time, and is replaced if it ends.
"""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from socket import socketpair
from types import TracebackType
from typing import Literal, Protocol, TypeAlias

import PIL.Image

from vlm2vec.errors import LimitError, MediaError
from vlm2vec.items import Image, Item, Source, Video
from vlm2vec.media.document import page_count
from vlm2vec.media.frames import Frames, decoded_bytes, load_frames
from vlm2vec.media.image import resolve
from vlm2vec.media.source import DEFAULT_LIMITS, Limits, describe
from vlm2vec.media.timeline import VideoInfo
from vlm2vec.media.video import probe
from vlm2vec.media.worker import ERRORS, Message, Segment, as_message, as_pictures, peak_bytes, receive, send

Decoded: TypeAlias = Literal["page", "video", "image"]

SANDBOXED: dict[Decoded, bool] = {
    "page": True,  # With the pages of a PDF being counted.
    "video": True,  # Films and animated pictures.
    # A photograph is decoded in less time than it takes to hand it over, and its header tells what memory it needs.
    "image": False,
}
"""Which media `Sandbox` decodes in a worker process if nothing else is said; the rest is decoded where it is called.

Folders and tuples of frames count as pictures."""

# To import the decoders; much less on a machine that is not busy.
_START_S = 120.0
_LOOK_EVERY_S = 1.0
_CLOSED = "the sandbox is closed"


# To give pixels back to the system and to take them again costs more than to copy them.
_ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}


class Decoder(Protocol):
    """Makes pictures of media. The package `vlm2vec.media` is one that decodes where it is called; a `Sandbox` is one.

    The methods promise the same as the functions of `vlm2vec.media` of the same names.
    """

    def load_frames(self, medium: Image | Video, *, num_frames: int) -> Frames: ...

    def resolve(self, medium: Image | Video) -> Image | Video: ...

    def page_count(self, source: Source) -> int: ...

    def probe(self, source: Path) -> VideoInfo: ...

    def decoded_bytes(self, medium: Image | Video, *, num_frames: int) -> int: ...


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

    def __init__(self, limits: Limits = DEFAULT_LIMITS, kinds: dict[Decoded, bool] = SANDBOXED) -> None:
        self._limits = limits
        self._told_limits = asdict(limits)
        # The parts of a system that this is built on are not in Windows.
        self._kinds = dict.fromkeys(kinds, False) if sys.platform == "win32" else kinds
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._is_closed = False

    def load_frames(self, medium: Image | Video, *, num_frames: int) -> Frames:
        """Decode one medium, as `media.load_frames` does.

        Raises:
            MediaError: the medium cannot be read, or the decoder died of it.
            LimitError: it is too large, or takes more memory or time than the limits allow.
        """
        if not self._is_apart(medium):
            return load_frames(medium, num_frames=num_frames, limits=self._limits)
        reply = self._ask("frames", medium, num_frames)
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
        count: int = self._ask("pages", Image(source))["value"]
        return count

    def probe(self, source: Path) -> VideoInfo:
        """Measure a video, as `media.probe` does. Raises as `load_frames`."""
        if not self._is_apart(video := Video(source)):
            return probe(source, self._limits)
        info = VideoInfo(*self._ask("probe", video)["value"])
        # JSON knows no tuples.
        return info._replace(gaps_s=tuple((start_s, end_s) for start_s, end_s in info.gaps_s))

    def decoded_bytes(self, medium: Image | Video, *, num_frames: int) -> int:
        """Memory that decoding takes, as `media.decoded_bytes` tells it. Raises as `resolve`."""
        if (isinstance(medium, Image) and medium.page is not None) or not self._is_apart(medium):
            return decoded_bytes(medium, num_frames=num_frames, limits=self._limits)
        count: int = self._ask("weigh", medium, num_frames)["value"]
        return count

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _is_apart(self, medium: Image | Video) -> bool:
        if Item(media=(medium,)).holds_pictures:
            return False
        return self._kinds[_kind(medium)]

    def _ask(self, work: str, medium: Image | Video, num_frames: int = 0) -> Message:
        blobs: list[bytes] = []
        request = {
            "work": work,
            "medium": as_message(medium, blobs),
            "num_frames": num_frames,
            "limits": self._told_limits,
            "folder": None if _is_absolute(medium) else os.getcwd(),
            "blobs": [len(blob) for blob in blobs],
        }
        worker = self._take(medium.source)
        try:
            reply = worker.ask(request, blobs, self._time_s(medium))
        except _EndedError as error:
            self._drop(worker)
            name = describe(medium.source)
            place = f" at page {medium.page}" if isinstance(medium, Image) and medium.page is not None else ""
            raise error.kind(f"{name} cannot be read{place}: {error}") from None
        except BaseException:
            # Most of all Ctrl-C: its answer will be that to a question of the past.
            self._drop(worker)
            raise
        if reply["is_spent"]:
            self._drop(worker)
        else:
            self._give_back(worker)
        if (error_name := reply.get("error")) is None:
            return reply
        if error_name == "Memory":
            raise LimitError(f"{describe(medium.source)} cannot be read: {_too_large(self._limits)}")
        if error_name in ERRORS:
            raise ERRORS[error_name](reply["text"])
        raise RuntimeError(f"decoding {describe(medium.source)} failed in a worker process:\n{reply['text']}")

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

    def _take(self, source: object) -> _Worker:
        with self._lock:
            self._check_open()
            if self._idle:
                # One that has the file open already, otherwise the one that was used last.
                at = next((i for i, worker in enumerate(self._idle) if worker.source == source), -1)
                worker = self._idle.pop(at)
                worker.source = source
                self._busy.add(worker)
                return worker
        worker = _Worker(self._limits)
        with self._lock:
            if not self._is_closed:
                worker.source = source
                self._busy.add(worker)
                return worker
        worker.end()
        raise RuntimeError(_CLOSED)

    def _give_back(self, worker: _Worker) -> None:
        with self._lock:
            self._busy.remove(worker)
            if not self._is_closed:
                self._idle.append(worker)
                return
        worker.end()

    def _drop(self, worker: _Worker) -> None:
        worker.end()
        with self._lock:
            self._busy.remove(worker)
            self._check_open()

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError(_CLOSED)


class _EndedError(Exception):
    """Why a worker gives no answer, and as which error that counts."""

    def __init__(self, reason: str, kind: type[MediaError]) -> None:
        super().__init__(reason)
        self.kind = kind


class _Worker:
    """A process that decodes, and the connection to it."""

    def __init__(self, limits: Limits) -> None:
        self.source: object = None
        self._limits = limits
        self._connection, other = socketpair()
        # `-P`, or the interpreter would look for modules in the current folder first. It looks where this one does.
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from vlm2vec.media.worker import serve; serve({other.fileno()})"
        )
        reading, writing = os.pipe()
        with other, open(reading, "rb") as told, open(writing, "wb") as tells:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=tells,
                pass_fds=[other.fileno()],
                env=os.environ | _ALLOCATION,
                # Ctrl-C is for this process, which ends its workers.
                start_new_session=True,
            )
            other.close()
            tells.close()
            self._ending = threading.Lock()
            self._segment: Segment | None = None
            self._peak_bytes = 0
            try:
                answer = self._answer(_START_S)
            except BaseException:
                self.end()
                raise
            if answer is None:
                self.end()
                said = told.read().decode("utf-8", "replace")
                raise RuntimeError(f"no process that decodes could be started:\n{said}")
        self._first_peak_bytes = self._peak_bytes = answer[0]["peak_bytes"]
        self._segment = Segment(answer[1][0])

    def ask(self, request: Message, blobs: list[bytes], time_s: float) -> Message:
        """The answer to a request, with its pictures. Raises _EndedError if none comes."""
        try:
            send(self._connection, request)
            for blob in blobs:
                self._connection.sendall(blob)
        except OSError:
            raise self._ended() from None
        answer = self._answer(time_s)
        if answer is None:
            raise self._ended()
        reply = answer[0]
        self._peak_bytes = reply["peak_bytes"]
        if "pictures" in reply and self._segment is not None:
            reply["pictures"] = as_pictures(reply, self._segment)
        return reply

    def kill(self) -> None:
        """Stop it at once, whatever it does; `end` must follow."""
        with self._ending:
            if self._process.returncode is None:
                self._process.kill()

    def end(self, patience_s: float = 0.0) -> None:
        """Wait so long for it to end by itself, then stop it."""
        with self._ending:
            until_s = time.monotonic() + patience_s
            while self._process.returncode is None:
                if time.monotonic() >= until_s:
                    self._process.kill()
                    pid, status, used = os.wait4(self._process.pid, 0)
                else:
                    pid, status, used = os.wait4(self._process.pid, os.WNOHANG)
                if pid:
                    self._process.returncode = os.waitstatus_to_exitcode(status)
                    self._peak_bytes = max(self._peak_bytes, peak_bytes(used))
                else:
                    time.sleep(0.001)
            self._connection.close()
            if self._segment is not None:
                self._segment.close()
                self._segment = None

    def _answer(self, time_s: float) -> tuple[Message, list[int]] | None:
        """The next message; None if the process has ended. Raises _EndedError after so many seconds."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        waited_s = 0.0
        # In steps, so that the time in which this process was stopped (Ctrl-Z) does not count.
        while not poll.poll(math.ceil(1000 * (step_s := min(_LOOK_EVERY_S, time_s - waited_s)))):
            waited_s += step_s
            if waited_s >= time_s:
                raise _EndedError(f"decoding took longer than {time_s:g} s (Limits.decode_s)", LimitError)
        try:
            return receive(self._connection)
        except OSError:
            return None

    def _ended(self) -> _EndedError:
        before = self._peak_bytes
        self.end(patience_s=_LOOK_EVERY_S)
        code = self._process.returncode
        grown = self._peak_bytes > before and self._peak_bytes - self._first_peak_bytes
        # The request that does not fit may be for twice as much memory as there is.
        if grown > self._limits.decode_bytes / 4:
            return _EndedError(_too_large(self._limits), LimitError)
        if code >= 0:
            return _EndedError(f"the decoder ended with exit status {code}", MediaError)
        reason = f"the decoder ended with signal {-code} ({signal.Signals(-code).name})"
        if -code == signal.SIGABRT:
            # How PDFium ends where it gets no memory.
            return _EndedError(f"{reason}, most likely because {_too_large(self._limits)}", LimitError)
        return _EndedError(reason, MediaError)


def _kind(medium: Image | Video) -> Decoded:
    if isinstance(medium, Image):
        return "image" if medium.page is None else "page"
    source = medium.source
    # Where nobody may look, decoding says so.
    is_pictures = isinstance(source, tuple) or (isinstance(source, Path) and os.path.isdir(source))
    return "image" if is_pictures else "video"


def _is_gif(image: Image) -> bool:
    # To tell whether it moves, all of it has to be gone through.
    if image.as_stored or image.page is not None or isinstance(image.source, PIL.Image.Image):
        return False
    if isinstance(image.source, bytes):
        return image.source.startswith(b"GIF8")
    return image.source.suffix.lower() == ".gif"


def _is_absolute(medium: Image | Video) -> bool:
    sources = medium.source if isinstance(medium.source, tuple) else (medium.source,)
    return all(isinstance(source, bytes) or (isinstance(source, Path) and source.is_absolute()) for source in sources)


def _too_large(limits: Limits) -> str:
    size = limits.decode_bytes
    amount = f"{size / (1 << 30):.3g} GB" if size >= 1 << 30 else f"{size / (1 << 20):.3g} MB"
    return f"decoding used more than {amount} of memory (Limits.decode_bytes)"
