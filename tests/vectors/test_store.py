"""Vectors are kept under everything that made them, and are there whole or not at all."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from support.places import SRC
from vlm2vec.errors import ConfigError, DataError, InputError, StorageError
from vlm2vec.files import atomic_writer
from vlm2vec.model.backbone import Vectors
from vlm2vec.vectors.store import TokenStore, VectorStore


def _keys(*numbers: int) -> list[bytes]:
    return [bytes([one]) * 16 for one in numbers]


def _vectors(*numbers: float) -> Vectors:
    return np.array([[one, -one] for one in numbers], dtype=np.float32)


def _tokens(*rows: list[float]) -> Vectors:
    return np.array(rows, dtype=np.float32)


def _lists(tokens: list[Vectors]) -> list[list[list[float]]]:
    return [one.tolist() for one in tokens]


def _shards(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_put_is_there_and_the_rest_is_zeros(tmp_path: Path) -> None:
    store = VectorStore.open(tmp_path / "deep" / "store", 2)
    store.put(_keys(1, 2), _vectors(1, 2))
    store.put(_keys(3), _vectors(3))
    for opened in (store, VectorStore.open(store.folder, 2)):
        found, vectors = opened.get(_keys(3, 9, 1, 3))
        assert found.tolist() == [True, False, True, True]
        assert (vectors.tolist(), vectors.dtype.name) == ([[3, -3], [0, 0], [1, -1], [3, -3]], "float32")
        assert len(opened) == 3
    assert [part.shape for part in store.get([])] == [(0,), (0, 2)]


def test_a_key_keeps_its_first_vector(tmp_path: Path) -> None:
    store = VectorStore.open(tmp_path, 2)
    store.put(_keys(1, 1), _vectors(1, 5))
    store.put(_keys(1), _vectors(7))
    store.put([], np.empty((0, 2), np.float32))
    assert len(_shards(tmp_path)) == 1
    assert VectorStore.open(tmp_path, 2).get(_keys(1))[1].tolist() == [[1, -1]]


def test_two_writers_share_a_folder_and_see_each_other_after_refresh(tmp_path: Path) -> None:
    one, other = VectorStore.open(tmp_path, 2), VectorStore.open(tmp_path, 2)
    one.put(_keys(1), _vectors(1))
    other.put(_keys(2), _vectors(2))
    other.put(_keys(1), _vectors(1))
    assert [store.get(_keys(1, 2))[0].tolist() for store in (one, other)] == [[True, False], [True, True]]
    one.refresh()
    assert one.get(_keys(2, 1))[1].tolist() == [[2, -2], [1, -1]]


class Late(VectorStore):
    """A store in a folder that lists its files a few looks late."""

    hidden = 0

    def refresh(self) -> None:
        if self.hidden:
            self.hidden -= 1
        else:
            super().refresh()


def test_a_file_that_another_machine_lists_late_is_waited_for(tmp_path: Path) -> None:
    store = Late.open(tmp_path, 2)
    VectorStore.open(tmp_path, 2).put(_keys(1), _vectors(1))
    store.hidden = 3
    store.wait_for(_keys(1))
    assert (store.hidden, store.get(_keys(1))[0].tolist()) == (0, [True])


def test_keys_that_do_not_come_are_an_error_that_counts_them(tmp_path: Path) -> None:
    store = VectorStore.open(tmp_path, 2)
    store.put(_keys(1), _vectors(1))
    message = f"2 vectors that another process has made are not in {tmp_path}: give a folder that all processes share"
    with pytest.raises(ConfigError, match=re.escape(message)):
        store.wait_for(_keys(1, 2, 3), 0)


def test_vectors_of_another_dimension_lie_beside(tmp_path: Path) -> None:
    VectorStore.open(tmp_path, 2).put(_keys(1), _vectors(1))
    wide = VectorStore.open(tmp_path, 3)
    assert (len(wide), wide.get(_keys(1))[0].tolist()) == (0, [False])
    wide.put(_keys(1), np.ones((1, 3), np.float32))
    assert VectorStore.open(tmp_path, 2).get(_keys(1))[1].tolist() == [[1, -1]]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a process that was killed in the middle of a put, and what it had printed."""
    code = """
import os, signal, sys
from pathlib import Path
import numpy as np
import vlm2vec.vectors.job, vlm2vec.vectors.ranking
from vlm2vec.vectors.store import TokenStore, VectorStore
print("torch" in sys.modules, flush=True)
folder = Path(sys.argv[1])
vectors, tokens = VectorStore.open(folder, 2), TokenStore.open(folder, 2)
vectors.put([b"a" * 16], np.array([[1, 2]], np.float32))
tokens.put([b"a" * 16], [np.array([[1, 2], [3, 4]], np.float32)])
# The bytes are written, the name is not yet given.
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
vectors.put([b"b" * 16], np.array([[3, 4]], np.float32))
"""
    folder = tmp_path_factory.mktemp("killed")
    environment = os.environ | {"PYTHONPATH": str(SRC)}
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return folder, done.stdout


def test_a_process_killed_in_the_middle_of_a_put_leaves_what_was_put_before(killed: tuple[Path, str]) -> None:
    folder, _ = killed
    assert sorted(Path(name).suffix for name in _shards(folder)) == [".npy", ".npy", ".part"]
    store, keys = VectorStore.open(folder, 2), [b"a" * 16, b"b" * 16]
    found, vectors = store.get(keys)
    assert (found.tolist(), vectors[0].tolist()) == ([True, False], [1, 2])
    found, tokens = TokenStore.open(folder, 2).get(keys)
    assert (found.tolist(), tokens[0].tolist()) == ([True, False], [[1, 2], [3, 4]])
    store.put(keys[1:], np.array([[3, 4]], np.float32))
    assert VectorStore.open(folder, 2).get(keys[1:])[1].tolist() == [[3, 4]]


def test_the_store_needs_no_torch(killed: tuple[Path, str]) -> None:
    assert killed[1] == "False\n"


def test_a_put_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    store = VectorStore.open(tmp_path, 2)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=re.escape(f"cannot write vectors to {tmp_path}: no space left on device")):
        store.put(_keys(1), _vectors(1))
    assert (_shards(tmp_path), len(store)) == ([], 0)


@pytest.mark.parametrize("damage", ["empty", "cut", "longer", "no keys", "pickle"])
def test_a_damaged_shard_is_an_error_that_names_it(tmp_path: Path, damage: str) -> None:
    VectorStore.open(tmp_path, 2).put(_keys(1, 2), _vectors(1, 2))
    (shard,) = tmp_path.iterdir()
    data = shard.read_bytes()
    if damage == "no keys":
        np.save(shard, np.ones((2, 2), np.float32))
    elif damage == "pickle":
        np.save(shard, np.array([{}], dtype=object))
    else:
        shard.write_bytes({"empty": b"", "cut": data[:-1], "longer": data + b"\0"}[damage])
    with pytest.raises(DataError, match=re.escape(f"the stored vectors {shard} cannot be read: ")):
        VectorStore.open(tmp_path, 2)


@pytest.mark.parametrize(
    ("keys", "vectors"), [(_keys(1), _vectors(1, 2)), (_keys(1), np.ones((1, 3))), ([b"short"], _vectors(1))]
)
def test_keys_and_vectors_that_do_not_fit_are_refused(tmp_path: Path, keys: list[bytes], vectors: Vectors) -> None:
    with pytest.raises(InputError, match="cannot be stored: this store takes keys of 16 bytes"):
        VectorStore.open(tmp_path, 2).put(keys, vectors)


def test_a_place_that_cannot_be_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write vectors to .*file: file exists"):
        VectorStore.open(tmp_path / "file", 2)


def test_two_writers_of_one_file_never_share_a_draft(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_writer(path) as one, atomic_writer(path) as other:
        one.write(b"one")
        other.write(b"the other")
        assert len(list(tmp_path.iterdir())) == 2
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


# Vectors of tokens

ONE, TWO, THREE = _tokens([1, 2]), _tokens([3, 4], [5, 6]), _tokens([7, 8], [9, 10], [11, 12])


def test_token_vectors_that_were_put_are_there_and_the_rest_has_no_tokens(tmp_path: Path) -> None:
    store = TokenStore.open(tmp_path / "deep" / "store", 2)
    store.put(_keys(3, 1), [THREE, ONE])
    store.put(_keys(2), [TWO])
    for opened in (store, TokenStore.open(store.folder, 2)):
        found, tokens = opened.get(_keys(2, 9, 1, 3))
        assert found.tolist() == [True, False, True, True]
        assert _lists(tokens) == _lists([TWO, np.empty((0, 2), np.float32), ONE, THREE])
        assert {(one.dtype, one.shape[1]) for one in tokens} == {(np.dtype(np.float32), 2)}
        assert opened.lengths(_keys(2, 9, 1, 3)).tolist() == [2, 0, 1, 3]
        assert (len(opened), _keys(1)[0] in opened, _keys(9)[0] in opened) == (3, True, False)
    assert store.get([])[1] == []


def test_a_shard_is_three_arrays_end_to_end_and_their_checksums(tmp_path: Path) -> None:
    TokenStore.open(tmp_path, 2).put(_keys(3, 1), [THREE, ONE])
    (shard,) = tmp_path.iterdir()
    assert re.fullmatch(r"tokens-2-[0-9a-f]{32}\.npy", shard.name)
    with shard.open("rb") as stream:
        keys, counts, head = npy.read_array(stream), npy.read_array(stream), stream.tell()
        rows, end, checksums = npy.read_array(stream), stream.tell(), npy.read_array(stream)
        assert stream.read() == b""
    content = shard.read_bytes()
    start = end - rows.nbytes
    assert start > head
    assert [one.tobytes() for one in checksums] == [
        blake2b(part, digest_size=16).digest() for part in (content[:start], content[start:end])
    ]
    assert [row.tobytes() for row in keys] == _keys(3, 1)
    assert (counts.tolist(), rows.tolist()) == ([3, 1], [*THREE.tolist(), *ONE.tolist()])


def test_a_key_keeps_its_first_token_vectors(tmp_path: Path) -> None:
    store = TokenStore.open(tmp_path, 2)
    store.put(_keys(1, 1), [ONE, TWO])
    store.put(_keys(1), [THREE])
    store.put([], [])
    assert len(list(tmp_path.iterdir())) == 1
    assert _lists(TokenStore.open(tmp_path, 2).get(_keys(1))[1]) == _lists([ONE])


def test_single_and_token_vectors_of_one_folder_never_mix(tmp_path: Path) -> None:
    single, tokens = VectorStore.open(tmp_path, 2), TokenStore.open(tmp_path, 2)
    single.put(_keys(1), _tokens([1, -1]))
    tokens.put(_keys(1, 2), [TWO, ONE])
    TokenStore.open(tmp_path, 3).put(_keys(1), [np.ones((1, 3), np.float32)])
    single.refresh()
    tokens.refresh()
    assert (len(single), len(tokens), len(TokenStore.open(tmp_path, 3))) == (1, 2, 1)
    assert single.get(_keys(1, 2))[1].tolist() == [[1, -1], [0, 0]]
    assert _lists(tokens.get(_keys(1, 2))[1]) == _lists([TWO, ONE])


def test_two_writers_of_tokens_see_each_other_after_refresh(tmp_path: Path) -> None:
    one, other = TokenStore.open(tmp_path, 2), TokenStore.open(tmp_path, 2)
    one.put(_keys(1), [ONE])
    other.put(_keys(2), [TWO])
    assert one.get(_keys(1, 2))[0].tolist() == [True, False]
    one.refresh()
    assert _lists(one.get(_keys(2, 1))[1]) == _lists([TWO, ONE])


@pytest.mark.parametrize("damage", ["empty", "cut", "longer", "no keys", "no counts", "none counted", "too many"])
def test_a_damaged_shard_of_tokens_is_an_error_that_names_it(tmp_path: Path, damage: str) -> None:
    TokenStore.open(tmp_path, 2).put(_keys(1, 2), [ONE, TWO])
    (shard,) = tmp_path.iterdir()
    data = shard.read_bytes()
    keys = np.zeros((2, 16), np.uint8)
    counts = {"no counts": np.ones(2), "none counted": np.array([3, 0]), "too many": np.array([1, 3])}
    if damage in counts:
        with shard.open("wb") as stream:
            for array in (keys, counts[damage], np.ones((3, 2), np.float32)):
                npy.write_array(stream, array)
    elif damage == "no keys":
        np.save(shard, np.ones((2, 2), np.float32))
    else:
        shard.write_bytes({"empty": b"", "cut": data[:-1], "longer": data + b"\0"}[damage])
    with pytest.raises(DataError, match=re.escape(f"the stored vectors {shard} cannot be read: ")):
        TokenStore.open(tmp_path, 2)


@pytest.mark.parametrize(
    ("keys", "tokens"),
    [
        (_keys(1), [ONE, TWO]),
        (_keys(1), [np.ones((2, 3), np.float32)]),
        (_keys(1), [np.ones(2, np.float32)]),
        (_keys(1), [np.empty((0, 2), np.float32)]),
        ([b"short"], [ONE]),
    ],
)
def test_keys_and_tokens_that_do_not_fit_are_refused(tmp_path: Path, keys: list[bytes], tokens: list[Vectors]) -> None:
    with pytest.raises(InputError, match=re.escape("as many arrays [tokens, 2] of at least one token")):
        TokenStore.open(tmp_path, 2).put(keys, tokens)
    assert list(tmp_path.iterdir()) == []
