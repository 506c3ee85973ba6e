"""A damaged shard gives the vectors that were stored, or an error that names it; shards without checksums are read."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np
import pytest

from support.places import DATA
from vlm2vec.errors import DataError
from vlm2vec.vectors.store import TokenStore, VectorStore

KEYS = [b"a" * 16, b"b" * 16]
ROWS = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
VECTORS = [[1.0, 2.0], [3.0, 4.0]]
TOKENS = [[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]]
UNCHECKED = DATA / "stores" / "without_checksums"
"""Written before shards had checksums: the same vectors under the same keys."""

Reader = Callable[[Path], object]


def read_vectors(folder: Path) -> object:
    there, vectors = VectorStore.open(folder, 2).get(KEYS)
    assert (vectors[~there] == 0).all()
    return [vector.tolist() if found else None for found, vector in zip(there, vectors, strict=True)]


def read_tokens(folder: Path) -> object:
    stored = TokenStore.open(folder, 2).rows(KEYS)
    tokens = stored.take(np.arange(2))
    assert stored.lengths.tolist() == [len(one) for one in tokens]
    return [one.tolist() or None for one in tokens]


def write_vectors(folder: Path) -> None:
    VectorStore.open(folder, 2).put(KEYS, ROWS[:2])


def write_tokens(folder: Path) -> None:
    TokenStore.open(folder, 2).put(KEYS, [ROWS[:1], ROWS[1:]])


ROUNDS = pytest.mark.parametrize("rounds", [20, pytest.param(3000, marks=pytest.mark.torture)])
KINDS = pytest.mark.parametrize(
    ("write", "read", "right"),
    [(write_vectors, read_vectors, VECTORS), (write_tokens, read_tokens, TOKENS)],
    ids=["vectors", "tokens"],
)


def damaged(data: bytes, rounds: int) -> Iterator[bytes]:
    """Every byte changed; of each round, a shorter file, and seeded bytes put in, left out, exchanged and repeated."""
    for place, byte in enumerate(data):
        yield data[:place] + bytes([byte ^ 1 << place % 8]) + data[place + 1 :]
    random = Random(20)
    for _ in range(rounds):
        yield data[: random.randrange(len(data))]
        place = random.randrange(len(data))
        yield data[:place] + random.randbytes(1) + data[place + 1 :]
        first, second, third = sorted(random.choices(range(len(data) + 1), k=3))
        yield data[:first] + random.randbytes(random.randrange(1, 40)) + data[first:]
        yield data[:first] + data[second:]
        yield data[:first] + data[second:third] + data[first:second] + data[third:]
        yield data[:second] + data[first:]


@ROUNDS
@KINDS
def test_every_damage_of_a_shard_is_named_or_does_no_harm(
    write: Callable[[Path], None], read: Reader, right: object, rounds: int, tmp_path: Path
) -> None:
    write(tmp_path)
    assert read(tmp_path) == right
    [shard] = tmp_path.iterdir()
    named = 0
    data = shard.read_bytes()
    for other in damaged(data, rounds):
        shard.write_bytes(other)
        try:
            assert read(tmp_path) == right
            # Only the checksums are gone, or nothing has changed.
            assert data.startswith(other)
        except DataError as error:
            named += 1
            said = re.fullmatch(
                r"the stored vectors (.*) cannot be read: .+; delete the file, and its vectors are made anew",
                str(error),
                re.DOTALL,
            )
            assert said is not None
            assert said[1] == str(shard)
    assert named >= len(data)


@KINDS
def test_a_shard_that_was_deleted_as_the_error_says_is_made_anew(
    write: Callable[[Path], None], read: Reader, right: object, tmp_path: Path
) -> None:
    write(tmp_path)
    [shard] = tmp_path.iterdir()
    shard.unlink()
    assert read(tmp_path) == [None, None]
    write(tmp_path)
    assert read(tmp_path) == right


@KINDS
def test_a_shard_that_is_damaged_after_it_was_opened_is_named_when_its_vectors_are_read(
    write: Callable[[Path], None], read: Reader, right: object, tmp_path: Path
) -> None:
    write(tmp_path)
    store = (VectorStore if read is read_vectors else TokenStore).open(tmp_path, 2)
    [shard] = tmp_path.iterdir()
    data = shard.read_bytes()
    place = data.index(ROWS[:2].tobytes())
    shard.write_bytes(data[:place] + b"\1" + data[place + 1 :])
    with pytest.raises(DataError, match="its vectors are not those that were written; delete the file"):
        store.get(KEYS)


@KINDS
def test_a_shard_without_checksums_is_read(
    write: Callable[[Path], None], read: Reader, right: object, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(UNCHECKED, tmp_path / "store"))
    assert read(folder) == right
    # What is there is not written again.
    write(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in UNCHECKED.iterdir()
    }


@ROUNDS
@KINDS
def test_no_damage_of_a_shard_without_checksums_is_a_raw_exception(
    write: Callable[[Path], None], read: Reader, right: object, rounds: int, tmp_path: Path
) -> None:
    [source] = UNCHECKED.glob("tokens-*" if read is read_tokens else "2-*")
    shard = tmp_path / source.name
    for other in damaged(source.read_bytes(), rounds):
        shard.write_bytes(other)
        with suppress(DataError):
            read(tmp_path)
