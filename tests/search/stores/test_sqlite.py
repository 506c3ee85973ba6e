"""What only the store in one file promises: exact scores, a sound file, and others' changes at once."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from support.stores import INFO, QUERY, contents, document, picture, plain, vector_of
from vlm2vec.errors import IndexFolderError
from vlm2vec.search.stores import create_store, open_store
from vlm2vec.search.stores.place import Place
from vlm2vec.search.stores.sqlite import SqliteStore


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A store of three files."""
    store = SqliteStore.create(_made(tmp_path / ".vlm2vec"), INFO, [[picture(f"{n}.png") for n in range(3)]])
    store.close()
    return store.place


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_everything_lies_in_one_file(place: Path) -> None:
    with open_store(place).writing():
        pass
    assert sorted(os.listdir(place)) == ["library.db", "lock"]


def test_equal_vectors_have_equal_scores_wherever_they_stand(tmp_path: Path) -> None:
    store = create_store(tmp_path, replace(INFO, dim=103))
    with store.writing():
        store.commit([], [picture(f"{n:04}.png", n % 2, dim=103) for n in range(1001)])
    hits = store.nearest(vector_of(1, 103), 1001)
    assert len({hit.score for hit in hits}) == 2
    assert [hit.unit.path for hit in hits[:500]] == [f"{n:04}.png" for n in range(1, 1001, 2)]
    assert hits[0].score <= 1


def test_importing_the_store_imports_no_lance() -> None:
    script = (
        "import sys; import vlm2vec.search.stores;"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'lancedb', 'pyarrow', 'pydantic', 'torch'}))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "\n"


# Changes of others


def test_of_what_others_have_changed_only_the_new_vectors_are_read(place: Path) -> None:
    reader = open_store(place)
    assert len(reader.nearest(QUERY, 9)) == 3
    writer = open_store(place)
    with writer.writing():
        writer.commit(["1.png"], [picture("new.png")])
    # An old vector that breaks now is not noticed, as it is not read again; by another reader it is.
    with closing(sqlite3.connect(place / "library.db")) as database:
        database.execute("UPDATE units SET vector = zeroblob(64) WHERE id = 1")
        database.commit()
    assert sorted(hit.unit.path for hit in reader.nearest(QUERY, 9)) == ["0.png", "2.png", "new.png"]
    with pytest.raises(IndexFolderError, match="its vector 1 is not as it was written"):
        open_store(place).nearest(QUERY, 9)


def test_a_reader_follows_a_store_that_is_made_anew_unless_it_is_of_another_model(place: Path) -> None:
    reader = open_store(place)
    assert len(reader.nearest(QUERY, 9)) == 3
    again = create_store(place, INFO)
    with again.writing():
        again.commit([], [picture("other.png")])
    assert [hit.unit.path for hit in reader.nearest(QUERY, 9)] == ["other.png"]
    assert list(reader.files()) == ["other.png"]
    create_store(place, replace(INFO, fingerprint="e" * 32))
    with pytest.raises(IndexFolderError, match="was made anew by another process, with another model"):
        reader.nearest(QUERY, 9)


def test_a_change_that_fails_is_forgotten(place: Path) -> None:
    store = open_store(place)
    before = contents(store)
    broken = document("a.pdf", [1])
    with store.writing():
        with pytest.raises(IndexFolderError, match=r"not every vector of b\.png has 16 numbers"):
            store.commit(["0.png"], [broken, picture("b.png", dim=5)])
        assert contents(store) == contents(open_store(place)) == before
        assert len(store.nearest(QUERY, 9)) == 3
        store.commit([], [broken])
    assert contents(store) == [*before, plain(broken)]


def test_of_few_files_only_their_own_rows_are_read_unless_one_is_missing(place: Path) -> None:
    with closing(sqlite3.connect(place / "library.db")) as database:
        database.execute("UPDATE files SET path = 'x' || path WHERE path = '1.png'")
        database.commit()
    store = open_store(place)
    assert [plain(rows) for rows in store.read(["2.png", "0.png"])] == [
        plain(picture("2.png")),
        plain(picture("0.png")),
    ]
    with pytest.raises(IndexFolderError, match="its file 2 is not as it was written"):
        store.read(["1.png"])


def test_files_stay_as_they_were_asked_for(place: Path) -> None:
    store = open_store(place)
    before = store.files()
    with store.writing():
        store.commit(["1.png"], [picture("new.png")])
    assert (sorted(before), sorted(store.files())) == (["0.png", "1.png", "2.png"], ["0.png", "2.png", "new.png"])


# The file


HALF = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size=1")
database.execute("PRAGMA cache_spill=ON")
database.execute("BEGIN IMMEDIATE")
database.execute("UPDATE units SET vector = zeroblob(64)")
database.execute("UPDATE files SET path = path || hex(zeroblob(10000))")
os.kill(os.getpid(), 9)
"""


def _stop_in_the_middle(place: Path) -> None:
    """Leave a file that is half changed, with the journal that undoes it."""
    subprocess.run([sys.executable, "-S", "-c", HALF, place / "library.db"], check=False)
    assert (place / "library.db-journal").stat().st_size > 0


def test_a_half_change_is_undone_by_the_next_process(place: Path) -> None:
    before = contents(open_store(place))
    _stop_in_the_middle(place)
    assert contents(open_store(place)) == before
    assert not (place / "library.db-journal").exists()
    with closing(sqlite3.connect(place / "library.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_the_journal_of_a_lost_file_does_not_undo_the_one_in_its_place(place: Path) -> None:
    _stop_in_the_middle(place)
    (place / "library.db").unlink()
    store = create_store(place, INFO)
    with store.writing():
        store.commit([], [picture("a.png")])
    assert contents(open_store(place)) == [plain(picture("a.png"))]


def test_a_half_change_that_may_not_be_undone_is_told(place: Path) -> None:
    _stop_in_the_middle(place)
    uri = f"{(place / 'library.db').as_uri()}?mode=ro"
    message = "cannot read the index .*; allow this user to use it; give another folder"
    with (
        pytest.raises(IndexFolderError, match=message),
        Place(place).explained("read"),
        closing(sqlite3.connect(uri, uri=True)) as database,
    ):
        database.execute("SELECT * FROM notes")


def test_a_file_of_a_newer_format_is_refused(place: Path) -> None:
    with closing(sqlite3.connect(place / "library.db")) as database:
        database.execute("PRAGMA user_version=3")
    with pytest.raises(IndexFolderError, match="has format 3, and this version of vlm2vec knows up to 2; use a newer"):
        open_store(place)


def test_much_room_that_removed_files_leave_goes_back_to_the_disk(tmp_path: Path) -> None:
    store = create_store(tmp_path, INFO)
    empty = (tmp_path / "library.db").stat().st_size
    with store.writing():
        store.commit([], [document("a.pdf", range(1, 2000)), picture("b.png")])
        before = (tmp_path / "library.db").stat().st_size
        store.commit(["a.pdf"], [])
        store.tidy(lambda _: nullcontext())
    assert (tmp_path / "library.db").stat().st_size - empty < (before - empty) / 4
    assert contents(store) == contents(open_store(tmp_path)) == [plain(picture("b.png"))]


@pytest.mark.parametrize("table", ["files", "units"])
def test_a_row_that_is_lost_is_missed(place: Path, table: str) -> None:
    with closing(sqlite3.connect(place / "library.db")) as database:
        database.execute(f"DELETE FROM {table} WHERE id = 3")
        database.commit()
    store = open_store(place)
    ask: Callable[[], object] = store.files if table == "files" else lambda: store.nearest(QUERY, 1)
    with pytest.raises(IndexFolderError, match=r"some of its 3 (files|vectors) are missing; .* makes it anew$"):
        ask()
    (problem,) = store.verify().problems
    assert problem.endswith("are missing")


def test_where_there_are_no_locks_a_store_is_read_without_them(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    create_store(place, INFO).close()
    monkeypatch.setattr(fcntl, "lockf", no_locks)
    # A lock that is held is as bad as one that is never given.
    with closing(sqlite3.connect(place / "library.db", isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        assert open_store(place).nearest(QUERY, 1) == []
