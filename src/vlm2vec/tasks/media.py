"""Where do the pictures and frames of a benchmark lie? In folders under the data root, or packed in one file there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from vlm2vec.errors import DataError, MediaError
from vlm2vec.extras import require
from vlm2vec.items import FRAME_SUFFIXES
from vlm2vec.media import DEFAULT_LIMITS
from vlm2vec.media.video import frame_order, frame_paths

PACK = "media.parquet"
"""A data root that holds this file has all its pictures and frames in it."""

# In a folder of files a .webp may be a whole animation; in a pack it is what was packed.
_PACKED_FRAMES = FRAME_SUFFIXES | {".webp"}


class TaskMedia(Protocol):
    """Pictures and frames by their paths under the data root, with "/" between the parts."""

    def picture(self, path: str) -> Path | bytes:
        """A picture.

        Raises:
            MediaError: there is none.
        """

    def has_picture(self, path: str) -> bool:
        """Whether anything is there, which `picture` then gives or refuses."""

    def frames(self, folder: str) -> Sequence[Path | bytes]:
        """The frames in a folder, at least one, in natural order of their names.

        Raises:
            MediaError: the folder is missing or holds none.
        """

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder, sorted; none if it is missing."""


class _MediaFolder:
    """Media as files under a data root."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def picture(self, path: str) -> Path:
        file = self._root / path
        if not file.is_file():
            problem = "is a folder, not a picture" if file.is_dir() else "is not there; put the task's media in place"
            raise MediaError(f"{file} {problem}")
        return file

    def has_picture(self, path: str) -> bool:
        return (self._root / path).exists()

    def frames(self, folder: str) -> list[Path]:
        return frame_paths(self._root / folder, DEFAULT_LIMITS)

    def folders(self, folder: str) -> list[str]:
        place = self._root / folder
        return sorted(path.name for path in place.iterdir() if path.is_dir()) if place.is_dir() else []


class _MediaPack:
    """Media in a parquet file with the columns `path` (text) and `bytes`; it is held in memory, so it should be small.

    Raises:
        DataError: the file cannot be read or lacks a column.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = _read_pack(path)
        self._frames: dict[str, list[str]] = {}
        self._folders: dict[str, set[str]] = {}
        for name in self._files:
            file = PurePosixPath(name)
            if file.suffix.lower() in _PACKED_FRAMES:
                self._frames.setdefault(str(file.parent), []).append(name)
            for folder in file.parents:
                self._folders.setdefault(str(folder.parent), set()).add(folder.name)

    def picture(self, path: str) -> bytes:
        if path not in self._files:
            raise MediaError(f"{self._path} holds no file {path}")
        return self._files[path]

    def has_picture(self, path: str) -> bool:
        return path in self._files

    def frames(self, folder: str) -> list[bytes]:
        names = self._frames.get(folder)
        if not names:
            raise MediaError(f"{self._path} holds no frames in {folder}")
        return [self._files[name] for name in sorted(names, key=lambda name: frame_order(PurePosixPath(name).name))]

    def folders(self, folder: str) -> list[str]:
        return sorted(self._folders.get(folder, set()))


def open_media(root: Path) -> TaskMedia:
    """The media under a data root."""
    pack = root / PACK
    return _MediaPack(pack) if pack.is_file() else _MediaFolder(root)


def _read_pack(path: Path) -> Mapping[str, bytes]:
    require("evaluate", "pyarrow")
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path, columns=["path", "bytes"])
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"{path} cannot be read as a pack of media: {error}") from None
    if table.column_names != ["path", "bytes"]:
        raise DataError(f"{path} has the columns {table.column_names}; a pack of media has 'path' and 'bytes'")
    return dict(zip(table["path"].to_pylist(), table["bytes"].to_pylist(), strict=True))
