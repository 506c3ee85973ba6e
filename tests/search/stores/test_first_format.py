"""An index of format 1, which has no words: found by look at once, and read for words later, file by file."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from support.places import DATA
from support.stores import INFO, QUERY, contents, document, film, picture, places, plain, worded
from vlm2vec.errors import IndexFolderError, MissingError
from vlm2vec.search.store import Background, Failure, Look, Wanted
from vlm2vec.search.stores import create_store, open_store
from vlm2vec.search.stores.sqlite import SqliteStore

# Made by the release before words, by the functions of `support.stores`.
OLD = DATA / "first_format" / "dot_vlm2vec"
FILES = [
    picture("Lady Bird.png"),
    picture(os.fsdecode(b"caf\xe9.png")),
    film("f.mp4", (0.0, 30.0)),
    document("two.pdf", [1, 3], num_units=3),
]
PATHS = [rows.path for rows in FILES]
FOUND = [("two.pdf", 1), (PATHS[1], None), ("two.pdf", 3), ("Lady Bird.png", None), ("f.mp4", None)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / ".vlm2vec"))


def _format_of(place: Path) -> int:
    with closing(sqlite3.connect(place / "library.db")) as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
    return int(version)


def test_it_is_read_as_it_is_and_is_not_written(place: Path) -> None:
    before = (place / "library.db").read_bytes()
    store = open_store(place)
    assert isinstance(store, SqliteStore)
    assert (store.info, store.background, store.count(), store.count("text")) == (INFO, None, 5, 0)
    assert contents(store) == list(map(plain, FILES))
    assert store.failures() == {"c.png": Failure("no picture", Look(1, 2, 3, 4))}
    assert [(path, page) for path, _, page, _ in places(store.nearest(QUERY, 9))] == FOUND
    assert [near.calibrated == near.score for near in store.nearest(QUERY, 9, calibrated=True)] == [True] * 5
    assert (store.matching(Wanted(("lady",)), 9), store.nearest(QUERY, 9, of="words")) == ([], [])
    assert store.lacking_words() == PATHS
    assert store.verify().problems == []
    store.close()
    assert (place / "library.db").read_bytes() == before


def test_its_files_get_words_one_after_the_other_and_keep_their_looks(place: Path) -> None:
    reader, store = open_store(place), open_store(place)
    assert len(reader.nearest(QUERY, 9)) == 5
    with store.writing():
        [rows] = store.read(["two.pdf"])
        store.commit([], [worded(rows, "a red car", passages=[1])])
    for one in (reader, store, open_store(place)):
        assert one.lacking_words() == PATHS[:-1]
        assert [(path, page) for path, _, page, _ in places(one.nearest(QUERY, 9))] == FOUND
        assert [(path, page) for path, _, page, _ in places(one.matching(Wanted(("red",)), 9))] == [
            *(("two.pdf", 1), ("two.pdf", 3)),
        ]
        assert len(one.nearest(QUERY, 9, of="words")) == 2
    with store.writing():
        store.commit([], store.read(store.lacking_words()))
    assert store.lacking_words() == reader.lacking_words() == []
    assert [match.unit.path for match in reader.matching(Wanted(("bird",)), 9)] == ["Lady Bird.png"]
    assert store.verify().problems == []
    assert _format_of(place) == 2


def test_whatever_is_written_first_gives_it_the_tables_of_words(place: Path) -> None:
    store = open_store(place)
    with store.writing():
        store.note_looks({"two.pdf": Look(5, 6, 7, 8)})
    assert _format_of(place) == 2
    assert (store.lacking_words(), store.matching(Wanted(("lady",)), 9)) == (PATHS, [])
    with store.writing():
        store.commit(["Lady Bird.png"], [])
    assert (store.lacking_words(), store.count(), store.verify().problems) == (PATHS[1:], 4, [])


def test_it_can_be_calibrated(place: Path) -> None:
    store = open_store(place)
    background = Background(np.stack([FILES[0].units[0].vectors[0], FILES[1].units[0].vectors[0]]))
    with store.writing():
        store.note_background(background)
    mean, spread = background.mean_and_spread(FILES[3].units[0].vectors[0][None])
    best = store.nearest(QUERY, 1)[0]
    assert best.calibrated == pytest.approx((best.score - mean[0]) / spread[0], rel=1e-5)
    assert contents(store) == list(map(plain, FILES))
    assert store.verify().problems == []


def test_a_change_that_fails_leaves_the_format_as_it_was(place: Path) -> None:
    store = open_store(place)
    with store.writing(), pytest.raises(IndexFolderError, match="has 16 numbers"):
        store.commit([], [picture("b.png", dim=5)])
    assert _format_of(place) == 1
    assert contents(store) == list(map(plain, FILES))


def test_a_file_that_says_another_format_than_it_has_is_damaged(place: Path) -> None:
    with closing(sqlite3.connect(place / "library.db")) as database:
        database.execute("PRAGMA user_version=2")
    with pytest.raises(IndexFolderError, match="it has other tables than expected"):
        open_store(place)


def test_an_sqlite_that_is_too_old_for_words_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 33, 0))
    with pytest.raises(MissingError, match=r"an index needs SQLite 3\.34\.0, and this Python has"):
        create_store(place.parent / "new", INFO)
    store = open_store(place)
    assert len(store.nearest(QUERY, 9)) == 5
    with store.writing(), pytest.raises(MissingError, match=r"an index needs SQLite 3\.34\.0"):
        store.commit(["two.pdf"], [])
