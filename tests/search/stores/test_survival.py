"""What a store outlives: kills, full disks, folders that may not be written, other processes and threads."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from support.places import SRC, SUPPORT
from support.stores import DIM, INFO, QUERY, contents, document, picture, plain, vector_of, versions
from vlm2vec.errors import BusyError, IndexFolderError, StorageError
from vlm2vec.search.store import Store
from vlm2vec.search.stores import StoreKind, create_store, open_store
from vlm2vec.search.stores.sqlite import SqliteStore

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(SRC), str(SUPPORT.parent)])}


# Kills


@pytest.mark.slow
def test_a_killed_writer_leaves_every_file_whole_and_the_next_one_continues(store: Store) -> None:
    _kill_writers(store, [0, 1])


@pytest.mark.torture
def test_thirty_killed_writers_leave_every_file_whole_and_the_next_one_continues(store: Store) -> None:
    _kill_writers(store, list(range(30)))


def _kill_writers(store: Store, seeds: list[int]) -> None:
    done = 0
    for seed in seeds:
        done = _kill_a_writer(store.place, done + 1, after_s=random.Random(seed).uniform(0, 0.05))
        again = open_store(store.place)
        verdict = again.verify()
        files = again.files()
        # The kill may have come after a commit and before it was said.
        done += f"staying{done + 1}.pdf" in files
        expected = {rows.path: plain(rows) for number in range(1, done + 1) for rows in versions(number)[2:]}
        expected |= {rows.path: plain(rows) for rows in versions(done)[:2]}
        there = {rows.path: plain(rows) for rows in again.read(sorted(files))}
        assert verdict.problems == []
        if isinstance(again, SqliteStore):
            assert there == expected
        else:
            # Files may be missing that were being replaced, and are added by the next run; none is half or old.
            assert there.items() <= expected.items()
        again.close()
    store.refresh()
    with store.writing():
        store.commit(sorted(store.files()), versions(done))
    assert contents(store) == sorted(map(plain, versions(done)))


def _kill_a_writer(place: Path, first: int, *, after_s: float) -> int:
    """Let another process commit, kill it so long after its third commit, and return the last it has told of."""
    command = [sys.executable, str(SUPPORT / "commit_for_ever.py"), str(place), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(3)]
        time.sleep(after_s)
        process.send_signal(signal.SIGKILL)
        told += map(int, process.stdout.read().split())
    assert process.returncode == -signal.SIGKILL
    return told[-1]


# Other processes and threads


def test_one_writer_at_a_time_and_the_other_is_told_who_it_is(store: Store) -> None:
    other = open_store(store.place)
    with store.writing():
        with (
            pytest.raises(BusyError, match=f"{store.place} is being written by process {os.getpid()}; wait until it"),
            other.writing(),
        ):
            pass
        store.commit([], [picture("a.png")])
        other.refresh()
        assert [hit.unit.path for hit in other.nearest(QUERY, 3)] == ["a.png"]
    with other.writing():
        other.commit([], [picture("b.png")])
        assert sorted(other.files()) == ["a.png", "b.png"]


def test_a_reader_beside_a_writer_sees_each_file_whole(store: Store) -> None:
    reader = open_store(store.place)
    with store.writing():
        store.commit([], versions(1))
    failed: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        try:
            while not stop.is_set():
                reader.refresh()
                for rows in reader.read(["changing.pdf"]):
                    assert plain(rows) == plain(versions(int(rows.content_hash, 16))[0])
                hits = reader.nearest(vector_of(1), 50)
                assert len({hit.unit.path for hit in hits if hit.unit.path.startswith("changing")}) <= 1
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    with store.writing():
        for number in range(2, 25):
            store.commit([f"old{number - 1}.pdf"], versions(number))
    stop.set()
    thread.join()
    assert failed == []
    reader.refresh()
    assert contents(reader) == contents(store)


def test_threads_may_share_a_store(store: Store) -> None:
    failed: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(8):
                store.commit([], [picture(f"{name}{number}.png")])
                assert f"{name}{number}.png" in store.files()
                assert store.read([f"{name}{number}.png"])
                assert store.nearest(QUERY, 1)
        except BaseException as error:
            failed.append(error)

    with store.writing():
        threads = [threading.Thread(target=work, args=[name]) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []
    assert contents(store) == [plain(picture(f"{name}{number}.png")) for name in "ab" for number in range(8)]


# Disks


@contextmanager
def _full_disk(size: int) -> Iterator[None]:
    """Files take no bytes beyond their first so many."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_and_leaves_the_store_as_it_was(store: Store) -> None:
    with store.writing():
        store.commit([], [picture("a.png")])
        before = contents(store)
        message = "cannot write the index .*; make room on its disk; give another folder as index="
        with _full_disk(2048), pytest.raises(StorageError, match=message):
            store.commit([], [document(f"{n}.pdf", range(1, 200), seed=n) for n in range(3)])
        store.refresh()
        assert contents(store) == contents(open_store(store.place)) == before
        store.commit([], [picture("b.png")])
        assert sorted(store.files()) == ["a.png", "b.png"]


def test_no_store_is_made_on_a_full_disk(tmp_path: Path, kind: StoreKind) -> None:
    with _full_disk(100), pytest.raises(StorageError):
        create_store(tmp_path / ".vlm2vec", INFO, kind=kind)
    with pytest.raises(IndexFolderError, match="there is no index at"):
        open_store(tmp_path / ".vlm2vec")
    assert create_store(tmp_path / ".vlm2vec", INFO, kind=kind).files() == {}


@contextmanager
def _without_rights(folder: Path) -> Iterator[None]:
    """Nobody may write in a folder, also not the superuser."""
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    superuser = os.geteuid() == 0
    if superuser:
        os.seteuid(65534)
    try:
        yield
    finally:
        if superuser:
            os.seteuid(0)
        for path in paths:
            path.chmod(0o755)


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that every user may look into."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.skipif(os.name == "nt", reason="there are no such rights")
def test_a_store_that_may_not_be_written_is_read_and_nothing_is_put_beside_it(
    open_to_all: Path, kind: StoreKind
) -> None:
    place = open_to_all / ".vlm2vec"
    store = create_store(place, INFO, kind=kind)
    with store.writing():
        store.commit([], [picture("a.png"), picture("b.png")])
    before = contents(store)
    there = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    with _without_rights(place):
        reader = open_store(place)
        assert contents(reader) == before
        assert len(reader.nearest(QUERY, 9)) == 2
        assert reader.verify().problems == []
        message = f"cannot write the index {place}: permission denied; .* give another folder as index="
        with pytest.raises(StorageError, match=message), reader.writing():
            pass
        assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == there


def test_a_store_may_be_moved(store: Store, tmp_path: Path) -> None:
    with store.writing():
        store.commit([], [picture("a.png"), document("b.pdf", [1, 2])])
    before = contents(store)
    store.close()
    store.place.rename(tmp_path / "moved ? #%")
    assert contents(open_store(tmp_path / "moved ? #%")) == before


def test_the_same_files_replaced_again_and_again_do_not_fill_the_disk(tmp_path: Path, kind: StoreKind) -> None:
    from vlm2vec.search.stores.lance import LanceStore

    create_store(tmp_path, INFO, kind=kind)
    empty = _size(tmp_path)
    store: Store = open_store(tmp_path) if kind == "sqlite" else LanceStore(tmp_path, keep_old_s=0.001)
    sizes = []
    # Lance keeps up to 65 versions, two of each replacement.
    for turn in range(60 if kind == "lance" else 15):
        store.commit([], [document("a.pdf", range(1, 201), seed=turn)])
        store.tidy(lambda _: nullcontext())
        sizes.append(_size(tmp_path) - empty)
    # 200 vectors take 13 kB.
    assert max(sizes) < {"lance": 45, "sqlite": 5}[kind] * 200 * DIM * 4 * 2
    assert list(store.files()) == ["a.pdf"]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
