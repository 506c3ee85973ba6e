"""How are the bytes of a medium opened: how many may they be, and what is it called in a message?"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import PIL.Image

from vlm2vec.errors import LimitError, MediaError, VLM2VecError

Form: TypeAlias = Literal["an image", "a video", "a PDF", "a document"]
"""The medium that a file should be, in the words of a message."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds checked before anything large is decoded, and bounds of decoding itself.

    The defaults let through what people keep (a 200-megapixel photograph, a feature film, a 2,000-page manual) and stop
    what only a mistake or an attack produces, such as a few kilobytes that claim to be a gigapixel picture.

    Args:
        image_px: of a still picture.
        frame_px: of a frame of a video or an animated picture.
        frames: of a video or an animated picture.
        animation_px: of all frames of an animated picture together. Each is composed from the one before, so that the
            last cannot be had without all others. 2,000 frames in Full HD have as many.
        pages: of a PDF; slides and sheets of a document.
        sections: of a document.
        image_bytes, video_bytes, pdf_bytes, document_bytes: of a file.
        text_bytes: of a text, and of the texts that are packed into a document, pictures not counted.
        text_chars: of the words of a file. What is more is left out, and told: the file is found by the rest. A book of
            a thousand pages has 3 million.
        decode_bytes: memory that decoding one page or video may take beyond what the decoder takes anyway. Enforced
            where decoding runs in a process of its own (`media.sandbox`), as are the two times.
        decode_s: how long decoding one page or picture may take.
        film_s_per_mb: how much longer it may take for a video, by its stored megabytes: to pick frames from a film may
            be to decode all of it.
        render_s: how long a program may take to make a PDF of a document (`media.documents.render`).
    """

    image_px: int = 256_000_000
    frame_px: int = 64_000_000
    frames: int = 2_000_000
    animation_px: int = 4_000_000_000
    pages: int = 5_000
    sections: int = 50_000
    image_bytes: int = 1 << 30
    video_bytes: int = 64 << 30
    pdf_bytes: int = 4 << 30
    document_bytes: int = 4 << 30
    text_bytes: int = 64 << 20
    text_chars: int = 20_000_000
    decode_bytes: int = 2 << 30
    decode_s: float = 60.0
    film_s_per_mb: float = 10.0
    render_s: float = 120.0

    def check_frames(self, count: int, name: str) -> None:
        """Raise LimitError if a video has more frames than `frames`."""
        if count > self.frames:
            raise LimitError(f"{name} has more than the {self.frames:,} frames allowed; cut it into parts")

    def check_pages(self, count: int, name: str) -> None:
        """Raise LimitError if a PDF has more pages than `pages`."""
        if count > self.pages:
            raise LimitError(f"{name} has {count:,} pages, more than the {self.pages:,} allowed; split it into parts")

    def said_of_text(self) -> str:
        """That a file has more words than `text_chars`, as the end of a sentence."""
        return f"the file has more than the {self.text_chars:,} characters of text allowed (Limits.text_chars)"


DEFAULT_LIMITS = Limits()


def describe(source: object) -> str:
    """Name a source in a message: a path as it is, bytes and PIL images by their size."""
    if isinstance(source, bytes):
        return f"<{len(source)} bytes>"
    if isinstance(source, PIL.Image.Image):
        return f"<PIL image {source.mode} {source.width}x{source.height}>"
    if isinstance(source, tuple):
        return f"<{len(source)} frames>"
    return str(source)


@contextmanager
def decoding(name: str, kind: str) -> Iterator[None]:
    """Turn any exception of a decoder into a `MediaError` that names the file and the reason.

    Wrap calls into a decoder in it and nothing else: damaged files make Pillow, FFmpeg and PDFium raise nearly every
    type of exception, so all of them count as the file's fault.
    """
    try:
        yield
    except VLM2VecError:
        raise
    except MemoryError as error:
        raise LimitError(f"{name} does not fit into memory as {kind}; make it smaller") from error
    except Exception as error:
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
        # Pillow raises OSError for damage too, but only the system gives it a number.
        access = isinstance(error, OSError) and error.errno is not None
        advice = "check the path and who may read it" if access else "check that the file is whole"
        raise MediaError(f"{name} cannot be read as {kind}: {reason}; {advice}") from error


def check_file(path: Path, kind: Form, limits: Limits) -> os.stat_result:
    """Refuse a file that no decoder should be handed: missing, a folder, a pipe or device, without bytes, or too large.

    Raises:
        MediaError: any of these; LimitError for the size.
    """
    with decoding(str(path), kind):
        status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"{path} cannot be read as {kind}: it is a folder")
    if not stat.S_ISREG(status.st_mode):
        # Opening a pipe would wait for a writer forever.
        raise MediaError(f"{path} cannot be read as {kind}: it is not a regular file")
    _check_size(status.st_size, str(path), kind, limits)
    return status


def is_folder(path: Path) -> bool:
    """Whether a video is a folder of frames. Raises MediaError where it cannot be looked at."""
    with decoding(str(path), "a video"):
        return path.is_dir()


@contextmanager
def open_source(source: Path | bytes, kind: Form, limits: Limits) -> Iterator[BinaryIO]:
    """Open a checked source as a binary stream.

    Raises:
        MediaError: as `check_file`, or the file may not be read.
    """
    if isinstance(source, bytes):
        _check_size(len(source), describe(source), kind, limits)
        yield io.BytesIO(source)
        return
    check_file(source, kind, limits)
    with decoding(str(source), kind):
        stream = source.open("rb")
    with stream:
        yield stream


def check_px(size: tuple[int, int], max_px: int, name: str) -> None:
    """Raise LimitError if a picture has more pixels than allowed, MediaError if it has none."""
    width, height = size
    if width * height > max_px:
        raise LimitError(
            f"{name} is {width} x {height} pixels, more than the {max_px:,} pixels allowed; make it smaller"
        )
    if width < 1 or height < 1:
        raise MediaError(f"{name} is {width} x {height} pixels: there is nothing to see")


def _check_size(size: int, name: str, kind: Form, limits: Limits) -> None:
    allowed: dict[Form, int] = {
        "an image": limits.image_bytes,
        "a video": limits.video_bytes,
        "a PDF": limits.pdf_bytes,
        "a document": limits.document_bytes,
    }
    max_bytes = allowed[kind]
    if size == 0:
        raise MediaError(f"{name} cannot be read as {kind}: it is empty")
    if size > max_bytes:
        raise LimitError(f"{name} has {size:,} bytes, more than the {max_bytes:,} allowed for {kind}; make it smaller")
