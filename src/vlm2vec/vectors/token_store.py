"""Which items have token vectors already? A folder of these, each item's under the key of everything that made them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import InputError
from vlm2vec.vectors.keys import KEY_BYTES
from vlm2vec.vectors.store import Store, Vectors


class TokenStore(Store):
    """A vector for every token of each key, as `Store` keeps them. Make one with `TokenStore.open`.

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
            ConfigError: a shard has gone or is damaged.
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

    def put(self, keys: Sequence[bytes], vectors: Vectors | Sequence[Vectors]) -> None:
        """Write token vectors, all of them or none; keys that are there already keep theirs.

        Args:
            keys: of 16 bytes each (`vectors.keys.item_key`).
            vectors: for each key float32 [tokens, dim], of at least one token.

        Raises:
            InputError: keys and arrays do not fit one another or this store.
            ConfigError: the folder cannot be written.
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


class StoredTokens:
    """The token vectors of a store under some keys, read from it a piece at a time; for `vectors.late.rank_late`.

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
            ConfigError: a shard has gone or is damaged.
        """
        return self._store.get([self._keys[place] for place in places])[1]
