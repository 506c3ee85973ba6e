"""Which files of a folder can be searched, and what are the parts of one file that get a vector each?"""

from __future__ import annotations

import logging
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from vlm2vec.errors import IndexFolderError, MediaError
from vlm2vec.extras import extra_for
from vlm2vec.files import reason
from vlm2vec.items import DOCUMENT_SUFFIXES, IMAGE_SUFFIXES, PDF_SUFFIXES, UNSURE_SUFFIXES, VIDEO_SUFFIXES, Image, Video
from vlm2vec.search.ignore import Exclusion
from vlm2vec.search.looks import beside_film, look_at
from vlm2vec.search.store import Look

if TYPE_CHECKING:
    from vlm2vec.media.sandbox import Decoder

_LOG = logging.getLogger("vlm2vec")

FileKind: TypeAlias = Literal["image", "video", "pdf", "document"]
"""A document has words, and pages where a program draws them."""

_KINDS: dict[str, FileKind] = {
    **dict.fromkeys(IMAGE_SUFFIXES, "image"),
    **dict.fromkeys(VIDEO_SUFFIXES, "video"),
    **dict.fromkeys(PDF_SUFFIXES, "pdf"),
    **dict.fromkeys(DOCUMENT_SUFFIXES, "document"),
}
# A packet of an MPEG transport stream, the same with a time stamp or with a checksum.
_PACKET_BYTES = (188, 192, 204)
_HEAD_BYTES = 4096
# That a warning names.
_MOST_GAPS = 3


class FoundFile(NamedTuple):
    """A file whose ending says that it is an image, a video or a PDF.

    Args:
        path: relative to the scanned folder, with "/" between its parts.
        kind: by the ending; for the few endings that stand for other things too, by the first bytes as well.
    """

    path: str
    kind: FileKind
    look: Look


class Scan(NamedTuple):
    """What a folder holds.

    Args:
        files: sorted by path.
        failed: (path, reason) of what cannot be looked at.
        left_out: counts files of other kinds by their ending in lower case, "" for those without one.
        missing: those of the names asked for that are not there.
        excluded: files and folders that patterns leave out; of a folder, what is in it is not listed.
    """

    files: list[FoundFile]
    failed: list[tuple[str, str]]
    left_out: Counter[str]
    missing: list[str]
    excluded: list[str]


def scan_folder(
    folder: Path,
    names: Iterable[str] | None = None,
    *,
    skip: Collection[Path] = (),
    exclude: Sequence[str] = (),
) -> Scan:
    """List the media files under `folder`, hidden files and folders and the folders in `skip` left out.

    Links to files and folders are followed, but every real folder is entered once: a loop of links ends, and of two
    ways to a folder the one without a link is taken. A folder that cannot be listed, and a media ending on a link to
    nowhere or on something that is no regular file (a pipe, a device), are in `failed`; so is a link to nowhere without
    any ending, which may be a folder that is away for a while, and an ignore file with a line that is no pattern.

    Args:
        names: only these files and folders, relative to `folder`; "" is all of it. One that is there and is no file to
            be searched is in `failed`.
        exclude: patterns of files and folders that are left out, besides those of ignore files and those of
            `search.ignore`; a file that is named is left out as well.

    Raises:
        IndexFolderError: `folder`, or one that is named, is no folder, or cannot be listed; or `folder` is missing.
        InputError: one of the patterns is none.
    """
    exclusion = Exclusion.of(folder, exclude)
    if names is None:
        scan = _scan_below(folder, "", skip, exclusion)
    else:
        check_folder(folder)
        scan = Scan([], [], Counter[str](), [], [])
        for name in names:
            _add(scan, _scan_named(folder, name, skip, exclusion))
    # A file may be named twice, or beside its folder.
    files = {file.path: file for file in scan.files}
    failed = dict(scan.failed) | dict(exclusion.problems)
    return scan._replace(files=[files[path] for path in sorted(files)], failed=sorted(failed.items()))


def _add(scan: Scan, other: Scan) -> None:
    scan.files.extend(other.files)
    scan.failed.extend(other.failed)
    scan.left_out.update(other.left_out)
    scan.missing.extend(other.missing)
    scan.excluded.extend(other.excluded)


def _scan_named(folder: Path, name: str, skip: Collection[Path], exclusion: Exclusion) -> Scan:
    """What there is of one name."""
    if not name:
        return _scan_below(folder, "", skip, exclusion)
    scan = Scan([], [], Counter[str](), [], [])
    try:
        is_folder = os.path.isdir(folder / name)
        here = exclusion.below(name)
        if here is None or here.excludes(name, is_folder=is_folder):
            scan.excluded.append(f"{name}/" if is_folder else name)
        elif is_folder:
            return _scan_below(folder, f"{name}/", skip, here)
        elif not os.path.lexists(folder / name):
            scan.missing.append(name)
        else:
            scan.files.append(_scan_file(folder, name))
    except (OSError, ValueError) as error:  # The latter of a NUL.
        scan.failed.append((name, reason(error)))
    return scan


def _scan_below(folder: Path, start: str, skip: Collection[Path], exclusion: Exclusion) -> Scan:
    """What lies in one folder, in no order; `start` is its path in `folder` with a "/" at its end, or "".

    Args:
        exclusion: that of the folder in which it lies.
    """
    entered = {_identity(path) for path in skip if path.exists()}
    scan = Scan([], [], Counter[str](), [], [])
    folders, linked = [(start, exclusion)], list[tuple[str, Exclusion]]()
    while folders or linked:
        # Linked folders wait until every real one is entered.
        prefix, outside = folders.pop() if folders else linked.pop(0)
        try:
            identity = _identity(folder / prefix)
            if identity in entered and prefix != start:
                continue
            entered.add(identity)
            here = outside.inside(prefix)
            with os.scandir(folder / prefix) as listing:
                entries = sorted((entry for entry in listing if not entry.name.startswith(".")), key=attrgetter("name"))
            names = [entry.name for entry in entries]
        except OSError as error:
            if prefix == start:
                raise _no_folder(folder / start, error) from error
            scan.failed.append((prefix, reason(error)))
            continue
        films = [name for name in names if ending(name) in VIDEO_SUFFIXES]
        # They are read with their film.
        of_films = {one.name for name in films for one in beside_film(folder / prefix / name, names)}
        for entry in entries:
            path = prefix + entry.name
            try:
                is_folder = entry.is_dir()
                if here.excludes(path, is_folder=is_folder):
                    scan.excluded.append(f"{path}/" if is_folder else path)
                elif is_folder:
                    (linked if entry.is_symlink() else folders).append((f"{path}/", here))
                elif entry.name not in of_films:
                    _take(scan, path, entry, names)
            except OSError as error:
                scan.failed.append((f"{path}/" if _may_be_a_folder(entry) else path, reason(error)))
    return scan


def _take(scan: Scan, path: str, entry: os.DirEntry[str], names: Sequence[str]) -> None:
    """Put a file into the scan as what it is. Raises OSError if it cannot be looked at.

    Args:
        names: of all that lies beside it, sorted.
    """
    kind = file_kind(path)
    if kind is None:
        if _may_be_a_folder(entry):
            entry.stat()
        scan.left_out[ending(path)] += 1
        return
    file = FoundFile(path, kind, look_at(entry.path, entry.stat(), names))
    if ending(path) not in UNSURE_SUFFIXES or _is_film(Path(entry.path)):
        scan.files.append(file)
    else:
        scan.left_out[ending(path)] += 1


def check_folder(folder: Path) -> None:
    """Raise IndexFolderError unless `folder` is a folder that may be looked into."""
    try:
        is_folder = stat.S_ISDIR(os.stat(folder).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_folder = False
    except (OSError, ValueError) as error:
        raise _no_folder(folder, error) from error
    if not is_folder:
        raise IndexFolderError(f"there is no folder {folder}; give the path of the folder whose files to search")


def _no_folder(folder: Path, error: OSError | ValueError) -> IndexFolderError:
    return IndexFolderError(
        f"cannot search the folder {folder}: {reason(error)}; give the path of a folder that you can read"
    )


def name_in(folder: Path, path: str | os.PathLike[str]) -> str:
    """A path relative to `folder`, as the index has it; "" for the folder itself.

    A relative path is taken from the current folder, or, if that leads out of `folder`, from there.

    Raises:
        IndexFolderError: it lies outside.
    """
    # Links stay as they are: a linked file is stored under the name it has in the folder.
    root = Path(os.path.abspath(folder))
    for base in (Path(), root):
        absolute = Path(os.path.abspath(base / path))
        if absolute.is_relative_to(root):
            name = absolute.relative_to(root).as_posix()
            return "" if name == "." else name
    raise IndexFolderError(f"{os.fspath(path)} is not inside {folder}, which this index is for")


def split_file(path: Path, kind: FileKind, decoder: Decoder | None = None) -> list[Image | Video]:
    """Divide a file into what gets a vector each: the pages of a PDF, the spans of a long video, otherwise all of it.

    Of a document it is the pages that LibreOffice or Chromium draws, where they are installed, or nothing.

    Reads headers only. An animated GIF or WebP is one video. Gaps of a video are in no span; a warning tells them. A
    `decoder` looks into the file in its way.

    Raises:
        MediaError: the file is not what its ending says, or larger than the limits allow.
    """
    # Here, because a search in an index that is up to date looks into no file.
    from vlm2vec import media as direct

    decoder = decoder or direct
    if kind == "image":
        return [decoder.resolve(Image(path))]
    if kind == "pdf":
        return [Image(path, page=page) for page in range(1, decoder.page_count(path) + 1)]
    if kind == "document":
        return _drawn_pages(path, decoder)
    info = decoder.probe(path)
    spans = direct.split_spans(info.duration_s, gaps_s=info.gaps_s)
    if info.gaps_s:
        named = ", ".join(f"{start_s:.0f} to {end_s:.0f} s" for start_s, end_s in info.gaps_s[:_MOST_GAPS])
        # A talk filmed as slides has hundreds.
        more = f" and in {rest} more gaps" if (rest := len(info.gaps_s) - _MOST_GAPS) > 0 else ""
        _LOG.warning("%s shows nothing new from %s%s: left out of its spans", path, named, more)
    if len(spans) < 2 and not info.gaps_s:
        return [Video(path)]
    return [Video(path, span_s=span) for span in spans]


def _drawn_pages(path: Path, decoder: Decoder) -> list[Image | Video]:
    """The pages of a document; none if no program that draws it is installed, or it cannot draw this one."""
    from vlm2vec.media.documents.render import PROGRAMS, program_path

    program = PROGRAMS.get(path.suffix.lower())
    if program is None or program_path(program) is None:
        return []
    try:
        return [Image(path, page=page) for page in range(1, decoder.page_count(path) + 1)]
    except MediaError as error:
        _LOG.warning("%s is found by its words alone: %s", path, error)
        return []


def file_kind(path: str) -> FileKind | None:
    """What a file's ending says it is; None for anything that is not searched, or needs an extra that is missing."""
    return None if extra_for(suffix := ending(path)) else _KINDS.get(suffix)


def may_be_searched(folder: str | Path, name: str) -> bool:
    """Whether a scan of all of `folder` may find something under a name; True as well of what is no longer there.

    Patterns that leave it out are not looked at.
    """
    path = Path(folder, name)
    if not name or os.path.isdir(path) or not os.path.lexists(path):
        return True
    try:
        return file_kind(name) is not None and (ending(name) not in UNSURE_SUFFIXES or _is_film(path))
    except OSError:
        # The update says why it cannot be read.
        return True


def ending(path: str) -> str:
    """The ending of a file's name in lower case, such as ".jpg"; "" if it has none."""
    return os.path.splitext(path)[1].lower()


def _scan_file(folder: Path, path: str) -> FoundFile:
    """Look at one file, given relative to `folder`.

    Raises:
        OSError: it is missing, no regular file, or its ending is none of those that are searched.
    """
    kind = file_kind(path)
    if kind is None:
        if extra := extra_for(ending(path)):
            raise OSError(f"the ending {ending(path)!r} needs the extra {extra!r}, which is not installed")
        raise OSError(f"the ending {ending(path)!r} is that of no image, video, PDF or document")
    return FoundFile(path, kind, look_at(folder / path))


def _may_be_a_folder(entry: os.DirEntry[str]) -> bool:
    """Whether the name is one of a link to a folder, which is away for a while if it leads nowhere."""
    return entry.is_symlink() and not ending(entry.name)


def _is_film(path: Path) -> bool:
    """Whether a file begins like an MPEG transport or program stream, or like Ogg with pictures in it."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if head.startswith(b"\x00\x00\x01\xba"):
        return True
    if head.startswith(b"OggS"):
        return any(mark in head for mark in (b"\x80theora", b"\x01video", b"BBCD", b"OVP80"))
    # A recording may begin in the middle of a packet. In program text, the same letter does not come back so often.
    starts = [start for start in range(min(len(head), max(_PACKET_BYTES))) if head[start] == 0x47]
    return any(
        set(head[start::size]) == {0x47}
        for size in _PACKET_BYTES
        if len(head) > 4 * size
        for start in starts
        if start < size
    )


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
