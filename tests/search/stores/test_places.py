"""Which folders become an index, which are left alone, and who holds the lock."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import threading
from pathlib import Path

import pytest

from support.stores import INFO, picture
from vlm2vec.errors import BusyError, IndexFolderError, InputError, StorageError
from vlm2vec.search.stores import StoreKind, create_store, open_store, store_exists
from vlm2vec.search.stores.place import Place


def test_where_no_store_is_there_is_none(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing"):
        assert not store_exists(place)
        with pytest.raises(IndexFolderError, match=f"there is no index at {place}; Library.open.* makes one"):
            open_store(place)


def test_a_store_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no store 'postgres': use sqlite, lance"):
        create_store(tmp_path / ".vlm2vec", INFO, kind="postgres")  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_a_store_that_is_there_is_kept_unless_it_is_to_be_replaced(tmp_path: Path, kind: StoreKind) -> None:
    store = create_store(tmp_path / "a" / "index", INFO, kind=kind)
    assert store_exists(store.place)
    with store.writing():
        store.commit([], [picture("a.png")])
    again = create_store(store.place, INFO, kind=kind, replace=False)
    assert list(again.files()) == ["a.png"]
    assert create_store(store.place, INFO, kind=kind).files() == {}


@pytest.mark.parametrize("other", ["sqlite", pytest.param("lance", marks=pytest.mark.slow)])
def test_a_store_takes_the_place_of_one_of_another_kind(tmp_path: Path, kind: StoreKind, other: StoreKind) -> None:
    create_store(tmp_path / ".vlm2vec", INFO, kind=other).close()
    created = create_store(tmp_path / ".vlm2vec", INFO, kind=kind)
    assert type(open_store(created.place)) is type(created)
    assert (created.place / "library.db").exists() == (kind == "sqlite")
    assert (created.place / "units.lance").exists() == (kind == "lance")


def test_a_store_that_is_made_anew_is_of_the_same_kind(tmp_path: Path, kind: StoreKind) -> None:
    store = create_store(tmp_path / ".vlm2vec", INFO, kind=kind)
    with store.writing():
        store.commit([], [picture("a.png")])
    assert not store.is_untidy()
    store.close()
    again = create_store(store.place, INFO)
    assert (type(again), dict(again.files())) == (type(store), {})


def test_a_store_that_another_process_is_making_is_waited_for_and_opened(tmp_path: Path, kind: StoreKind) -> None:
    place = tmp_path / ".vlm2vec"
    place.mkdir()
    held = threading.Event()

    def make() -> None:
        with Place(place).hold():
            held.set()
            threading.Event().wait(0.2)
        create_store(place, INFO, kind=kind)

    thread = threading.Thread(target=make)
    thread.start()
    held.wait()
    with pytest.raises(BusyError, match=f"is being written by process {os.getpid()}"):
        create_store(place, INFO, kind=kind)
    with pytest.raises(BusyError):
        create_store(place, INFO, kind=kind, replace=False, patience_s=0)
    assert create_store(place, INFO, kind=kind, replace=False).files() == {}
    thread.join()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_named(tmp_path: Path, code: int) -> None:
    def no_locks(descriptor: int) -> bool:
        raise OSError(code, os.strerror(code))

    message = f"cannot write the index {tmp_path}: {os.strerror(code).lower()}; give another folder as index="
    with pytest.raises(StorageError, match=message), Place(tmp_path).hold(no_locks):
        pass


# Folders of other things


def test_a_folder_with_other_things_is_not_made_a_store(tmp_path: Path, kind: StoreKind) -> None:
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(IndexFolderError, match=f"{tmp_path} holds other things than an index; give another folder"):
        create_store(tmp_path, INFO, kind=kind)
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("content", ['{"name": "my site"}', "[1, 2]", "no json"])
def test_another_programs_index_json_is_not_written_over(tmp_path: Path, content: str) -> None:
    path = tmp_path / "site" / "index.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(IndexFolderError, match="site holds other things than an index"):
        create_store(path.parent, INFO)
    assert path.read_text() == content


def test_another_programs_index_json_is_not_called_a_damaged_index(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(json.dumps({"name": "my site"}))
    with pytest.raises(IndexFolderError, match=r"is no index: its index.json is another program's; give another"):
        open_store(tmp_path)


def test_another_programs_database_is_neither_written_over_nor_called_a_damaged_index(tmp_path: Path) -> None:
    path = tmp_path / "books" / "library.db"
    path.parent.mkdir()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE books (title)")
    database.close()
    content = path.read_bytes()
    with pytest.raises(IndexFolderError, match="books holds other things than an index"):
        create_store(path.parent, INFO)
    with pytest.raises(IndexFolderError, match=r"is no index: its library.db is another program's; give another"):
        open_store(path.parent)
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["index.json", "library.db"])
@pytest.mark.parametrize("content", [b"", b"{{", b"\0" * 200, b'{"format": 1, "model": "bun'])
def test_a_store_of_which_a_damaged_file_alone_is_left_is_made_anew(tmp_path: Path, name: str, content: bytes) -> None:
    for folder in (".vlm2vec", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(content)
    with pytest.raises(IndexFolderError, match=r"rebuild=True\) makes it anew$"):
        open_store(tmp_path / ".vlm2vec")
    assert create_store(tmp_path / ".vlm2vec", INFO).files() == {}
    with pytest.raises(IndexFolderError, match="holds other things than an index"):
        create_store(tmp_path / "other", INFO)


def test_a_damaged_store_of_any_name_is_made_anew(tmp_path: Path, kind: StoreKind) -> None:
    place = tmp_path / "mine"
    create_store(place, INFO, kind=kind).close()
    (place / {"sqlite": "library.db", "lance": "index.json"}[kind]).write_bytes(b"\0" * 100)
    assert create_store(place, INFO, kind=kind).files() == {}


@pytest.mark.parametrize("target", ["nowhere/lock", "lock"])
def test_a_lock_that_is_a_link_to_nowhere_does_not_keep_a_store_from_being_made_anew(
    tmp_path: Path, kind: StoreKind, target: str
) -> None:
    place = tmp_path / ".vlm2vec"
    create_store(place, INFO, kind=kind).close()
    (place / "lock").unlink()
    (place / "lock").symlink_to(target)
    assert create_store(place, INFO, kind=kind).files() == {}


def test_a_file_in_the_place_of_a_store_is_kept_unless_it_is_empty(tmp_path: Path) -> None:
    place = tmp_path / ".vlm2vec"
    place.write_text("settings of mine")
    with pytest.raises(IndexFolderError, match="it is a file; move it away; give another folder as index="):
        create_store(place, INFO)
    assert place.read_text() == "settings of mine"
    place.write_bytes(b"")
    assert create_store(place, INFO).files() == {}


def test_other_files_beside_a_store_stay_when_it_is_made_anew(tmp_path: Path) -> None:
    place = tmp_path / ".vlm2vec"
    create_store(place, INFO).close()
    (place / ".notes").write_text("mine")
    (place / "library.db.backup").write_text("mine")
    with pytest.raises(IndexFolderError, match="holds other things than an index"):
        create_store(place, INFO)
    (place / "library.db.backup").rename(place / ".backup")
    create_store(place, INFO)
    assert sorted(os.listdir(place)) == [".backup", ".notes", "library.db", "lock"]
