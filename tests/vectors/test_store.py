"""Vectors are kept under everything that made them, and are there whole or not at all."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.places import SRC
from vlm2vec.errors import ConfigError, DataError, InputError, StorageError
from vlm2vec.files import atomic_writer
from vlm2vec.model.backbone import Vectors
from vlm2vec.vectors.store import VectorStore


def _keys(*numbers: int) -> list[bytes]:
    return [bytes([one]) * 16 for one in numbers]


def _vectors(*numbers: float) -> Vectors:
    return np.array([[one, -one] for one in numbers], dtype=np.float32)


def _shards(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_put_is_there_and_the_rest_is_zeros(tmp_path: Path) -> None:
    store = VectorStore.open(tmp_path / "deep" / "store", 2)
    store.put(_keys(1, 2), _vectors(1, 2))
    assert store.keys() == _keys(1, 2)
    store.put(_keys(3), _vectors(3))
    for opened in (store, VectorStore.open(store.folder, 2)):
        found, vectors = opened.get(_keys(3, 9, 1, 3))
        assert found.tolist() == [True, False, True, True]
        assert (vectors.tolist(), vectors.dtype) == ([[3, -3], [0, 0], [1, -1], [3, -3]], np.float32)
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


def test_a_process_killed_in_the_middle_of_a_put_leaves_what_was_put_before(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
import numpy as np
from vlm2vec.vectors.store import VectorStore
store = VectorStore.open(Path(sys.argv[1]), 2)
store.put([b"a" * 16], np.array([[1, 2]], np.float32))
# The bytes are written, the name is not yet given.
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
store.put([b"b" * 16], np.array([[3, 4]], np.float32))
"""
    environment = os.environ | {"PYTHONPATH": str(SRC)}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert sorted(Path(name).suffix for name in _shards(tmp_path)) == [".npy", ".part"]
    store = VectorStore.open(tmp_path, 2)
    found, vectors = store.get([b"a" * 16, b"b" * 16])
    assert (found.tolist(), vectors[0].tolist()) == ([True, False], [1, 2])
    store.put([b"b" * 16], np.array([[3, 4]], np.float32))
    assert VectorStore.open(tmp_path, 2).get([b"b" * 16])[1].tolist() == [[3, 4]]


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


def test_the_store_needs_no_torch() -> None:
    code = "import sys, vlm2vec.vectors.job, vlm2vec.vectors.ranking; print('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(SRC)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout == "False\n", done.stderr


def test_two_writers_of_one_file_never_share_a_draft(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_writer(path) as one, atomic_writer(path) as other:
        one.write(b"one")
        other.write(b"the other")
        assert len(list(tmp_path.iterdir())) == 2
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]
