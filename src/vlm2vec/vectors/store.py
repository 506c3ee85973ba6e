"""Which vectors have been made already? A folder of them, each under the key of everything that made it."""

from __future__ import annotations

import os
import re
import time
import uuid
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from math import prod
from pathlib import Path
from typing import BinaryIO, ClassVar, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vlm2vec.errors import ConfigError, DataError, InputError
from vlm2vec.files import atomic_writer, reason, remove_drafts, writing
from vlm2vec.model.backbone import Vectors
from vlm2vec.vectors.keys import KEY_BYTES

LISTED_WITHIN_S = 90.0
"""A shared file system may list a file some time after another machine has written it; NFS, unless it is told
otherwise, within 60 seconds (acdirmax of nfs(5))."""

_CHECKSUM_BYTES = 16


class _Shards:
    """A folder of shards. `len` is the number of keys.

    A shard is written under another name and then renamed: a killed process leaves whole shards and at most a draft,
    which nobody reads and the next `open` deletes. Several processes may write to one folder at once; `refresh` shows
    what others have written. In memory are only the keys, some 200 bytes each.

    Attributes:
        folder: where the shards lie.
        dim: of its vectors. A folder may hold shards of other models, dimensions and kinds: no key of one is one of
            another, and the names of shards say their kind and dimension.
    """

    _prefix: ClassVar[str]
    _counted: ClassVar[bool]
    """Whether a key has several rows, whose number stands in the shard."""

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder = folder
        self.dim = dim
        self._numbers: dict[bytes, int] = {}
        self._shards: list[_Shard] = []
        self._starts: list[int] = []
        self._known: set[str] = set()

    @classmethod
    def open(cls, folder: Path, dim: int) -> Self:
        """Open the store in `folder`, which is made if it is missing. Reads the keys and no vector.

        Raises:
            StorageError: the folder cannot be made.
            DataError: it cannot be read, or a shard in it is damaged.
        """
        with writing(folder, to="vectors to"):
            folder.mkdir(parents=True, exist_ok=True)
        remove_drafts(folder)
        store = cls(folder, dim)
        store.refresh()
        return store

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, key: bytes) -> bool:
        return key in self._numbers

    def put(self, keys: Sequence[bytes], vectors: Vectors | Sequence[Vectors]) -> None:
        """Write vectors, all of them or none; keys that are there already keep theirs.

        Args:
            keys: of 16 bytes each (`vectors.keys.item_key`).
            vectors: of each key float32 [dim], in a `TokenStore` [tokens, dim] of at least one token.

        Raises:
            InputError: keys and vectors do not fit one another or this store.
            StorageError: the folder cannot be written.
        """
        lengths = {len(key) for key in keys} - {KEY_BYTES}
        wrong = [shape for shape in map(np.shape, vectors) if not self._fits(shape)]
        if len(vectors) != len(keys) or wrong or lengths:
            each = f"arrays [tokens, {self.dim}] of at least one token" if self._counted else f"vectors [{self.dim}]"
            raise InputError(
                f"{len(keys)} keys and {len(vectors)} arrays{f', one of shape {wrong[0]},' if wrong else ''} cannot be "
                f"stored: this store takes keys of {KEY_BYTES} bytes and as many {each}"
            )
        new: dict[bytes, Vectors] = {}
        for key, rows in zip(keys, vectors, strict=True):
            if key not in self._numbers:
                new.setdefault(key, rows if self._counted else rows[None])
        if new:
            path = self.folder / f"{self._prefix}{self.dim}-{uuid.uuid4().hex}.npy"
            with writing(self.folder, to="vectors to"):
                _write_shard(path, new, self.dim, counted=self._counted)
            self._take_in(path)

    def refresh(self) -> None:
        """Take in the shards that other processes have written since.

        Raises:
            DataError: the folder cannot be read, or a shard in it is damaged.
        """
        start = f"{self._prefix}{self.dim}-"
        # Sorted, so that of two vectors under one key it is not the file system that chooses.
        for name in sorted(_listed(self.folder)):
            if name.startswith(start) and name.endswith(".npy") and name not in self._known:
                self._take_in(self.folder / name)

    def wait_for(self, keys: Collection[bytes], patience_s: float = LISTED_WITHIN_S) -> None:
        """Wait until all of some keys are here, which other processes have written.

        Raises:
            ConfigError: some are missing after so many seconds.
            DataError: as `refresh`.
        """
        until_s = time.monotonic() + patience_s
        while True:
            self.refresh()
            num_missing = sum(key not in self for key in keys)
            if not num_missing:
                return
            if time.monotonic() >= until_s:
                raise ConfigError(
                    f"{num_missing} vectors that another process has made are not in {self.folder}: "
                    "give a folder that all processes share"
                )
            time.sleep(0.1)

    def _by_shard(self, keys: Sequence[bytes]) -> Iterator[tuple[_Shard, NDArray[np.int64], NDArray[np.int64]]]:
        """Each shard that is needed, the positions in `keys` that it serves, and where in the shard those lie."""
        numbers = np.fromiter((self._numbers.get(key, -1) for key in keys), np.int64, len(keys))
        # One after another: a mapping keeps its file open, and there may be thousands.
        shard_of = np.where(numbers >= 0, np.searchsorted(self._starts, numbers, side="right") - 1, -1)
        for shard in np.unique(shard_of[numbers >= 0]):
            positions = np.flatnonzero(shard_of == shard)
            yield self._shards[shard], positions, numbers[positions] - self._starts[shard]

    def _has(self, keys: Sequence[bytes]) -> NDArray[np.bool_]:
        return np.fromiter((key in self._numbers for key in keys), np.bool_, len(keys))

    def _fits(self, shape: tuple[int, ...]) -> bool:
        return shape[-1:] == (self.dim,) and len(shape) == 1 + self._counted and 0 not in shape

    def _take_in(self, path: Path) -> None:
        shard, keys = _open_shard(path, self.dim, counted=self._counted)
        start = self._starts[-1] + len(self._shards[-1].bounds) - 1 if self._shards else 0
        for place, key in enumerate(keys):
            self._numbers.setdefault(key, start + place)
        self._starts.append(start)
        self._shards.append(shard)
        self._known.add(path.name)


class VectorStore(_Shards):
    """A folder with a vector for each key. Make one with `VectorStore.open`."""

    _prefix = ""
    _counted = False

    @staticmethod
    def dims(folder: Path) -> list[int]:
        """Dimensions of the vectors that a folder holds, smallest first; none if it is missing.

        Raises:
            DataError: it cannot be read.
        """
        names = _listed(folder) if folder.exists() else []
        return sorted({int(found[1]) for name in names if (found := re.fullmatch(r"(\d+)-[0-9a-f]{32}\.npy", name))})

    def get(self, keys: Sequence[bytes]) -> tuple[NDArray[np.bool_], Vectors]:
        """Look keys up.

        Returns:
            bool [N], which are there; float32 [N, dim], zeros where none is.

        Raises:
            DataError: a shard has gone or is damaged.
        """
        vectors = np.zeros((len(keys), self.dim), dtype=np.float32)
        for shard, positions, places in self._by_shard(keys):
            vectors[positions] = shard.rows()[places]
        return self._has(keys), vectors

    def rows(self, keys: Sequence[bytes]) -> _StoredVectors:
        """The vectors under some keys, read a piece at a time; to be ranked like an array [N, dim]."""
        return _StoredVectors(self, keys)


class TokenStore(_Shards):
    """A folder with vectors of tokens for each key. Make one with `TokenStore.open`.

    It may lie in the folder of a `VectorStore`. In memory are the keys and eight bytes for each one's number of tokens.
    """

    _prefix = "tokens-"
    _counted = True

    def get(self, keys: Sequence[bytes]) -> tuple[NDArray[np.bool_], list[Vectors]]:
        """Look keys up.

        Returns:
            bool [N], which are there; for each key float32 [tokens, dim], of no tokens where none is. They are copies:
            read many a piece at a time, as `StoredTokens` does.

        Raises:
            DataError: a shard has gone or is damaged.
        """
        tokens: list[Vectors] = [np.empty((0, self.dim), dtype=np.float32)] * len(keys)
        for shard, positions, places in self._by_shard(keys):
            rows = np.asarray(shard.rows())
            for position, place in zip(positions, places, strict=True):
                tokens[position] = rows[shard.bounds[place] : shard.bounds[place + 1]].astype(np.float32)
        return self._has(keys), tokens

    def lengths(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """How many tokens each key has, without reading them; 0 where it is not there."""
        lengths = np.zeros(len(keys), dtype=np.int64)
        for shard, positions, places in self._by_shard(keys):
            lengths[positions] = np.diff(shard.bounds)[places]
        return lengths

    def rows(self, keys: Sequence[bytes]) -> StoredTokens:
        """The token vectors under some keys, read a piece at a time; for `vectors.ranking.rank_late`."""
        return StoredTokens(self, keys)


@dataclass(frozen=True, slots=True)
class _StoredVectors:
    """Of a key that the store lacks, such as b"", the row is zeros."""

    store: VectorStore
    keys: Sequence[bytes]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.keys), self.store.dim

    def __getitem__(self, rows: slice | NDArray[np.int64], /) -> Vectors:
        numbers = range(len(self.keys))[rows] if isinstance(rows, slice) else rows
        return self.store.get([self.keys[number] for number in numbers])[1]


@dataclass(frozen=True)
class StoredTokens:
    """The token vectors of a store under some keys, read from it a piece at a time.

    Args:
        keys: one for each item. Of a key that the store lacks, such as b"", there are no tokens.
    """

    store: TokenStore
    keys: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def dim(self) -> int:
        return self.store.dim

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each item."""
        return self.store.lengths(self.keys)

    def take(self, places: NDArray[np.int64]) -> list[Vectors]:
        """The token vectors of some items. Raises as `TokenStore.get`."""
        return self.store.get([self.keys[place] for place in places])[1]


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise DataError(f"cannot read the folder of vectors {folder}: {reason(error)}") from error


@dataclass
class _Shard:
    """A file of vectors, which never changes.

    It consists of arrays as `np.save` writes them: uint8 keys [N, 16], where a key has several rows their int64 numbers
    [N], float32 rows [T, dim], and uint8 checksums [2, 16] of what stands before the rows and of the rows. The first is
    compared by `_open_shard`, the second by `rows`. A shard without checksums, as older versions wrote them, is read
    unverified.

    Args:
        path: the file.
        dim: of its vectors.
        bounds: int64 [N + 1], at which row those of each of its N keys begin, and how many rows there are.
        offset: where the rows begin, in bytes.
        checksum: of the rows; None if none was written, or it has been compared.
    """

    path: Path
    dim: int
    bounds: NDArray[np.int64]
    offset: int
    checksum: bytes | None

    def rows(self) -> Vectors:
        """All rows, mapped from the file, and compared with their checksum the first time."""
        shape = (int(self.bounds[-1]), self.dim)
        try:
            rows = np.memmap(self.path, dtype="<f4", mode="r", offset=self.offset, shape=shape)
        except (OSError, ValueError) as error:
            raise _damaged(self.path, str(error)) from error
        if self.checksum is not None and _checksum(rows.data) != self.checksum:
            raise _damaged(self.path, "its vectors are not those that were written")
        self.checksum = None
        return rows


def _write_shard(path: Path, rows: Mapping[bytes, Vectors], dim: int, *, counted: bool) -> None:
    """Write a shard, whole or not at all, of the rows [n, dim] of each key; n is 1 unless it is `counted`."""
    counts = np.array([len(array) for array in rows.values()], dtype="<i8")
    head = BytesIO()
    key_bytes = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(-1, KEY_BYTES)
    npy.write_array(head, key_bytes, allow_pickle=False)
    if counted:
        npy.write_array(head, counts, allow_pickle=False)
    shape = (int(counts.sum()), dim)
    npy.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with atomic_writer(path) as stream:
        stream.write(head.getbuffer())
        # Array by array, so that they need not lie in memory a second time.
        written = blake2b(digest_size=_CHECKSUM_BYTES)
        for array in rows.values():
            part = np.ascontiguousarray(array, dtype="<f4").data
            written.update(part)
            stream.write(part)
        stream.write(_footer(_checksum(head.getbuffer()), written.digest()))


def _open_shard(path: Path, dim: int, *, counted: bool) -> tuple[_Shard, list[bytes]]:
    """A shard and its keys, without its rows."""
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
            checksum = None if size == end else _read_checksums(stream, offset, end)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    return _Shard(path, dim, bounds, offset, checksum), [row.tobytes() for row in keys]


def _checksum(data: bytes | memoryview) -> bytes:
    return blake2b(data, digest_size=_CHECKSUM_BYTES).digest()


def _footer(*checksums: bytes) -> bytes:
    """The last array of a shard, in bytes."""
    stream = BytesIO()
    array = np.frombuffer(b"".join(checksums), dtype=np.uint8).reshape(len(checksums), _CHECKSUM_BYTES)
    npy.write_array(stream, array, allow_pickle=False)
    return stream.getvalue()


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
    # The sum of larger ones may not fit into 64 bits.
    if num_keys and not 1 <= counts.min() <= counts.max() <= size:
        raise ValueError(f"its keys have from {counts.min()} to {counts.max()} rows, and the file {size} bytes")
    return np.concatenate([[0], np.cumsum(counts)])


def _read_array(stream: BinaryIO, size: int) -> NDArray[np.generic]:
    """The next array of a file of `size` bytes; a ValueError if there is none, or not all of it."""
    shape, dtype = _read_header(stream)
    wanted = prod(shape) * dtype.itemsize
    if wanted > size - stream.tell():
        raise ValueError(f"an array of {wanted} bytes is to follow byte {stream.tell()} of {size}")
    return np.frombuffer(stream.read(wanted), dtype).reshape(shape)


def _read_header(stream: BinaryIO) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type of the next array, which must be as `_write_shard` writes them: by rows, and no Python objects."""
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


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(
        f"the stored vectors {path} cannot be read: {reason}; delete the file, and its vectors are made anew"
    )
