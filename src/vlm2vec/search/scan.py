"""Which files of a folder can be searched, and what are the parts of one file that get a vector each?"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from vlm2vec.errors import IndexFolderError
from vlm2vec.items import IMAGE_SUFFIXES, PDF_SUFFIXES, VIDEO_SUFFIXES, Image, Item, Video

if TYPE_CHECKING:
    from vlm2vec.media.sandbox import Decoder

_LOG = logging.getLogger("vlm2vec")

Kind: TypeAlias = Literal["image", "video", "page"]
FileKind: TypeAlias = Literal["image", "video", "pdf"]

_KINDS: dict[str, FileKind] = {
    **dict.fromkeys(IMAGE_SUFFIXES, "image"),
    **dict.fromkeys(VIDEO_SUFFIXES, "video"),
    **dict.fromkeys(PDF_SUFFIXES, "pdf"),
}


class FoundFile(NamedTuple):
    """A file whose ending says that it is an image, a video or a PDF.

    Args:
        path: relative to the scanned folder, with "/" between its parts.
        kind: by the ending alone; nothing has been read.
        size: bytes.
        mtime_ns: modification time.
    """

    path: str
    kind: FileKind
    size: int
    mtime_ns: int


class Scan(NamedTuple):
    """What a folder holds: `files` sorted by path, `failed` as (path, reason), `ignored` files of other endings."""

    files: list[FoundFile]
    failed: list[tuple[str, str]]
    ignored: int


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of a file that gets one vector: a picture, a span of a video (None: all of it), a page of a PDF."""

    kind: Kind
    medium: Image | Video
    page: int | None = None
    span_s: tuple[float, float] | None = None

    def item(self) -> Item:
        """The unit as something to embed."""
        return Item(media=(self.medium,))


def scan_folder(folder: Path, *, skip: Collection[Path] = ()) -> Scan:
    """List the media files under `folder`, hidden files and folders and the folders in `skip` left out.

    Links to files and folders are followed, but every real folder is entered once: a loop of links ends, and of two
    ways to a folder the one without a link is taken. A folder that cannot be listed, and a media ending on a link to
    nowhere or on something that is no regular file (a pipe, a device), are in `failed`; so is a link to nowhere without
    any ending, which may be a folder that is away for a while.

    Raises:
        IndexFolderError: `folder` is missing, no folder, or cannot be listed.
    """
    try:
        root = _identity(folder)
        os.scandir(folder).close()
    except OSError as error:
        raise IndexFolderError(
            f"cannot search the folder {folder}: {read_error(error)}; give the path of a folder that you can read"
        ) from error
    entered = {root, *(_identity(path) for path in skip if path.exists())}
    scan = Scan([], [], 0)
    ignored = 0
    folders, linked = [""], list[str]()
    while folders or linked:
        # Linked folders wait until every real one is entered.
        prefix = folders.pop() if folders else linked.pop(0)
        try:
            if prefix:
                identity = _identity(folder / prefix)
                if identity in entered:
                    continue
                entered.add(identity)
            with os.scandir(folder / prefix) as listing:
                entries = sorted((entry for entry in listing if not entry.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            scan.failed.append((prefix, read_error(error)))
            continue
        for entry in entries:
            path = failed_as = prefix + entry.name
            kind = file_kind(path)
            try:
                if entry.is_dir():
                    (linked if entry.is_symlink() else folders).append(path + "/")
                elif kind is None and entry.is_symlink() and not os.path.splitext(path)[1]:
                    failed_as = path + "/"
                    entry.stat()
                    ignored += 1
                elif kind is None:
                    ignored += 1
                else:
                    scan.files.append(_found(path, kind, entry.stat()))
            except OSError as error:
                scan.failed.append((failed_as, read_error(error)))
    scan.files.sort(key=lambda file: file.path)
    return Scan(scan.files, sorted(scan.failed), ignored)


def scan_file(folder: Path, path: str) -> FoundFile:
    """Look at one file, given relative to `folder`.

    Raises:
        OSError: it is missing, no regular file, or its ending says neither image, video nor PDF.
    """
    kind = file_kind(path)
    if kind is None:
        raise OSError(f"the ending {os.path.splitext(path)[1]!r} is neither an image, a video nor a PDF")
    return _found(path, kind, os.stat(folder / path))


def expand(path: Path, kind: FileKind, decoder: Decoder | None = None) -> list[Unit]:
    """Divide a file into its units: the pages of a PDF, the spans of a long video, otherwise the file as one unit.

    Reads headers only. An animated GIF or WebP is a video of one unit. Gaps of a video are in no span; a warning tells
    them. A `decoder` looks into the file in its way.

    Raises:
        MediaError: the file is not what its ending says, or larger than the limits allow.
    """
    # Here, because a search in an index that is up to date looks into no file.
    from vlm2vec import media as direct

    decoder = decoder or direct
    if kind == "pdf":
        return [Unit("page", Image(path, page=page), page=page) for page in range(1, decoder.page_count(path) + 1)]
    if kind == "video":
        info = decoder.probe(path)
        spans = direct.split_spans(info.duration_s, gaps_s=info.gaps_s)
        for start_s, end_s in info.gaps_s:
            _LOG.warning("%s shows nothing new from %.0f to %.0f s: left out of its spans", path, start_s, end_s)
        if len(spans) < 2 and not info.gaps_s:
            return [Unit("video", Video(path))]
        return [Unit("video", Video(path, span_s=span), span_s=span) for span in spans]
    medium = decoder.resolve(Image(path))
    return [Unit(direct.media_kind(medium), medium)]


def file_kind(path: str) -> FileKind | None:
    """What a file's ending says it is; None for anything that is not searched."""
    return _KINDS.get(os.path.splitext(path)[1].lower())


def printable(name: str) -> str:
    """A file name as it can be shown: what is no text in it, or would steer a terminal, is replaced by "\ufffd"."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name)


def read_error(error: OSError) -> str:
    """Why the system refused a file, in its own words."""
    # `strerror` leaves out the path, which stands beside the reason wherever it is shown.
    return error.strerror.lower() if error.strerror else str(error)


def _found(path: str, kind: FileKind, status: os.stat_result) -> FoundFile:
    if not stat.S_ISREG(status.st_mode):
        # Opening a pipe would wait for ever.
        raise OSError("not a regular file")
    return FoundFile(path, kind, status.st_size, status.st_mtime_ns)


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
