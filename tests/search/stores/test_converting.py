"""An index of LanceDB's becomes one file with the same vectors, once, whatever comes in between."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from support.places import DATA
from support.stores import INFO, QUERY, contents, document, picture, text, vector_of, worded
from vlm2vec.errors import IndexFolderError, MissingError
from vlm2vec.search.store import UNKNOWN, Background, Failure, Look, StoredFile, Wanted
from vlm2vec.search.stores import create_store, open_store
from vlm2vec.search.stores.lance import LanceStore
from vlm2vec.search.stores.lance.seal import LanceInfo
from vlm2vec.search.stores.place import Place
from vlm2vec.search.stores.sqlite import SqliteStore

pytestmark = pytest.mark.slow

OLD = DATA / "old_index"
FAILURES = {"c.png": Failure("no picture", Look(1, 2, 3, 4))}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An index that was made before there was a choice of stores."""
    store = create_store(tmp_path / ".vlm2vec", INFO, kind="lance")
    with store.writing():
        files = picture(os.fsdecode(b"caf\xe9.png")), document("b.pdf", [1, 3], num_units=3)
        store.commit([], [worded(files[0], "a red car", passages=[1, 2]), files[1], text("c.md", "a blue bus")])
        store.note_failures(FAILURES)
    LanceInfo.write(Place(store.place), INFO, store=None)
    return store.place


def _answer(place: Path) -> tuple[object, ...]:
    store = LanceStore(place) if (place / "index.json").exists() else open_store(place)
    return store.info, store.files(), store.failures(), contents(store)


def test_an_index_is_converted_once_with_all_it_holds_and_says_so(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = _answer(place)
    with caplog.at_level(logging.WARNING, "vlm2vec"):
        store = open_store(place)
    assert isinstance(store, SqliteStore)
    assert caplog.messages == [f"the index {place} is now one file, with its 4 parts as they were"]
    assert _answer(place) == before
    assert [hit.unit.path for hit in store.nearest(QUERY, 9)]
    assert store.lacking_words() == []
    assert [match.unit.path for match in store.matching(Wanted(("bus",)), 9)] == ["c.md"]
    assert [near.unit.path for near in store.nearest(QUERY, 9, of="words")] == [os.fsdecode(b"caf\xe9.png")]
    assert sorted(os.listdir(place)) == ["library.db", "lock"]
    caplog.clear()
    open_store(place)
    assert caplog.messages == []


def test_an_index_of_the_first_releases_is_converted_to_the_bit(tmp_path: Path) -> None:
    place = Path(shutil.copytree(OLD / "dot_vlm2vec", tmp_path / ".vlm2vec"))
    store = open_store(place)
    assert isinstance(store, SqliteStore)
    assert (store.info.decoding, store.info.dtype, store.info.folder, store.failures()) == (1, "float32", "..", {})
    look = Look(2745, 10**18, UNKNOWN, UNKNOWN)
    assert store.files()["two.pdf"] == StoredFile(look, "ceac930070607c25cc77e1142baf09da", 2, 2)
    files = store.read(["0.png", "1.png", "2.png", "two.pdf"])
    vectors = np.stack([unit.vectors[0] for rows in files for unit in rows.units])
    np.testing.assert_array_equal(vectors, np.load(OLD / "vectors.npy"))
    assert store.lacking_words() == ["0.png", "1.png", "2.png", "two.pdf"]


def test_an_index_that_is_calibrated_stays_so(tmp_path: Path) -> None:
    background = Background(np.stack([vector_of(1), vector_of(2)]))
    store = create_store(tmp_path, INFO, kind="lance", background=background)
    with store.writing():
        store.commit([], [picture("a.png")])
    before = store.nearest(QUERY, 1, calibrated=True)
    LanceInfo.write(Place(tmp_path), INFO, None, LanceInfo.read(Place(tmp_path)).background)
    converted = open_store(tmp_path)
    assert isinstance(converted, SqliteStore)
    assert converted.nearest(QUERY, 1, calibrated=True) == before
    assert before[0].calibrated != before[0].score


def test_an_index_that_was_made_with_lance_on_purpose_stays_so(place: Path) -> None:
    LanceInfo.write(Place(place), INFO)
    assert isinstance(open_store(place), LanceStore)


def test_an_index_of_too_many_vectors_stays_with_lance(place: Path) -> None:
    assert isinstance(open_store(place, most_vectors=3), LanceStore)
    assert isinstance(open_store(place, most_vectors=4), SqliteStore)


def test_an_index_that_is_being_written_is_read_as_it_is_and_converted_later(place: Path) -> None:
    before = _answer(place)
    with Place(place).hold():
        store = open_store(place)
        assert isinstance(store, LanceStore)
        assert (store.info, store.files(), store.failures(), contents(store)) == before
    assert isinstance(open_store(place), SqliteStore)


def test_a_kill_before_the_new_index_is_whole_leaves_the_old_one(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _answer(place)

    def killed(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            open_store(place)
    (place / "library.db.part").write_bytes(b"half")
    assert _answer(place) == before
    assert isinstance(open_store(place), SqliteStore)
    assert _answer(place) == before
    assert sorted(os.listdir(place)) == ["library.db", "lock"]


def test_a_kill_before_the_old_index_is_gone_leaves_the_new_one(place: Path, tmp_path: Path) -> None:
    before = _answer(place)
    old = Path(shutil.copytree(place, tmp_path / "old"))
    open_store(place)
    shutil.copytree(old, place, dirs_exist_ok=True)
    assert isinstance(open_store(place), SqliteStore)
    assert sorted(os.listdir(place)) == ["library.db", "lock"]
    assert _answer(place) == before


def test_a_damaged_index_is_not_converted(place: Path) -> None:
    data = next((place / "units.lance" / "data").iterdir())
    data.write_bytes(data.read_bytes()[:-1] + b"x")
    with pytest.raises(IndexFolderError, match=r"is not as it was written; .* makes it anew$"):
        open_store(place)
    assert not list(place.glob("library.db*"))


def test_without_lancedb_an_old_index_names_the_extra(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(MissingError, match=r"vlm2vec\[scale\]"):
        open_store(place)


def test_an_index_that_another_process_is_converting_is_waited_for(place: Path) -> None:
    before = _answer(place)
    held = threading.Event()

    def convert_slowly() -> None:
        with Place(place).hold():
            (place / "library.db.part").touch()
            held.set()
            threading.Event().wait(0.2)
        open_store(place)

    thread = threading.Thread(target=convert_slowly)
    thread.start()
    held.wait()
    assert isinstance(open_store(place), SqliteStore)
    thread.join()
    assert _answer(place) == before
