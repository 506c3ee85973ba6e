"""LanceDB's store finds words and meanings as the store in one file does, also in many rows and in old tables."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.places import DATA
from support.stores import INFO, QUERY, contents, document, picture, plain, text, vector_of, worded
from vlm2vec.errors import IndexFolderError
from vlm2vec.search.store import Background, FileRows, Filter, Look, Near, Store, StoredUnit, Vector, Wanted, Words
from vlm2vec.search.stores import create_store, open_store
from vlm2vec.search.stores.lance import LanceStore
from vlm2vec.search.stores.lance.full_text import TermIndex
from vlm2vec.search.stores.lance.nearest import Of
from vlm2vec.search.stores.lance.seal import LanceInfo
from vlm2vec.search.stores.place import Place

pytestmark = pytest.mark.slow

OLD = DATA / "old_index"
WORDS = np.array(["red", "blue", "car", "bus", "sky", "sea"])
BACKGROUND = Background(np.stack([vector_of(seed) for seed in range(900, 912)]))


def _file(number: int) -> FileRows:
    """Two pages of some words, of which the first is seen, with up to three passages each."""
    rng = np.random.default_rng(number)
    units = tuple(
        StoredUnit(
            "page",
            page,
            None,
            vector_of(number) if page == 1 else None,
            Words(" ".join(rng.choice(WORDS, 3)), " ".join(rng.choice(WORDS, rng.integers(2)))),
            tuple(vector_of(10_000 + 10 * number + place) for place in range(rng.integers(4))),
        )
        for page in (1, 2)
    )
    return FileRows(f"{rng.choice(WORDS)} {number:04}.pdf", Look(1, number, 3, 4), "0" * 32, 2, units)


def _both(tmp_path: Path, files: list[FileRows]) -> tuple[Store, Store]:
    """The same files in a store of each kind, both calibrated."""
    stores = (
        create_store(tmp_path / "lance", INFO, kind="lance", background=BACKGROUND),
        create_store(tmp_path / "sqlite", INFO, kind="sqlite", background=BACKGROUND),
    )
    for store in stores:
        with store.writing():
            store.commit([], files)
    return stores


def _found(store: Store, wanted: Wanted, where: Filter) -> list[tuple[object, ...]]:
    matches = store.matching(wanted, 10_000, where)
    return sorted((*match.unit.order, match.num_found, sorted(match.fields), match.snippet) for match in matches)


def _untidy(store: Store) -> bool:
    store.tidy(lambda _: nullcontext())
    return store.is_untidy()


# As in the other store


def test_the_nearest_are_those_of_the_store_in_one_file_with_the_same_scores(tmp_path: Path) -> None:
    files = [*map(_file, range(300)), worded(picture("z.png"), "", passages=[3, 4])]
    lance, sqlite = _both(tmp_path, files)
    filters = Filter(), Filter(since=2e-7), Filter(kinds=frozenset({"image"})), Filter(under="nowhere")
    sorts: list[Of] = ["look", "words"]
    for where, seed, of, calibrated in itertools.product(filters, range(3), sorts, (False, True)):
        for limit in (1, 7, 400):
            expected = sqlite.nearest(vector_of(seed), limit, where, of=of, calibrated=calibrated)
            assert lance.nearest(vector_of(seed), limit, where, of=of, calibrated=calibrated) == expected


def test_the_best_by_calibrated_score_may_be_far_behind_by_cosine(tmp_path: Path) -> None:
    # The questions are nearly the same to it, so that its spread is small and its calibrated scores are large.
    alike = np.linalg.svd(BACKGROUND.vectors - BACKGROUND.vectors[0])[2][-1]
    alike = -np.sign(alike @ BACKGROUND.vectors[0]) * alike + np.float32(0.05) * vector_of(900)
    alike = (alike / np.linalg.norm(alike)).astype(np.float32)
    far = StoredUnit("image", None, None, alike, passages=(vector_of(7), alike))
    files = [*map(_file, range(300)), replace(picture("far.png"), units=(far,))]
    lance, sqlite = _both(tmp_path, files)
    aside = vector_of(5000) - (vector_of(5000) @ alike) * alike
    query = aside / np.linalg.norm(aside) + (np.mean(BACKGROUND.vectors @ alike) + np.float32(0.08)) * alike
    query /= np.linalg.norm(query)
    sorts: list[Of] = ["look", "words"]
    for of in sorts:
        assert "far.png" not in [near.unit.path for near in sqlite.nearest(query, 30, of=of)]
        for limit in (1, 3):
            expected = sqlite.nearest(query, limit, of=of, calibrated=True)
            assert expected[0].unit.path == "far.png"
            assert lance.nearest(query, limit, of=of, calibrated=True) == expected


def test_words_are_found_as_in_the_store_in_one_file_before_they_are_in_the_index_and_after(tmp_path: Path) -> None:
    lance, sqlite = _both(tmp_path, [_file(number) for number in range(700)])
    for store in (lance, sqlite):
        with store.writing():
            store.commit([_file(3).path], [_file(number) for number in range(5, 700, 100)])
    asked = [
        Wanted(("red", "car"), without=("sky",)),
        Wanted(("pdf", "0017"), ("blue bus", "red red")),
        Wanted(("seas", "cars", "nothing"), without=("red blue",)),
        Wanted(tuple(WORDS.tolist()), tuple(f"{one} {other}" for one in WORDS for other in WORDS)),
    ]
    for is_tidy in (False, True):
        for wanted in asked:
            for where in (Filter(), Filter(until=3e-7)):
                assert _found(lance, wanted, where) == _found(sqlite, wanted, where)
        if not is_tidy:
            assert lance.is_untidy()
            assert not _untidy(lance)


# The approximate index of passages


def test_many_passages_are_found_through_an_approximate_index(tmp_path: Path) -> None:
    create_store(tmp_path, INFO, kind="lance", background=BACKGROUND)
    store = LanceStore(tmp_path, exact_up_to=1000)

    def ask(number: int) -> list[Near]:
        return store.nearest(vector_of(number), 10, of="words", calibrated=number % 2 > 0)

    with store.writing():
        store.commit([], [_told(f"{n:04}.md", vector_of(2 * n), vector_of(2 * n + 1)) for n in range(600)])
        exact = list(map(ask, range(0, 1200, 111)))
        told: list[int] = []
        store.tidy(lambda num_vectors: _building(told, num_vectors))
    assert told == [1200]
    assert not store.is_untidy()
    found = list(map(ask, range(0, 1200, 111)))
    for near, expected in zip(found, exact, strict=True):
        assert near[0] == expected[0]
        assert len(set(near) & set(expected)) >= 9
    with store.writing():
        store.commit([f"{n:04}.md" for n in range(200)], [])
        store.tidy(nullcontext)
    assert not store.is_untidy()
    assert [near.unit.path for near in ask(1198)[:1]] == ["0599.md"]


def _told(path: str, *passages: Vector) -> FileRows:
    unit = StoredUnit("text", None, None, None, Words("red"), passages)
    return FileRows(path, Look(1, 2, 3, 4), "0" * 32, 1, (unit,))


@contextmanager
def _building(told: list[int], num_vectors: int) -> Iterator[None]:
    told.append(num_vectors)
    yield


# A background


def test_a_lost_background_is_told(tmp_path: Path) -> None:
    create_store(tmp_path, INFO, kind="lance", background=BACKGROUND)
    (note,) = (tmp_path / "units.lance").glob("background-*.json")
    content = note.read_text()
    note.unlink()
    with pytest.raises(IndexFolderError, match=f"its file {note.name} is missing; .* makes it anew"):
        open_store(tmp_path)
    note.write_text(content.replace("A", "B"))
    with pytest.raises(IndexFolderError, match=f"its file {note.name} is damaged; .* makes it anew"):
        open_store(tmp_path)


def test_a_kill_while_the_table_is_made_anew_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = create_store(tmp_path, INFO, kind="lance")
    with store.writing():
        store.commit([], [worded(picture("a.png", 1), "red", passages=[2])])
    before = contents(store)

    def killed(full_text: TermIndex) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt), store.writing():
        patch.setattr(TermIndex, "make", killed)
        store.note_background(BACKGROUND)
    again = open_store(tmp_path)
    (near,) = again.nearest(QUERY, 1, calibrated=True)
    assert (again.background, near.calibrated == near.score, again.matching(Wanted(("red",)), 1)) == (None, True, [])
    assert again.is_untidy()
    with again.writing():
        again.note_background(BACKGROUND)
    for one in (again, open_store(tmp_path)):
        assert contents(one) == before
        assert [match.unit.path for match in one.matching(Wanted(("red",)), 1)] == ["a.png"]
        assert one.background is not None
    assert open_store(tmp_path).verify().problems == []


# Tables without words


@pytest.fixture(params=["first", "with change times"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An index of each earlier sort, as if LanceDB had been asked for."""
    import lancedb
    import pyarrow as pa

    place = Path(shutil.copytree(OLD / "dot_vlm2vec", tmp_path / ".vlm2vec"))
    if request.param == "with change times":
        table = lancedb.connect(place).open_table("units")
        table.add_columns([pa.field("ctime_ns", pa.int64()), pa.field("inode", pa.int64())])
    info = place / "index.json"
    info.write_text(info.read_text().replace('"folder"', '"store": "lance", "checksum": null, "folder"'))
    document = LanceInfo.model_validate_json(info.read_text())
    LanceInfo.write(Place(place), document.info)
    info.write_text(info.read_text().replace('"format": 2', '"format": 1'))
    return place


def test_an_old_table_is_read_as_it_is_and_gets_words_file_by_file(old: Path) -> None:
    store, reader = open_store(old), open_store(old)
    assert isinstance(store, LanceStore)
    paths = ["0.png", "1.png", "2.png", "two.pdf"]
    query = np.load(OLD / "vectors.npy")[0]
    before, near = contents(store), store.nearest(query, 9)
    assert (store.background, store.lacking_words(), store.is_untidy()) == (None, paths, False)
    assert (store.matching(Wanted(("two",)), 9), store.nearest(query, 9, of="words")) == ([], [])
    assert len(near) == 5
    with store.writing():
        assert (store.lacking_words(), contents(store)) == (paths, before)
        [rows] = store.read(["two.pdf"])
        store.commit([], [worded(rows, "a red car")])
        store.note_background(Background(np.load(OLD / "vectors.npy")))
    reader.refresh()
    for one in (store, reader, open_store(old)):
        assert one.lacking_words() == paths[:-1]
        assert [(match.unit.path, match.unit.page) for match in one.matching(Wanted(("red",)), 9)] == [
            *(("two.pdf", 1), ("two.pdf", 2)),
        ]
        assert [found[:2] for found in one.nearest(query, 9)] == [found[:2] for found in near]
        assert one.background is not None
    assert open_store(old).verify().problems == []


def test_an_old_table_takes_files_without_pictures(old: Path) -> None:
    store = open_store(old)
    before = contents(store)
    with store.writing():
        store.commit([], [replace(text("a.md", "red"), content_hash="0" * 32)])
    assert contents(open_store(old)) == [*before[:3], plain(text("a.md", "red")), *before[3:]]


def test_a_document_without_words_is_found_by_its_name(tmp_path: Path) -> None:
    store = create_store(tmp_path, INFO, kind="lance")
    with store.writing():
        store.commit([], [document("manual.pdf", [2, 1])])
        store.commit([], [document("other.pdf", [1])])
        store.note_looks({"manual.pdf": Look(9, 9, 9, 9)})
        store.mark_outdated(["manual.pdf"])
    assert [(match.unit.path, match.unit.page) for match in store.matching(Wanted(("manual",)), 9)] == [
        ("manual.pdf", 2)
    ]
