"""How does a worker process decode? It answers requests of `media.sandbox` until its parent is gone."""

from __future__ import annotations

import gc
import json
import mmap
import os
import select
import signal
import socket
import struct
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import PIL.Image

from vlm2vec.errors import InputError, LimitError, MediaError, VLM2VecError
from vlm2vec.items import Image, Source, Video
from vlm2vec.media.document import Drawing, as_picture, drawn_page, page_count
from vlm2vec.media.frames import Frames, decoded_bytes, load_frames
from vlm2vec.media.image import from_pixels, resolve
from vlm2vec.media.source import Limits
from vlm2vec.media.timeline import VideoInfo
from vlm2vec.media.video import probe

if sys.platform != "win32":
    import resource

Message: TypeAlias = dict[str, Any]
"""JSON; never a pickle, which a decoder that a file has taken over could make run anything in the parent."""

ERRORS = {error.__name__: error for error in (InputError, MediaError, LimitError)}

# Shared memory beyond this is given back when it has been read.
_KEPT_BYTES = 64 << 20
# A worker that has kept more than this from its last item is replaced.
_LEFTOVER_BYTES = 256 << 20


def serve(number: int) -> None:
    """Answer requests on the socket with this file number, one at a time; ends with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=number)
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Imported modules stay, and need not be looked through when garbage is collected.
    gc.freeze()
    baseline = _data_bytes()
    segment = Segment(_shared_memory())
    send(connection, {"peak_bytes": peak_bytes(resource.getrusage(resource.RUSAGE_SELF))}, segment.number)
    # Only a failure before this point is one of the installation; the output of decoders helps nobody.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    while (received := receive(connection)) is not None:
        request = received[0]
        reply = _answer(request, [_read(connection, size) for size in request["blobs"]], segment)
        if _data_bytes() - baseline > _LEFTOVER_BYTES:
            # PyAV's containers and streams refer to each other, and hold the threads of their decoders until then.
            gc.collect()
        reply["is_spent"] = _data_bytes() - baseline > _LEFTOVER_BYTES
        reply["peak_bytes"] = peak_bytes(resource.getrusage(resource.RUSAGE_SELF))
        send(connection, reply)


def as_message(medium: Image | Video, blobs: list[bytes]) -> Message:
    """A medium without PIL images as JSON; bytes are added to `blobs`."""
    if isinstance(medium, Image):
        return {"image": _as_reference(medium.source, blobs), "page": medium.page, "as_stored": medium.as_stored}
    source = medium.source
    several = isinstance(source, tuple)
    references = [_as_reference(one, blobs) for one in (source if isinstance(source, tuple) else (source,))]
    return {"video": references if several else references[0], "span_s": medium.span_s, "as_stored": medium.as_stored}


def _as_medium(message: Message, blobs: list[bytes]) -> Image | Video:
    """The medium of which `as_message` made this."""

    def source(reference: str | int) -> Source:
        return blobs[reference] if isinstance(reference, int) else Path(reference)

    if "image" in message:
        return Image(source(message["image"]), page=message["page"], as_stored=message["as_stored"])
    sources, span_s = message["video"], message["span_s"]
    if isinstance(sources, list):
        return Video(tuple(map(source, sources)), as_stored=message["as_stored"])
    span_s = None if span_s is None else (span_s[0], span_s[1])
    return Video(source(sources), span_s, as_stored=message["as_stored"])


class Segment:
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


def as_pictures(reply: Message, segment: Segment) -> tuple[PIL.Image.Image, ...]:
    """The pictures that a reply tells of, copied out of the shared memory."""
    pictures = []
    with memoryview(segment.memory(reply["size"])) as memory:
        for told in reply["pictures"]:
            mode, size = told["mode"], tuple(told["size"])
            with memory[told["start"] : told["end"]] as pixels:
                if "stride" in told:
                    picture = as_picture(size, told["stride"], pixels)
                else:
                    picture = from_pixels(mode, size, pixels, "RGBX" if mode == "RGB" else mode)
            if told["palette"] is not None:
                picture.putpalette(told["palette"], told["palette_mode"])
            if (transparency := told["transparency"]) is not None:
                picture.info["transparency"] = tuple(transparency) if isinstance(transparency, list) else transparency
            pictures.append(picture)
    segment.give_back()
    return tuple(pictures)


def send(connection: socket.socket, message: Message, segment: int | None = None) -> None:
    """Send a message, with the file number of shared memory if there is one."""
    text = json.dumps(message).encode("ascii")
    whole = struct.pack("<I", len(text)) + text
    socket.send_fds(connection, [whole[:1]], [] if segment is None else [segment])
    connection.sendall(whole[1:])


def receive(connection: socket.socket) -> tuple[Message, list[int]] | None:
    """The next message and the file number that comes with it, if any; None if the other end is closed."""
    first, segments, _, _ = socket.recv_fds(connection, 1, 1, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    head = first + _read(connection, 3) if first else b""
    text = _read(connection, struct.unpack("<I", head)[0]) if len(head) == 4 else b""
    return (json.loads(text), segments) if text else None


def peak_bytes(used: resource.struct_rusage) -> int:
    """The most memory that a process had."""
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


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


def _read(connection: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        count = connection.recv_into(view[done:])
        if not count:
            return b""
        done += count
    return bytes(data)


def _as_reference(source: Source, blobs: list[bytes]) -> str | int:
    if isinstance(source, bytes):
        blobs.append(source)
        return len(blobs) - 1
    return str(source)


def _answer(request: Message, blobs: list[bytes], segment: Segment) -> Message:
    limits = Limits(**request["limits"])
    try:
        if request["folder"] is not None:
            os.chdir(request["folder"])
        _limit_memory(limits)
        medium = _as_medium(request["medium"], blobs)
        if request["work"] == "pages" and isinstance(medium, Image):
            return {"value": page_count(medium.source, limits)}
        if request["work"] != "frames":
            return {"value": _WORK[request["work"]](medium, request["num_frames"], limits)}
        if isinstance(medium, Image) and medium.page is not None:
            with drawn_page(medium.source, medium.page, limits, segment.memory) as drawing:
                return _lay_out_page(drawing)
        return _lay_out(load_frames(medium, num_frames=request["num_frames"], limits=limits), segment)
    except MemoryError:
        return {"error": "Memory"}
    except VLM2VecError as error:
        if isinstance(error.__cause__, MemoryError):
            return {"error": "Memory"}
        return {"error": type(error).__name__, "text": str(error)}
    except Exception:
        return {"error": "Fault", "text": traceback.format_exc()}


def _limit_memory(limits: Limits) -> None:
    if used := _data_bytes():
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        wanted = used + limits.decode_bytes
        resource.setrlimit(
            resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


def _lay_out_page(drawing: Drawing) -> Message:
    size = len(drawing.pixels)
    told = _told("RGB", drawing.size, 0, size) | {"stride": drawing.stride}
    return {"pictures": [told], "is_video": False, "size": size}


def _lay_out(frames: Frames, segment: Segment) -> Message:
    """Put the pixels into shared memory; the reply says where they are."""
    packed = [picture.tobytes() if picture.mode != "RGB" else None for picture in frames.images]
    told: list[Message] = []
    end = 0
    for picture, pixels in zip(frames.images, packed, strict=True):
        size = len(pixels) if pixels is not None else picture.width * picture.height * 4
        one = _told(picture.mode, picture.size, end, end + size)
        if picture.palette is not None and picture.mode in ("P", "PA"):
            one["palette_mode"] = picture.palette.mode
            one["palette"] = picture.getpalette(picture.palette.mode)
        one["transparency"] = picture.info.get("transparency")
        told.append(one)
        end += size
    with memoryview(segment.memory(end)) as memory:
        for picture, pixels, one in zip(frames.images, packed, told, strict=True):
            with memory[one["start"] : one["end"]] as place:
                if pixels is not None:
                    place[:] = pixels
                else:
                    _paste(picture, place)
    return {"pictures": told, "is_video": frames.is_video, "size": end}


def _told(mode: str, size: tuple[int, int], start: int, end: int) -> Message:
    return {"mode": mode, "size": size, "start": start, "end": end, "palette": None, "transparency": None}


def _paste(picture: PIL.Image.Image, place: memoryview) -> None:
    # Four bytes a pixel, as Pillow keeps them. To pack them into three takes several times as long.
    target = PIL.Image.frombuffer("RGBX", picture.size, place, "raw", "RGBX", 0, 1)  # type: ignore[arg-type]
    target.im.paste(picture.im, (0, 0, *picture.size))


def _shared_memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pictures")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _resolved(medium: Image | Video, num_frames: int, limits: Limits) -> bool:
    return isinstance(resolve(medium), Video)


def _probed(medium: Image | Video, num_frames: int, limits: Limits) -> VideoInfo:
    return probe(medium.source, limits)


def _weight(medium: Image | Video, num_frames: int, limits: Limits) -> int:
    return decoded_bytes(medium, num_frames=num_frames, limits=limits)


_WORK: dict[str, Callable[[Image | Video, int, Limits], object]] = {
    "resolve": _resolved,
    "probe": _probed,
    "weigh": _weight,
}
