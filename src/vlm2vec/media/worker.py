"""How does another process decode? Both ends of the line: `Worker` asks, `_serve` answers until its parent is gone."""

from __future__ import annotations

import gc
import json
import math
import mmap
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import PIL.Image

from vlm2vec.errors import InputError, LimitError, MediaError, VLM2VecError
from vlm2vec.items import Image, Source, Video
from vlm2vec.media.document import drawn_page, page_count
from vlm2vec.media.frames import decoded_bytes, load_frames
from vlm2vec.media.image import from_pixels, resolve
from vlm2vec.media.readers import stored_words
from vlm2vec.media.source import Limits, describe
from vlm2vec.media.video import probe

if sys.platform != "win32":
    import resource

Message: TypeAlias = dict[str, Any]
"""JSON; never a pickle, which a decoder that a file has taken over could make run anything in the parent."""

_ERRORS = {error.__name__: error for error in (InputError, MediaError, LimitError)}

# To import the decoders; much less on a machine that is not busy.
_START_S = 120.0
_LOOK_EVERY_S = 1.0
# To give pixels back to the system and to take them again costs more than to copy them.
_ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}

# Shared memory beyond this is given back when it has been read.
_KEPT_BYTES = 64 << 20
# A worker that has kept more than this from its last item is replaced.
_LEFTOVER_BYTES = 256 << 20


class Worker:
    """A process that decodes, and the connection to it.

    Attributes:
        source: of the medium that it decoded last.
        is_spent: it must be ended, because it has not answered, or has kept too much memory.
    """

    def __init__(self, limits: Limits) -> None:
        self.source: object = None
        self.is_spent = False
        self._limits = limits
        self._connection, other = socket.socketpair()
        # `-P`, or the interpreter would look for modules in the current folder first. It looks where this one does.
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from vlm2vec.media.worker import _serve; _serve({other.fileno()})"
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
            self._segment: _Segment | None = None
            self._peak_bytes = 0
            try:
                answer = self._answer(_START_S)
            except LimitError:
                answer = None
            except BaseException:
                self.end()
                raise
            if answer is None:
                self.end()
                said = told.read().decode("utf-8", "replace")
                raise RuntimeError(f"no process that decodes could be started:\n{said}")
        self._first_peak_bytes = self._peak_bytes = answer[0]["peak_bytes"]
        self._segment = _Segment(answer[1][0])

    def ask(
        self,
        work: str,
        medium: Image | Video,
        num_frames: int,
        time_s: float,
        least_px: tuple[int, int] | None = None,
    ) -> Message:
        """The reply to a request, with its pictures; `is_spent` says afterwards whether there can be another.

        Args:
            work: "frames", "resolve", "pages", "probe", "weigh" or "words".
            medium: without PIL images.
            num_frames: for "frames" and "weigh".
            time_s: how long it may take.
            least_px: for "frames" and "weigh".

        Raises:
            MediaError: the medium cannot be read, or the process died of it.
            LimitError: it is too large, or takes more memory or time than it may.
        """
        self.source = medium.source
        # Also if nobody waits for the answer (Ctrl-C): it will be that to a question of the past.
        self.is_spent = True
        name = describe(medium.source)
        try:
            reply = self._reply(work, medium, num_frames, time_s, least_px)
        except MediaError as error:
            page = medium.page if work == "frames" and isinstance(medium, Image) else None
            place = f" at page {page}" if page is not None else ""
            raise type(error)(f"{name} cannot be read{place}: {error}") from None
        self.is_spent = reply["is_spent"]
        if (error_name := reply.get("error")) is None:
            return reply
        if error_name == "Memory":
            raise LimitError(f"{name} cannot be read: {_too_large(self._limits)}")
        if error_name in _ERRORS:
            raise _ERRORS[error_name](reply["text"])
        raise RuntimeError(f"decoding {name} failed in a worker process:\n{reply['text']}")

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
                    self._peak_bytes = max(self._peak_bytes, _peak_bytes(used))
                else:
                    time.sleep(0.001)
            self._connection.close()
            if self._segment is not None:
                self._segment.close()
                self._segment = None

    def _reply(
        self,
        work: str,
        medium: Image | Video,
        num_frames: int,
        time_s: float,
        least_px: tuple[int, int] | None,
    ) -> Message:
        sources = medium.source if isinstance(medium.source, tuple) else (medium.source,)
        blobs = [source for source in sources if isinstance(source, bytes)]
        is_relative = any(isinstance(source, Path) and not source.is_absolute() for source in sources)
        request = {
            "work": work,
            "medium": _as_message(medium, sources),
            "num_frames": num_frames,
            "least_px": least_px,
            "limits": asdict(self._limits),
            "folder": os.getcwd() if is_relative else None,
            "blobs": [len(blob) for blob in blobs],
        }
        try:
            _send(self._connection, request)
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
            reply["pictures"] = _as_pictures(reply, self._segment)
        return reply

    def _answer(self, time_s: float) -> tuple[Message, list[int]] | None:
        """The next message; None if the process has ended. Raises LimitError after so many seconds."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        waited_s = 0.0
        # In steps, so that the time in which this process was stopped (Ctrl-Z) does not count.
        while not poll.poll(math.ceil(1000 * (step_s := min(_LOOK_EVERY_S, time_s - waited_s)))):
            waited_s += step_s
            if waited_s >= time_s:
                raise LimitError(f"decoding took longer than {time_s:g} s (Limits.decode_s)")
        try:
            return _receive(self._connection)
        except OSError:
            return None

    def _ended(self) -> MediaError:
        """Why it gives no answer."""
        before = self._peak_bytes
        self.end(patience_s=_LOOK_EVERY_S)
        code = self._process.returncode
        grown = self._peak_bytes > before and self._peak_bytes - self._first_peak_bytes
        # The request that does not fit may be for twice as much memory as there is.
        if grown > self._limits.decode_bytes / 4:
            return LimitError(_too_large(self._limits))
        if code >= 0:
            return MediaError(f"the decoder ended with exit status {code}")
        reason = f"the decoder ended with signal {-code} ({signal.Signals(-code).name})"
        if -code == signal.SIGABRT:
            # How PDFium ends where it gets no memory.
            return LimitError(f"{reason}, most likely because {_too_large(self._limits)}")
        return MediaError(reason)


class _Segment:
    """Memory that two processes share. It grows, and stays mapped: each page that is mapped anew costs time.

    Args:
        number: of its file.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._mapped: mmap.mmap | None = None

    def memory(self, size: int) -> mmap.mmap:
        """All of it, at least so many bytes; memory that the other process has given back is taken anew."""
        length = os.fstat(self.number).st_size
        if length < size:
            os.ftruncate(self.number, length := size)
        if self._mapped is None or len(self._mapped) != length:
            self._mapped = mmap.mmap(self.number, length)
        return self._mapped

    def give_back(self) -> None:
        """Free it if it is large."""
        if self._mapped is not None and len(self._mapped) > _KEPT_BYTES:
            self._mapped = None
            os.ftruncate(self.number, 0)

    def close(self) -> None:
        """Let go of it; the memory goes when the other process does so, too."""
        self._mapped = None
        os.close(self.number)


def _serve(number: int) -> None:
    """Answer requests on the socket with this file number, one at a time; ends with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=number)
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Imported modules stay, and need not be looked through when garbage is collected.
    gc.freeze()
    baseline = _data_bytes()
    segment = _Segment(_shared_memory())
    _send(connection, {"peak_bytes": _peak_bytes(resource.getrusage(resource.RUSAGE_SELF))}, segment.number)
    # Only a failure before this point is one of the installation; the output of decoders helps nobody.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    while (received := _receive(connection)) is not None:
        request = received[0]
        reply = _reply_to(request, [_read(connection, size) for size in request["blobs"]], segment)
        if _data_bytes() - baseline > _LEFTOVER_BYTES:
            # PyAV's containers and streams refer to each other, and hold the threads of their decoders until then.
            gc.collect()
        reply["is_spent"] = _data_bytes() - baseline > _LEFTOVER_BYTES
        reply["peak_bytes"] = _peak_bytes(resource.getrusage(resource.RUSAGE_SELF))
        _send(connection, reply)


def _reply_to(request: Message, blobs: list[bytes], segment: _Segment) -> Message:
    limits = Limits(**request["limits"])
    try:
        if request["folder"] is not None:
            os.chdir(request["folder"])
        _limit_memory(limits)
        medium = _as_medium(request["medium"], blobs)
        return _worked(request, medium, limits, segment)
    except MemoryError:
        return {"error": "Memory"}
    except VLM2VecError as error:
        if isinstance(error.__cause__, MemoryError):
            return {"error": "Memory"}
        return {"error": type(error).__name__, "text": str(error)}
    except Exception:
        return {"error": "Fault", "text": traceback.format_exc()}


def _worked(request: Message, medium: Image | Video, limits: Limits, segment: _Segment) -> Message:
    work, num_frames, least_px = request["work"], request["num_frames"], request["least_px"]
    if work == "resolve":
        return {"value": isinstance(resolve(medium), Video)}
    if work == "probe":
        return {"value": probe(medium.source, limits)}
    if work == "words" and isinstance(medium.source, Path):
        return {"value": stored_words(medium.source, limits)}
    if work == "weigh":
        return {"value": decoded_bytes(medium, num_frames=num_frames, limits=limits, least_px=least_px)}
    if isinstance(medium, Image) and work == "pages":
        return {"value": page_count(medium.source, limits)}
    if isinstance(medium, Image) and medium.page is not None:
        with drawn_page(medium.source, medium.page, limits, segment.memory) as drawing:
            size = len(drawing.pixels)
            page = _told("RGB", drawing.size, 0, size, "BGR", drawing.stride)
            return {"pictures": [page], "is_video": False, "size": size}
    frames = load_frames(medium, num_frames=num_frames, limits=limits, least_px=least_px)
    told, size = _lay_out(frames.images, segment)
    return {"pictures": told, "is_video": frames.is_video, "size": size}


def _lay_out(pictures: Sequence[PIL.Image.Image], segment: _Segment) -> tuple[list[Message], int]:
    """Put the pixels into shared memory. Returns where those of each picture lie, and the bytes of all."""
    packed = [picture.tobytes() if picture.mode != "RGB" else None for picture in pictures]
    told: list[Message] = []
    end = 0
    for picture, pixels in zip(pictures, packed, strict=True):
        start, end = end, end + (picture.width * picture.height * 4 if pixels is None else len(pixels))
        one = _told(picture.mode, picture.size, start, end, "RGBX" if pixels is None else picture.mode)
        if picture.palette is not None and picture.mode in ("P", "PA"):
            one["palette_mode"] = picture.palette.mode
            one["palette"] = picture.getpalette(picture.palette.mode)
        one["transparency"] = picture.info.get("transparency")
        told.append(one)
    with memoryview(segment.memory(end)) as memory:
        for picture, pixels, one in zip(pictures, packed, told, strict=True):
            with memory[one["start"] : one["end"]] as place:
                if pixels is not None:
                    place[:] = pixels
                else:
                    _paste(picture, place)
    return told, end


def _told(mode: str, size: tuple[int, int], start: int, end: int, layout: str, stride: int = 0) -> Message:
    """Where the pixels of a picture lie, and how (see `from_pixels`)."""
    place = {"start": start, "end": end, "layout": layout, "stride": stride}
    return {"mode": mode, "size": size, **place, "palette": None, "transparency": None}


def _paste(picture: PIL.Image.Image, place: memoryview) -> None:
    # Four bytes a pixel, as Pillow keeps them. To pack them into three takes several times as long.
    target = PIL.Image.frombuffer("RGBX", picture.size, place, "raw", "RGBX", 0, 1)  # type: ignore[arg-type]
    # Let go of at the end of this function, as must be before the shared memory can be.
    target.im.paste(picture.im, (0, 0, *picture.size))


def _limit_memory(limits: Limits) -> None:
    if used := _data_bytes():
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        wanted = used + limits.decode_bytes
        resource.setrlimit(
            resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


def _data_bytes() -> int:
    # Private memory that may be written: what RLIMIT_DATA bounds. 0 where the system does not say.
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[5]) * mmap.PAGESIZE
    except OSError:
        return 0


def _end_with(connection: socket.socket) -> None:
    # A decoder that hangs does not see that nobody waits for it any more.
    poll = select.poll()
    poll.register(connection, 0)
    while not poll.poll():
        pass
    os._exit(1)


def _shared_memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pictures")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _as_message(medium: Image | Video, sources: tuple[Source, ...]) -> Message:
    """A medium without PIL images as JSON, with None in the place of bytes."""
    message = {
        "sources": [None if isinstance(source, bytes) else str(source) for source in sources],
        "as_stored": medium.as_stored,
    }
    if isinstance(medium, Image):
        return message | {"page": medium.page}
    return message | {"span_s": medium.span_s, "is_tuple": isinstance(medium.source, tuple)}


def _as_medium(message: Message, blobs: list[bytes]) -> Image | Video:
    """The medium of which `_as_message` made this; its bytes are `blobs`, in order."""
    left = iter(blobs)
    sources = tuple(next(left) if path is None else Path(path) for path in message["sources"])
    if "page" in message:
        return Image(sources[0], page=message["page"], as_stored=message["as_stored"])
    # JSON knows no tuples.
    span_s = message["span_s"] and tuple(message["span_s"])
    return Video(sources if message["is_tuple"] else sources[0], span_s, as_stored=message["as_stored"])


def _as_pictures(reply: Message, segment: _Segment) -> tuple[PIL.Image.Image, ...]:
    """The pictures that a reply tells of, copied out of the shared memory."""
    pictures = []
    with memoryview(segment.memory(reply["size"])) as memory:
        for told in reply["pictures"]:
            with memory[told["start"] : told["end"]] as pixels:
                picture = from_pixels(told["mode"], tuple(told["size"]), pixels, told["layout"], told["stride"])
            if told["palette"] is not None:
                picture.putpalette(told["palette"], told["palette_mode"])
            if (transparency := told["transparency"]) is not None:
                picture.info["transparency"] = tuple(transparency) if isinstance(transparency, list) else transparency
            pictures.append(picture)
    segment.give_back()
    return tuple(pictures)


def _send(connection: socket.socket, message: Message, segment: int | None = None) -> None:
    """Send a message, with the file number of shared memory if there is one."""
    text = json.dumps(message).encode("ascii")
    whole = struct.pack("<I", len(text)) + text
    socket.send_fds(connection, [whole[:1]], [] if segment is None else [segment])
    connection.sendall(whole[1:])


def _receive(connection: socket.socket) -> tuple[Message, list[int]] | None:
    """The next message and the file number that comes with it, if any; None if the other end is closed."""
    first, segments, _, _ = socket.recv_fds(connection, 1, 1, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    head = first + _read(connection, 3) if first else b""
    text = _read(connection, struct.unpack("<I", head)[0]) if len(head) == 4 else b""
    return (json.loads(text), segments) if text else None


def _peak_bytes(used: resource.struct_rusage) -> int:
    """The most memory that a process had."""
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _read(connection: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        count = connection.recv_into(view[done:])
        if not count:
            return b""
        done += count
    return bytes(data)


def _too_large(limits: Limits) -> str:
    size = limits.decode_bytes
    amount = f"{size / (1 << 30):.3g} GB" if size >= 1 << 30 else f"{size / (1 << 20):.3g} MB"
    return f"decoding used more than {amount} of memory (Limits.decode_bytes)"
