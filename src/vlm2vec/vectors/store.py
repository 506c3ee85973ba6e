"""Which vectors have been made already? A folder of them, each under the key of everything that made it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vlm2vec.errors import ConfigError, InputError
from vlm2vec.vectors.keys import KEY_BYTES

Vectors: TypeAlias = NDArray[np.float32]


class VectorStore:
    """Vectors by key in a folder. Make one with `VectorStore.open`; `len` is the number of vectors.

    The folder holds shards that never change, each written under another name and then renamed: a killed process
    leaves whole shards and at most a `.part` file, which nobody reads. A shard is one file of two arrays as `np.save`
    writes them, uint8 keys [N, 16] and float32 vectors [N, dim]. Several processes may write to one folder at once;
    what others have written is seen after `refresh`. In memory are only the keys, some 200 bytes each.

    Attributes:
        folder: where the shards lie.
        dim: of its vectors. A folder may hold shards of other models and dimensions: no key of one is one of another.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder = folder
        self.dim = dim
        self._rows: dict[bytes, int] = {}
        self._shards: list[_Shard] = []
        self._starts: list[int] = []
        self._known: set[str] = set()

    @classmethod
    def open(cls, folder: Path, dim: int) -> VectorStore:
        """Open the store in `folder`, which is made if it is missing. Reads the keys and no vector.

        Raises:
            ConfigError: the folder cannot be made or read, or a shard in it is damaged.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make the folder of vectors {folder}: {error.strerror}; give another") from error
        store = cls(folder, dim)
        store.refresh()
        return store

    def __len__(self) -> int:
        return len(self._rows)

    def refresh(self) -> None:
        """Take in the shards that other processes have written since.

        Raises:
            ConfigError: as `open`.
        """
        try:
            # Sorted, so that of two vectors under one key it is not the file system that chooses.
            names = sorted(name for name in os.listdir(self.folder) if _is_shard(name, self.dim))
        except OSError as error:
            raise ConfigError(f"cannot read the folder of vectors {self.folder}: {error.strerror}") from error
        for name in names:
            if name not in self._known:
                self._take_in(self.folder / name)

    def get(self, keys: Sequence[bytes]) -> tuple[NDArray[np.bool_], Vectors]:
        """Look keys up.

        Returns:
            bool [N], which are there; float32 [N, dim], zeros where none is.

        Raises:
            ConfigError: a shard has gone or is damaged.
        """
        rows = np.fromiter((self._rows.get(key, -1) for key in keys), np.int64, len(keys))
        vectors = np.zeros((len(keys), self.dim), dtype=np.float32)
        found = rows >= 0
        # Mapped one after another: a mapping keeps its file open, and there may be thousands.
        shard_of = np.where(found, np.searchsorted(self._starts, rows, side="right") - 1, -1)
        for shard in np.unique(shard_of[found]):
            of_shard = shard_of == shard
            vectors[of_shard] = self._shards[shard].vectors(self.dim)[rows[of_shard] - self._starts[shard]]
        return found, vectors

    def put(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        """Write vectors, all of them or none; keys that are there already keep theirs.

        Args:
            keys: of 16 bytes each (`vectors.keys.item_key`).
            vectors: float32 [N, dim].

        Raises:
            InputError: keys and vectors do not fit one another or this store.
            ConfigError: the folder cannot be written.
        """
        if vectors.shape != (len(keys), self.dim) or any(len(key) != KEY_BYTES for key in keys):
            raise InputError(
                f"{len(keys)} keys and vectors of shape {vectors.shape} cannot be stored: this store takes keys of "
                f"{KEY_BYTES} bytes and as many vectors of {self.dim} numbers"
            )
        new: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            if key not in self._rows:
                new.setdefault(key, row)
        if not new:
            return
        path = self.folder / f"{self.dim}-{uuid.uuid4().hex}.npy"
        try:
            with atomic_writer(path) as stream:
                key_bytes = np.frombuffer(b"".join(new), dtype=np.uint8).reshape(-1, KEY_BYTES)
                npy.write_array(stream, key_bytes, allow_pickle=False)
                chosen = vectors[list(new.values())].astype("<f4", copy=False)
                npy.write_array(stream, np.ascontiguousarray(chosen), allow_pickle=False)
        except OSError as error:
            raise ConfigError(
                f"cannot write vectors to {self.folder}: {error.strerror}; give another folder"
            ) from error
        self._take_in(path)

    def _take_in(self, path: Path) -> None:
        shard, keys = _open_shard(path, self.dim)
        start = self._starts[-1] + self._shards[-1].num_rows if self._shards else 0
        for row, key in enumerate(keys):
            self._rows.setdefault(key, start + row)
        self._starts.append(start)
        self._shards.append(shard)
        self._known.add(path.name)


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Write a file that is there whole or not at all, whatever ends the process.

    Raises:
        OSError: it cannot be written.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


class _Shard(NamedTuple):
    path: Path
    num_rows: int
    offset: int

    def vectors(self, dim: int) -> Vectors:
        try:
            return np.memmap(self.path, dtype="<f4", mode="r", offset=self.offset, shape=(self.num_rows, dim))
        except (OSError, ValueError) as error:
            raise _damaged(self.path, str(error)) from error


def _is_shard(name: str, dim: int) -> bool:
    return name.startswith(f"{dim}-") and name.endswith(".npy")


def _open_shard(path: Path, dim: int) -> tuple[_Shard, list[bytes]]:
    try:
        with path.open("rb") as stream:
            keys = npy.read_array(stream, allow_pickle=False)
            if npy.read_magic(stream) != (1, 0):
                raise ValueError("its format is unknown")
            shape, by_columns, dtype = npy.read_array_header_1_0(stream)
            shard = _Shard(path, len(keys), stream.tell())
        if keys.dtype != np.uint8 or keys.shape[1:] != (KEY_BYTES,):
            raise ValueError(f"its keys are {keys.dtype} {keys.shape}")
        if (shape, by_columns, dtype) != ((len(keys), dim), False, np.dtype("<f4")):
            raise ValueError(f"its vectors are {dtype} {shape}")
        wanted = shard.offset + len(keys) * dim * 4
        if path.stat().st_size != wanted:
            raise ValueError(f"it has {path.stat().st_size} bytes, and {wanted} were written")
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    return shard, [row.tobytes() for row in keys]


def _damaged(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"the stored vectors {path} cannot be read: {reason}; delete the file, and its vectors are made anew"
    )
