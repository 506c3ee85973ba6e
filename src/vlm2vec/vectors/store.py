"""Which vectors have been made already? A folder of them, each under the key of everything that made it."""

from __future__ import annotations

import os
import re
import uuid
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from io import BytesIO
from math import prod
from pathlib import Path
from typing import BinaryIO, ClassVar, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vlm2vec.errors import ConfigError, InputError
from vlm2vec.files import atomic_writer, remove_drafts
from vlm2vec.vectors.keys import KEY_BYTES

Vectors: TypeAlias = NDArray[np.float32]


class Store(ABC):
    """What is kept by key in a folder; `VectorStore` and `TokenStore` say what that is. `len` is the number of keys.

    The folder holds shards that never change, each written under another name and then renamed: a killed process
    leaves whole shards and at most a `.part` file, which nobody reads and the next `open` deletes. A shard is one file
    of arrays as `np.save` writes them: uint8 keys [N, 16], where a key has several rows their int64 numbers [N],
    float32 rows [T, dim], and uint8 checksums [2, 16] of what stands before the rows and of the rows. The first is
    compared when the shard is taken in, the second when its rows are first read. A shard without checksums, as older
    versions wrote them, is read unverified.
    Several processes may write to one folder at once; what others have written is seen after `refresh`. In memory are
    only the keys, some 200 bytes each.

    Attributes:
        folder: where the shards lie.
        dim: of its vectors. A folder may hold shards of other models, dimensions and kinds: no key of one is one of
            another, and the names of shards say their kind and dimension.
    """

    _prefix: ClassVar[str]
    _counted: ClassVar[bool]

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder = folder
        self.dim = dim
        self._numbers: dict[bytes, int] = {}
        self._shards: list[Shard] = []
        self._starts: list[int] = []
        self._known: set[str] = set()
        self._verified: set[Path] = set()

    @classmethod
    def open(cls, folder: Path, dim: int) -> Self:
        """Open the store in `folder`, which is made if it is missing. Reads the keys and no vector.

        Raises:
            ConfigError: the folder cannot be made or read, or a shard in it is damaged.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make the folder of vectors {folder}: {error.strerror}; give another") from error
        remove_drafts(folder)
        store = cls(folder, dim)
        store.refresh()
        return store

    def keys(self) -> list[bytes]:
        """All keys, in the order in which they were written or found."""
        return list(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, key: bytes) -> bool:
        return key in self._numbers

    def refresh(self) -> None:
        """Take in the shards that other processes have written since.

        Raises:
            ConfigError: as `open`.
        """
        start = f"{self._prefix}{self.dim}-"
        try:
            # Sorted, so that of two vectors under one key it is not the file system that chooses.
            names = sorted(name for name in os.listdir(self.folder) if name.startswith(start) and name.endswith(".npy"))
        except OSError as error:
            raise ConfigError(f"cannot read the folder of vectors {self.folder}: {error.strerror}") from error
        for name in names:
            if name not in self._known:
                self._take_in(self.folder / name)

    @abstractmethod
    def put(self, keys: Sequence[bytes], vectors: Vectors | Sequence[Vectors]) -> None:
        """Write what belongs to some keys, all of it or nothing; keys that are there already keep theirs.

        Raises:
            InputError: keys and vectors do not fit one another or this store.
            ConfigError: the folder cannot be written.
        """

    def _find(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """The number of each key in this store; -1 where it is not there."""
        return np.fromiter((self._numbers.get(key, -1) for key in keys), np.int64, len(keys))

    def _by_shard(self, numbers: NDArray[np.int64]) -> Iterator[tuple[Shard, NDArray[np.int64], NDArray[np.int64]]]:
        """Each shard that is needed, the positions in `numbers` that it serves, and where in the shard those lie."""
        # One after another: a mapping keeps its file open, and there may be thousands.
        shard_of = np.where(numbers >= 0, np.searchsorted(self._starts, numbers, side="right") - 1, -1)
        for shard in np.unique(shard_of[numbers >= 0]):
            positions = np.flatnonzero(shard_of == shard)
            yield self._shards[shard], positions, numbers[positions] - self._starts[shard]

    def _rows(self, shard: Shard) -> Vectors:
        """All rows of a shard, mapped from its file, which is compared with its checksum the first time.

        Raises:
            ConfigError: the file has gone or is damaged.
        """
        rows = shard.rows(self.dim)
        if shard.checksum is not None and shard.path not in self._verified:
            if _checksum(rows.data) != shard.checksum:
                raise _damaged(shard.path, "its vectors are not those that were written")
            self._verified.add(shard.path)
        return rows

    def _new(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """The keys that are not there yet, each once, with the first position where it stands."""
        new: dict[bytes, int] = {}
        for position, key in enumerate(keys):
            if key not in self._numbers:
                new.setdefault(key, position)
        return new

    def _write(self, keys: Iterable[bytes], rows: Sequence[Vectors]) -> None:
        """Write a shard of these keys. With counts, each array of `rows` is a key's; else there is one row a key."""
        path = self.folder / f"{self._prefix}{self.dim}-{uuid.uuid4().hex}.npy"
        counts = np.array([len(array) for array in rows], dtype="<i8")
        try:
            with atomic_writer(path) as stream:
                head = BytesIO()
                key_bytes = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, KEY_BYTES)
                npy.write_array(head, key_bytes, allow_pickle=False)
                if self._counted:
                    npy.write_array(head, counts, allow_pickle=False)
                shape = (int(counts.sum()), self.dim)
                npy.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
                stream.write(head.getbuffer())
                # Array by array, so that they need not lie in memory a second time.
                written = blake2b(digest_size=_CHECKSUM_BYTES)
                for array in rows:
                    part = np.ascontiguousarray(array, dtype="<f4").data
                    written.update(part)
                    stream.write(part)
                stream.write(_footer(_checksum(head.getbuffer()), written.digest()))
        except OSError as error:
            raise ConfigError(
                f"cannot write vectors to {self.folder}: {error.strerror}; give another folder"
            ) from error
        self._take_in(path)

    def _take_in(self, path: Path) -> None:
        shard, keys = _open_shard(path, self.dim, counted=self._counted)
        start = self._starts[-1] + len(self._shards[-1].bounds) - 1 if self._shards else 0
        for place, key in enumerate(keys):
            self._numbers.setdefault(key, start + place)
        self._starts.append(start)
        self._shards.append(shard)
        self._known.add(path.name)


class VectorStore(Store):
    """A vector for each key, as `Store` keeps it. Make one with `VectorStore.open`."""

    _prefix = ""
    _counted = False

    @staticmethod
    def dims(folder: Path) -> list[int]:
        """Dimensions of the vectors that a folder holds, smallest first; none if it is missing.

        Raises:
            ConfigError: it cannot be read.
        """
        try:
            names = os.listdir(folder) if folder.exists() else []
        except OSError as error:
            raise ConfigError(f"cannot read the folder of vectors {folder}: {error.strerror}") from error
        return sorted({int(found[1]) for name in names if (found := re.fullmatch(r"(\d+)-[0-9a-f]{32}\.npy", name))})

    def get(self, keys: Sequence[bytes]) -> tuple[NDArray[np.bool_], Vectors]:
        """Look keys up.

        Returns:
            bool [N], which are there; float32 [N, dim], zeros where none is.

        Raises:
            ConfigError: a shard has gone or is damaged.
        """
        numbers = self._find(keys)
        vectors = np.zeros((len(keys), self.dim), dtype=np.float32)
        for shard, positions, places in self._by_shard(numbers):
            vectors[positions] = self._rows(shard)[places]
        return numbers >= 0, vectors

    def put(self, keys: Sequence[bytes], vectors: Vectors | Sequence[Vectors]) -> None:
        """Write vectors, all of them or none; keys that are there already keep theirs.

        Args:
            keys: of 16 bytes each (`vectors.keys.item_key`).
            vectors: float32 [N, dim], or N of [dim].

        Raises:
            InputError: keys and vectors do not fit one another or this store.
            ConfigError: the folder cannot be written.
        """
        vectors = np.asarray(vectors)
        if vectors.shape != (len(keys), self.dim) or any(len(key) != KEY_BYTES for key in keys):
            raise InputError(
                f"{len(keys)} keys and vectors of shape {vectors.shape} cannot be stored: this store takes keys of "
                f"{KEY_BYTES} bytes and as many vectors of {self.dim} numbers"
            )
        new = self._new(keys)
        if new:
            self._write(new, [vectors[list(new.values())]])


class Shard(NamedTuple):
    """One file of a store.

    Args:
        path: the file.
        bounds: int64 [N + 1], at which row those of each of its N keys begin, and how many rows there are.
        offset: where the rows begin, in bytes.
        checksum: of the rows; None if none was written.
    """

    path: Path
    bounds: NDArray[np.int64]
    offset: int
    checksum: bytes | None

    def rows(self, dim: int) -> Vectors:
        """All rows, mapped from the file.

        Raises:
            ConfigError: the file has gone or is damaged.
        """
        try:
            return np.memmap(self.path, dtype="<f4", mode="r", offset=self.offset, shape=(int(self.bounds[-1]), dim))
        except (OSError, ValueError) as error:
            raise _damaged(self.path, str(error)) from error


_CHECKSUM_BYTES = 16


def _checksum(data: bytes | memoryview) -> bytes:
    return blake2b(data, digest_size=_CHECKSUM_BYTES).digest()


def _footer(*checksums: bytes) -> bytes:
    """The last array of a shard, in bytes."""
    stream = BytesIO()
    array = np.frombuffer(b"".join(checksums), dtype=np.uint8).reshape(len(checksums), _CHECKSUM_BYTES)
    npy.write_array(stream, array, allow_pickle=False)
    return stream.getvalue()


def _open_shard(path: Path, dim: int, *, counted: bool) -> tuple[Shard, list[bytes]]:
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            keys = _read_array(stream, size)
            if keys.dtype != np.uint8 or keys.shape[1:] != (KEY_BYTES,):
                raise ValueError(f"its keys are {keys.dtype} {keys.shape}")
            bounds = _read_bounds(stream, size, len(keys)) if counted else np.arange(len(keys) + 1)
            shape, dtype = _read_header(stream)
            num_rows, offset = int(bounds[-1]), stream.tell()
            if (shape, dtype) != ((num_rows, dim), np.dtype("<f4")):
                raise ValueError(f"its vectors are {dtype} {shape}")
            end = offset + num_rows * dim * 4
            checksum = None
            if size != end:
                checksum = _read_checksums(stream, offset, end)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    return Shard(path, bounds, offset, checksum), [row.tobytes() for row in keys]


def _read_checksums(stream: BinaryIO, offset: int, end: int) -> bytes:
    """The checksum of the rows, which lie from `offset` to `end`; that of what stands before them is compared."""
    stream.seek(end)
    footer = stream.read()
    stream.seek(0)
    of_rows = footer[-_CHECKSUM_BYTES:]
    if footer != _footer(_checksum(stream.read(offset)), of_rows):
        raise ValueError("its keys, its sizes or its checksums are not those that were written")
    return of_rows


def _read_bounds(stream: BinaryIO, size: int, num_keys: int) -> NDArray[np.int64]:
    stored = _read_array(stream, size)
    if stored.dtype != np.dtype("<i8") or stored.shape != (num_keys,):
        raise ValueError(f"its {num_keys} keys have counts {stored.dtype} {stored.shape}")
    counts = stored.astype(np.int64, copy=False)
    if (counts < 1).any():
        raise ValueError("a key of it has a count below 1")
    # More rows than bytes; their sum may not fit into 64 bits.
    if num_keys and int(counts.max()) > size:
        raise ValueError(f"a key of it has {counts.max()} rows, and the file {size} bytes")
    return np.concatenate([[0], np.cumsum(counts)])


def _read_array(stream: BinaryIO, size: int) -> NDArray[np.generic]:
    """The next array of a file of `size` bytes.

    Raises:
        ValueError: there is none, or not all of it.
    """
    shape, dtype = _read_header(stream)
    wanted = prod(shape) * dtype.itemsize
    if wanted > size - stream.tell():
        raise ValueError(f"an array of {wanted} bytes is to follow byte {stream.tell()} of {size}")
    return np.frombuffer(stream.read(wanted), dtype).reshape(shape)


def _read_header(stream: BinaryIO) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and numbers of the next array, as `_write` writes them: by rows, and no Python objects.

    Raises:
        ValueError: the bytes say no such thing.
    """
    if npy.read_magic(stream) != (1, 0):
        raise ValueError("its format is unknown")
    try:
        # numpy evaluates the header as a Python literal: a damaged one fails in every way that literals do, or warns.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            shape, by_columns, dtype = npy.read_array_header_1_0(stream)
    except Exception as error:
        raise ValueError(f"an array's header is damaged: {error}") from error
    if by_columns or dtype.hasobject or dtype.itemsize == 0 or any(length < 0 for length in shape):
        raise ValueError(f"an array of {dtype} {shape} was not written by this package")
    return shape, dtype


def _damaged(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"the stored vectors {path} cannot be read: {reason}; delete the file, and its vectors are made anew"
    )
