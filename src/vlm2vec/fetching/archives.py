"""How do the wanted members of an archive get to their places, so that a killed run leaves nothing half there?"""

from __future__ import annotations

import gzip
import io
import lzma
import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from tarfile import InvalidHeaderError, ReadError, TruncatedHeaderError  # type: ignore[attr-defined]
from typing import IO, NamedTuple, Self, TypeAlias

from vlm2vec.errors import DataError
from vlm2vec.files import reason, writing

STAGING = ".unpacking"
"""In it folders wait until they are whole; it lies beside their places, so that moving them is one step."""

SET_ASIDE = ".unpacking-replaced"
"""In it is a folder that is being replaced, until the new one has its place."""


class Unpacked(NamedTuple):
    """The outcome for an archive: files written, wanted paths that it does not have, and its uppermost folders."""

    written: int
    absent: tuple[str, ...]
    holds: tuple[str, ...]


_Member: TypeAlias = tuple[str, Callable[[], IO[bytes] | None]]
"""A name, and what opens the bytes; of a link or a device that gives None."""


def unpack(
    parts: Sequence[Path],
    root: Path,
    prefix: str,
    place: Callable[[str], str],
    wanted: Collection[str],
    on_bytes: Callable[[int], None] = lambda count: None,
) -> Unpacked:
    """Unpack the wanted members of an archive; what is there already stays as it is.

    Every file gets its name when it is whole. A wanted folder appears with all its files at once, because one with a
    part of its frames could not be told from a short video.

    Args:
        parts: the archive, as one file or as parts that are read one after the other: tar, tar with gzip, or zip.
        prefix: folder under the data root that everything goes to.
        place: the path under the root of a member.
        wanted: paths under the root of files, or of folders with all that is in them.
        on_bytes: told how much of the archive has been read since the last time.

    Raises:
        DataError: the archive is damaged, or a member leads out of the folder or is no plain file.
        StorageError: the disk is full, or the folder may not be written.
    """
    names, found, holds, written = set(wanted), set[str](), dict[str, None](), 0
    staging, what = root / prefix / STAGING, parts[0].name
    with writing(root / prefix):
        _put_back(root / prefix / SET_ASIDE, root / prefix)
    with _damage_told(parts):
        for name, read in _members(parts, on_bytes):
            inner = _safe(name, what)
            holds.setdefault("/".join(PurePosixPath(inner).parts[:-1][:3]))
            # Systems leave such files beside the real ones; a picture's would count as a frame.
            if PurePosixPath(inner).name.startswith("._"):
                continue
            path = _safe(place(inner), what)
            match = _match(path, names)
            if match is None:
                continue
            found.add(match)
            target = root / path if match == path else staging / PurePosixPath(path).relative_to(prefix)
            if target.exists() or (root / path).exists():
                continue
            source = read()
            if source is None:
                raise DataError(f"{what}: {name} is a link or a device, not a plain file; it is not unpacked")
            _write(source, target)
            written += 1
    _settle_all([PurePosixPath(path).relative_to(prefix) for path in sorted(found)], root / prefix)
    return Unpacked(written, tuple(path for path in wanted if path not in found), tuple(sorted(holds)))


# An archive's readers raise ValueError and its like for names and numbers that are none, and OSError for places that
# are none. What the system says while files are written has become a StorageError.
_DAMAGE = (
    *(EOFError, zlib.error, lzma.LZMAError, struct.error, OSError, tarfile.TarError, zipfile.BadZipFile),
    *(ValueError, ArithmeticError, LookupError, RecursionError, NotImplementedError),
)


@contextmanager
def _damage_told(parts: Sequence[Path]) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        said = reason(error) if isinstance(error, OSError) else error
        raise DataError(
            f"{', '.join(map(str, parts))} cannot be unpacked: {said}; delete it and fetch it again"
        ) from None


def _members(parts: Sequence[Path], on_bytes: Callable[[int], None]) -> Iterator[_Member]:
    with ExitStack() as stack:
        # One stream, without a copy on disk.
        streams = [stack.enter_context(part.open("rb", buffering=0)) for part in parts]
        stream = io.BufferedReader(_Chain(streams, on_bytes), 1 << 20)
        start = stream.peek(2)[:2]
        if start == b"PK":
            yield from _of_zip(parts)
        elif start == b"\x1f\x8b":
            # Not tarfile's own gzip: it reads the first of several streams only.
            with gzip.open(stream) as plain:
                yield from _of_tar(plain)
        else:
            yield from _of_tar(stream)


def _of_tar(stream: io.BufferedIOBase) -> Iterator[_Member]:
    # Archives that were joined have an end mark in their middle.
    with tarfile.open(fileobj=stream, mode="r|", ignore_zeros=True, tarinfo=_CheckedMember) as archive:
        while (info := archive.next()) is not None:
            # It would keep all of them, which are a million in an archive of frames.
            archive.members.clear()  # type: ignore[attr-defined]
            if not info.isdir():
                yield info.name, partial(archive.extractfile, info) if info.isreg() else lambda: None


class _CheckedMember(tarfile.TarInfo):
    """A member whose header is whole: with `ignore_zeros` a damaged one is passed over, and the file with it."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except (InvalidHeaderError, TruncatedHeaderError) as error:
            # Not a kind of header's error, which would be passed over.
            raise ReadError(f"damaged at byte {tarfile.offset:,}: {error}") from None


def _of_zip(parts: Sequence[Path]) -> Iterator[_Member]:
    if len(parts) > 1:
        raise DataError(f"{parts[0].name}: a zip archive in parts cannot be read; join them first")
    with zipfile.ZipFile(parts[0]) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                # The upper half holds Unix's kind of file: a link's "contents" are where it leads.
                link = info.external_attr >> 28 == 0o12
                yield info.filename, (lambda: None) if link else partial(_opened, archive, info)


def _opened(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    """A member's bytes, unless it is encrypted, or packed in a way that Python does not know."""
    if info.flag_bits & 0x1:
        remedy = "unpack the archive by hand with its password"
        raise DataError(f"{archive.filename}: {info.filename} is encrypted; {remedy}")
    try:
        return archive.open(info)
    except (NotImplementedError, RuntimeError) as error:
        # Those who made the archive are not at fault, and fetching it again does not help.
        raise DataError(
            f"{archive.filename}: {info.filename} cannot be unpacked ({error}); unpack the archive by hand with a "
            "program that can, such as 7z"
        ) from None


def _safe(name: str, what: str) -> str:
    """A member's name without "./" in front, unless it is absolute or leads upwards."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or "\0" in name or ".." in parts or not parts:
        raise DataError(f"{what} holds {name!r}, which leads out of its folder: the archive is not unpacked")
    return "/".join(parts)


def _match(path: str, wanted: Collection[str]) -> str | None:
    """The wanted path that a path is or lies in."""
    if path in wanted:
        return path
    return next((str(folder) for folder in PurePosixPath(path).parents if str(folder) in wanted), None)


def _write(source: IO[bytes], target: Path) -> None:
    # Not `atomic_writer`, which waits for the disk: an archive may hold a million files.
    draft = target.with_name(f".{target.name}.part")
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        stream = draft.open("wb")
    with source, stream:
        while block := source.read(1 << 20):
            with writing(draft):
                stream.write(block)
    os.replace(draft, target)


def _settle_all(folders: Sequence[PurePosixPath], home: Path) -> None:
    staging, aside = home / STAGING, home / SET_ASIDE
    with writing(home):
        for folder in folders:
            _settle(staging / folder, home / folder, aside / folder)
        shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def _settle(staged: Path, place: Path, aside: Path) -> None:
    """Give a whole folder its place; if there is one already, its files join the new ones first.

    At every moment the place holds the folder that was there, or the whole one, or, between two renames, nothing.
    """
    if not staged.is_dir():
        return
    for draft in sorted(staged.rglob(".*.part")):
        draft.unlink()
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        for file in sorted(path for path in place.rglob("*") if path.is_symlink() or path.is_file()):
            _double(file, staged / file.relative_to(place))
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.rename(place, aside)
    os.rename(staged, place)
    shutil.rmtree(aside, ignore_errors=True)


def _double(file: Path, target: Path) -> None:
    """Give a file a second place, as it was before another one came."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(file, target, follow_symlinks=False)
    except OSError:
        # Not every file system has links.
        draft = target.with_name(f".{target.name}.part")
        shutil.copy2(file, draft, follow_symlinks=False)
        os.replace(draft, target)


def _put_back(aside: Path, home: Path) -> None:
    """Give a folder its place again that a killed run set aside; delete what else is left of such ones."""
    for folder, names, _ in os.walk(aside):
        for name in sorted(names):
            kept = Path(folder) / name
            place = home / kept.relative_to(aside)
            if not place.exists():
                os.rename(kept, place)
                names.remove(name)
    shutil.rmtree(aside, ignore_errors=True)


class _Chain(io.RawIOBase):
    """Streams one after the other."""

    def __init__(self, streams: Sequence[IO[bytes]], on_bytes: Callable[[int], None]) -> None:
        self._streams = list(streams)
        self._on_bytes = on_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # any buffer, in typeshed's words
        while self._streams:
            piece = self._streams[0].read(len(buffer))
            if piece:
                buffer[: len(piece)] = piece
                self._on_bytes(len(piece))
                return len(piece)
            self._streams.pop(0)
        return 0
