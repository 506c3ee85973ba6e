"""What only LanceDB's store promises: an approximate index of many vectors, merged commits, and sealed files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest

from support.stores import INFO, QUERY, contents, document, picture, plain
from vlm2vec.errors import IndexFolderError, MissingError
from vlm2vec.search.store import FileRows
from vlm2vec.search.stores import create_store, open_store
from vlm2vec.search.stores.lance import LanceStore
from vlm2vec.search.stores.lance.seal import CHECKSUMS, Seal
from vlm2vec.search.stores.place import Place

pytestmark = pytest.mark.slow

REMEDY = r"rebuild=True\) makes it anew$"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that has seen files come, go and change, so that it has files of every kind."""
    store = create_store(tmp_path_factory.mktemp("sound") / ".vlm2vec", INFO, kind="lance")
    with store.writing():
        store.commit([], [picture(f"{n}.png") for n in range(4)])
        store.commit(["1.png"], [document("a.pdf", [1, 2])])
        store.mark_outdated(["2.png"])
        store.note_failures({})
    return store.place


@pytest.fixture
def place(sound: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(sound, tmp_path / ".vlm2vec"))


def _small(place: Path, exact_up_to: int) -> LanceStore:
    """A store that needs an approximate index for few vectors."""
    create_store(place, INFO, kind="lance")
    return LanceStore(place, exact_up_to=exact_up_to)


# The approximate index


def test_a_large_table_answers_through_an_approximate_index_and_finds_new_vectors_too(tmp_path: Path) -> None:
    files = [picture(f"{n}.jpg", n) for n in range(1500)]
    vectors = np.stack([file.units[0].vectors[0] for file in files])
    store = _small(tmp_path, 1000)
    store.commit([], files[:1400])
    assert store.num_indexed == 0
    _tidy(store)
    assert store.num_indexed == 1400
    # Few vectors beside the index are compared one by one; with an eighth of the table it is made anew.
    store.commit([], files[1400:])
    _tidy(store)
    assert store.num_indexed == 1400
    found = 0
    for query in vectors[::100]:
        truth = {f"{n}.jpg" for n in np.argsort(-(vectors @ query))[:10]}
        hits = store.nearest(query, 10)
        exact = [float(vectors[int(hit.unit.path[:-4])] @ query) for hit in hits]
        assert [hit.score for hit in hits] == pytest.approx(exact, abs=1e-5)
        found += len({hit.unit.path for hit in hits} & truth)
    assert found >= 0.95 * 10 * len(vectors[::100])
    store.commit([f"{n}.jpg" for n in range(0, 1400, 3)], [])
    assert all(int(hit.unit.path[:-4]) % 3 for hit in store.nearest(vectors[0], 10) if int(hit.unit.path[:-4]) < 1400)
    store.commit([], [picture(f"again_{n}.jpg", n) for n in range(400)])
    _tidy(store)
    assert store.num_indexed == store.count("image")
    store.commit([f"again_{n}.jpg" for n in range(400)] + [f"{n}.jpg" for n in range(1000, 1500)], [])
    assert store.count("image") <= 1000
    _tidy(store)
    assert store.num_indexed == 0


def _tidy(store: LanceStore) -> None:
    store.tidy(lambda _: nullcontext())


def test_making_the_approximate_index_is_told_with_its_vectors_and_only_when_it_is_made(tmp_path: Path) -> None:
    store = _small(tmp_path, 1000)
    told: list[tuple[int, int]] = []

    @contextmanager
    def building(num_vectors: int) -> Iterator[None]:
        before = store.num_indexed
        yield
        told.append((num_vectors, store.num_indexed - before))

    store.commit([], [picture(f"{n}.jpg", n) for n in range(1000)])
    store.tidy(building)
    assert told == []
    store.commit([], [picture("1000.jpg")])
    store.tidy(building)
    store.tidy(building)
    assert told == [(1001, 1001)]


# Commits


def test_many_commits_are_merged(tmp_path: Path) -> None:
    store = create_store(tmp_path, INFO, kind="lance")
    for number in range(60):
        store.commit([], [picture(f"{number}.png")])
    data = tmp_path / "units.lance" / "data"
    assert len(list(data.iterdir())) == 60
    store.tidy(lambda _: nullcontext())
    again = LanceStore(tmp_path, keep_old_s=0)
    assert again.count("image") == 60
    again.tidy(lambda _: nullcontext())
    assert len(again.files()) == 60


def test_all_files_come_whole_whatever_the_batches_are(tmp_path: Path) -> None:
    create_store(tmp_path, INFO, kind="lance")
    store = LanceStore(tmp_path)
    files = [document(f"{n}.pdf", range(1, 1500), seed=n) for n in range(7)]
    for file in files:
        store.commit([], [file])
    read: list[FileRows] = [file for some in store.all_files() for file in some]
    assert sorted(map(plain, read)) == sorted(map(plain, files))


# Damage


def test_damage_that_lance_dies_of_is_one_error(tmp_path: Path) -> None:
    class PanicException(BaseException):
        """As the libraries written in Rust raise it."""

    with (
        pytest.raises(IndexFolderError, match="cannot write the index x: a bug; "),
        Place(Path("x")).explained("write"),
    ):
        raise PanicException("a bug")
    with pytest.raises(KeyboardInterrupt), Place(Path("x")).explained("write"):
        raise KeyboardInterrupt


def test_an_older_version_does_not_take_the_place_of_a_lost_one(place: Path) -> None:
    newest = min((place / "units.lance" / "_versions").glob("*.manifest"))
    newest.unlink()
    with pytest.raises(IndexFolderError, match=f"its file _versions/{newest.name} is missing"):
        open_store(place)


def test_a_writer_that_was_killed_before_it_wrote_its_checksums_leaves_a_sound_store(place: Path) -> None:
    checksums = place / "units.lance" / "checksums.json"
    before = checksums.read_bytes()
    store = open_store(place)
    store.commit(["0.png"], [])
    after = contents(store)
    checksums.write_bytes(before)
    assert contents(open_store(place)) == after
    open_store(place).tidy(lambda _: nullcontext())
    data = next((place / "units.lance" / "data").iterdir())
    data.write_bytes(data.read_bytes()[:-1] + b"x")
    with pytest.raises(IndexFolderError, match="is not as it was written"):
        open_store(place)


def test_files_are_read_once_after_a_copy(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in place.rglob("*"):
        os.utime(path)
    read: list[str] = []
    digest = hashlib.file_digest

    def counted(stream, name):  # type: ignore[no-untyped-def]
        read.append(Path(stream.name).suffix)
        return digest(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    # Within one tick of the clock a file could be written twice and look the same.
    time.sleep(0.1)
    open_store(place)
    assert ".lance" in read
    read.clear()
    open_store(place)
    assert read == []


def test_every_damaged_file_is_named_even_one_that_looks_as_it_was(place: Path) -> None:
    seal = Seal(place / "units.lance")
    value = seal.read_note(CHECKSUMS)
    assert value is not None
    names = sorted(name for name in value["files"] if name.startswith("data/"))
    for name in names:
        path = seal.folder / name
        path.write_bytes(bytes(path.stat().st_size))
        status = path.stat()
        value["files"][name][1:] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    # As if the disk had changed the bytes and no program.
    seal.write_note(CHECKSUMS, value | {"written_ns": 2**62})
    verdict = open_store(place).verify()
    assert sorted(verdict.problems) == [f"its file {name} is not as it was written" for name in names]
    assert verdict.num_sealed == len(value["files"]) - len(names)


@pytest.mark.parametrize("name", ["units.lance", "units.lance/data", "units.lance/_versions"])
def test_a_file_where_a_folder_should_be_is_told_and_the_store_is_made_anew(place: Path, name: str) -> None:
    shutil.rmtree(place / name)
    (place / name).write_bytes(b"x")
    with pytest.raises(IndexFolderError, match=REMEDY):
        open_store(place)
    assert create_store(place, INFO, kind="lance").files() == {}


# index.json


ABSURD: dict[str, list[object]] = {
    "format": [None, 0, -1, 1.5, "1", [], 99],
    "model": [None, 3, "", "other", []],
    "fingerprint": [None, 3, "", "0" * 32],
    "dim": [None, "16", -1, 0, 15, True, 16.0, 10**30, [16]],
    "dtype": [3, "", "float8", []],
    "folder": [None, 3, "\0", "a" * 5000, "/nowhere"],
    "decoding": [None, 0, -1, "2", True, []],
    "store": [3, "", "other", []],
    "checksum": [None, "", 3],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in ABSURD.items() for value in values])
def test_an_index_json_of_absurd_values_is_told(place: Path, key: str, value: object) -> None:
    path = place / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(IndexFolderError, match=REMEDY):
        open_store(place)


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe{", b"[" * 100_000, b"9" * 5000, b"{}" + b" " * (1 << 20), b"null", b'"text"', b"\xef\xbb\xbf", b"NaN"],
    ids=lambda content: f"{content[:4]!r}",
)
def test_an_index_json_that_is_none_is_told_and_made_anew(place: Path, content: bytes) -> None:
    (place / "index.json").write_bytes(content)
    with pytest.raises(IndexFolderError, match=REMEDY):
        open_store(place)
    assert create_store(place, INFO, kind="lance").files() == {}


def test_a_store_of_a_newer_format_is_refused(place: Path) -> None:
    path = place / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 3}))
    with pytest.raises(IndexFolderError, match="has format 3, and this version of vlm2vec knows up to 2; use a newer"):
        open_store(place)


def test_without_lancedb_the_extra_is_named_and_the_way_around_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lancedb", None)
    missing = r"lancedb is not installed; install it: pip install 'vlm2vec\[scale\]'"
    with pytest.raises(MissingError, match=rf"^LanceDB keeps the index {place}: {missing}; .* makes it anew$"):
        open_store(place)
    with pytest.raises(MissingError, match=f"^{missing}$"):
        create_store(place, INFO, kind="lance")
    assert (place / "units.lance").exists()
    assert create_store(place, INFO).nearest(QUERY, 1) == []
