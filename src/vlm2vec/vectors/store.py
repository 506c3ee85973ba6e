"""Which vectors have been made already? A folder of them, each under the key of everything that made it."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import ConfigError, DataError, InputError
from vlm2vec.files import reason, remove_drafts, writing
from vlm2vec.vectors.keys import KEY_BYTES
from vlm2vec.vectors.shards import Shard, open_shard, write_shard

Vectors: TypeAlias = NDArray[np.float32]

LISTED_WITHIN_S = 90.0
"""A shared file system may list a file some time after another machine has written it; NFS, unless it is told
otherwise, within 60 seconds (acdirmax of nfs(5))."""


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
            StorageError: the folder cannot be made.
            DataError: it cannot be read, or a shard in it is damaged.
        """
        with writing(folder, to="vectors to"):
            folder.mkdir(parents=True, exist_ok=True)
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
        """All rows of a shard, which are compared with their checksum the first time."""
        rows = shard.rows(verify=shard.path not in self._verified)
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
        path = self.folder / f"{self._prefix}{self.dim}-{uuid.uuid4().hex}.npy"
        with writing(self.folder, to="vectors to"):
            write_shard(path, keys, rows, self.dim, counted=self._counted)
        self._take_in(path)

    def _take_in(self, path: Path) -> None:
        shard, keys = open_shard(path, self.dim, counted=self._counted)
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
            StorageError: the folder cannot be written.
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
        numbers = self._find(keys)
        tokens: list[Vectors] = [np.empty((0, self.dim), dtype=np.float32)] * len(keys)
        for shard, positions, places in self._by_shard(numbers):
            rows = np.asarray(self._rows(shard))
            for position, place in zip(positions, places, strict=True):
                tokens[position] = rows[shard.bounds[place] : shard.bounds[place + 1]].astype(np.float32)
        return numbers >= 0, tokens

    def lengths(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """How many tokens each key has, without reading them; 0 where it is not there."""
        lengths = np.zeros(len(keys), dtype=np.int64)
        for shard, positions, places in self._by_shard(self._find(keys)):
            lengths[positions] = np.diff(shard.bounds)[places]
        return lengths

    def put(self, keys: Sequence[bytes], vectors: Sequence[Vectors]) -> None:
        """Write token vectors, all of them or none; keys that are there already keep theirs.

        Args:
            keys: of 16 bytes each (`vectors.keys.item_key`).
            vectors: for each key float32 [tokens, dim], of at least one token.

        Raises:
            InputError: keys and arrays do not fit one another or this store.
            StorageError: the folder cannot be written.
        """
        wrong = [np.shape(one) for one in vectors if np.ndim(one) != 2 or not len(one) or one.shape[1] != self.dim]
        if len(vectors) != len(keys) or wrong or any(len(key) != KEY_BYTES for key in keys):
            raise InputError(
                f"{len(keys)} keys and {len(vectors)} arrays{f', one of shape {wrong[0]},' if wrong else ''} cannot be "
                f"stored: this store takes keys of {KEY_BYTES} bytes and as many arrays [tokens, {self.dim}] of at "
                "least one token"
            )
        new = self._new(keys)
        if new:
            self._write(new, [vectors[position] for position in new.values()])


class StoredVectors:
    """The vectors of a store under some keys, read from it a piece at a time; to be ranked like an array [N, dim].

    Args:
        store: keeps them.
        keys: one for each row. Of a key that the store lacks, such as b"", the row is zeros.
    """

    def __init__(self, store: VectorStore, keys: Sequence[bytes]) -> None:
        self._store = store
        self._keys = keys

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._keys), self._store.dim

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, rows: slice | NDArray[np.int64], /) -> Vectors:
        numbers = range(len(self._keys))[rows] if isinstance(rows, slice) else rows
        return self._store.get([self._keys[number] for number in numbers])[1]


class StoredTokens:
    """The token vectors of a store under some keys, read from it a piece at a time; for `vectors.ranking.rank_late`.

    Args:
        store: keeps them.
        keys: one for each item. Of a key that the store lacks, such as b"", there are no tokens.
    """

    def __init__(self, store: TokenStore, keys: Sequence[bytes]) -> None:
        self._store = store
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def dim(self) -> int:
        return self._store.dim

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each item."""
        return self._store.lengths(self._keys)

    def take(self, places: NDArray[np.int64]) -> list[Vectors]:
        """The token vectors of some items.

        Raises:
            DataError: a shard has gone or is damaged.
        """
        return self._store.get([self._keys[place] for place in places])[1]


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise DataError(f"cannot read the folder of vectors {folder}: {reason(error)}") from error
