"""What every store promises: files whole or not at all, exact answers, one writer, and nothing lost by a kill."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.stores import INFO, QUERY, contents, document, film, picture, places, plain, vector_of
from vlm2vec.search.names import name_words
from vlm2vec.search.store import Failure, FileRows, Filter, Look, Store, StoredUnit, Vector, Wanted, Words
from vlm2vec.search.stores import StoreKind, create_store, open_store

ODD_NAMES = ["it's; DROP TABLE--.png", os.fsdecode(b"caf\xe9.png"), "line\nbreak.png", "雪/%_*.png", "a//x", '"q".png']


def write(store: Store, *add: FileRows, remove: tuple[str, ...] = ()) -> None:
    with store.writing():
        store.commit(remove, add)


# What is stored


def test_what_is_put_in_comes_out_as_it_was(store: Store) -> None:
    files = [
        picture("b.png"),
        document("a/three.pdf", [1, 3], num_units=3),
        film("c.mp4", (0.0, 30.0), (30.0, 41.5)),
        *map(picture, ODD_NAMES[:4]),
        replace(picture("big"), look=Look(2**62, 2**62, 2**62, 2**62)),
    ]
    write(store, *files)
    for one in (store, open_store(store.place)):
        assert one.files() == {rows.path: rows.stored for rows in files}
        assert [plain(rows) for rows in one.read(["c.mp4", "missing", "a/three.pdf", "b.png"])] == [
            plain(files[2]),
            plain(files[1]),
            plain(files[0]),
        ]
        assert contents(one) == sorted(map(plain, files))
        assert (one.count(), one.count("image"), one.count("page"), one.count("video")) == (10, 6, 2, 2)
        assert one.info == INFO
    assert not store.files()["a/three.pdf"].complete


def test_a_file_that_is_put_in_again_is_replaced_whole(store: Store) -> None:
    write(store, document("a.pdf", [1, 2, 3]), picture("b.png"), picture("c.png"))
    changed = document("a.pdf", [1, 2], seed=1)
    write(store, changed, picture("d.png"), remove=("a.pdf", "b.png", "missing"))
    assert contents(store) == [plain(changed), plain(picture("c.png")), plain(picture("d.png"))]
    assert store.count() == len(store.nearest(QUERY, 10)) == 4


def test_an_empty_store_has_no_hits(store: Store) -> None:
    assert (store.nearest(QUERY, 5), store.files(), store.count(), store.read(["a"])) == ([], {}, 0, [])
    write(store, picture("a.png"))
    write(store, remove=("a.png",))
    assert (store.nearest(QUERY, 5), store.files(), store.count("image")) == ([], {}, 0)


def test_looks_are_renewed_and_outdated_files_are_found_until_they_are_replaced(store: Store) -> None:
    files = picture("a.png"), document("b.pdf", [1, 2]), picture("c.png")
    write(store, *files)
    with store.writing():
        store.note_looks({"b.pdf": Look(5, 6, 7, 8), "missing": Look(1, 1, 1, 1)})
        store.mark_outdated(["a.png", "missing"])
        store.note_looks({})
        store.mark_outdated([])
    for one in (store, open_store(store.place)):
        stored = one.files()
        assert stored["b.pdf"] == files[1].stored._replace(look=Look(5, 6, 7, 8))
        assert stored["c.png"] == files[2].stored
        assert (stored["a.png"].look.size, stored["a.png"].content_hash) == (-1, "")
        assert {hit.unit.path for hit in one.nearest(QUERY, 10)} == {"a.png", "b.pdf", "c.png"}


def test_failures_are_remembered_until_files_are_decoded_otherwise(tmp_path: Path, kind: StoreKind) -> None:
    store = create_store(tmp_path / ".vlm2vec", replace(INFO, decoding=1), kind=kind)
    failures = {"a.png": Failure("no picture", Look(1, 2, 3, 4)), ODD_NAMES[1]: Failure("not there", None)}
    with store.writing():
        store.note_decoding()
        assert store.failures() == {}
        store.note_failures(failures)
    again = open_store(store.place)
    assert (again.failures(), again.info) == (failures, INFO)
    with again.writing():
        again.note_failures({})
    assert open_store(store.place).failures() == {}


# What is found


def test_hits_are_in_order_of_scores_and_equal_scores_in_order_of_path_page_and_span(store: Store) -> None:
    same = [picture(f"{name}.png", 7) for name in "dbeca"]
    twins = replace(
        document("b.pdf", [3, 1, 2]),
        units=tuple(replace(unit, vector=same[0].units[0].vector) for unit in document("b.pdf", [3, 1, 2]).units),
    )
    write(store, *same[:3], *(picture(f"other{n}.png") for n in range(200)), twins, *same[3:])
    query = same[0].units[0].vectors[0]
    order = [("a.png", None), ("b.pdf", 1), ("b.pdf", 2), ("b.pdf", 3), *((f"{name}.png", None) for name in "bcde")]
    for limit in (1, 3, 8, 20):
        hits = store.nearest(query, limit)
        assert [(hit.unit.path, hit.unit.page) for hit in hits[:8]] == order[:limit]
        assert len({hit.score for hit in hits[:8]}) == 1
        assert len(hits) == limit


def test_scores_are_dot_products_and_all_units_are_found(store: Store) -> None:
    files = [*(picture(f"{n}.png") for n in range(300)), film("f.mp4", (0.0, 30.0), (30.0, 60.0), seed=9)]
    write(store, *files)
    expected = {
        (rows.path, unit.span_s): float(unit.vectors[0].astype(np.float64) @ QUERY)
        for rows in files
        for unit in rows.units
    }
    hits = store.nearest(QUERY, 1000)
    assert {(hit.unit.path, hit.unit.span_s): hit.score for hit in hits} == pytest.approx(expected, abs=1e-6)
    assert hits == sorted(hits, key=lambda hit: -hit.score)
    assert store.nearest(QUERY, 5) == hits[:5]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (Filter(), "abcdefg"),
        (Filter(kinds=frozenset({"page"})), "ef"),
        (Filter(kinds=frozenset({"page", "video"})), "efg"),
        (Filter(under="x"), "bcdf"),
        (Filter(under="x/y"), "cd"),
        (Filter(under="x/"), "bcdf"),
        (Filter(under=("x/y", "z")), "cd"),
        (Filter(since=2.0), "bcdefg"),
        (Filter(until=2.0), "ab"),
        (Filter(since=2.0, until=3.5), "bcd"),
        (Filter(types=frozenset({".png"})), "ad"),
        (Filter(types=frozenset({".pdf", ".jpg"})), "bcef"),
        (Filter(frozenset({"image"}), "x", 3.0, 9.0, frozenset({".jpg"})), "c"),
        (Filter(types=frozenset({".gif"})), ""),
    ],
)
def test_a_filter_lets_through_what_it_says_and_nothing_else(store: Store, where: Filter, found: str) -> None:
    second = 10**9
    write(
        store,
        picture("a.png", mtime_ns=second),
        picture("x/b.jpg", mtime_ns=2 * second),
        picture("x/y/c.JPG", mtime_ns=3 * second),
        picture(f"x/y/{ODD_NAMES[1]}d.PNG", mtime_ns=int(3.5 * second)),
        replace(document("e.pdf", [1]), look=Look(1, 4 * second, 1, 1)),
        replace(document("x/f.pdf", [1]), look=Look(1, 5 * second, 1, 1)),
        replace(film("xy/g.mp4", (0.0, 30.0)), look=Look(1, 6 * second, 1, 1)),
    )
    hits = store.nearest(QUERY, 10, where)
    assert sorted(hit.unit.path.rpartition("/")[2].rpartition(".")[0][-1] for hit in hits) == list(found)
    assert places(store.nearest(QUERY, 1, where)) == places(hits[:1])


# A store against a plain dict


class _Dict:
    """A store in a few lines."""

    def __init__(self) -> None:
        self.rows: dict[str, FileRows] = {}

    def commit(self, remove: Sequence[str], add: Sequence[FileRows]) -> None:
        self.rows = {path: rows for path, rows in self.rows.items() if path not in remove}
        self.rows |= {rows.path: rows for rows in add}

    def note_looks(self, looks: Mapping[str, Look]) -> None:
        for path in looks.keys() & self.rows.keys():
            self.rows[path] = replace(self.rows[path], look=looks[path])

    def mark_outdated(self, paths: Sequence[str]) -> None:
        for path in self.rows.keys() & set(paths):
            look = self.rows[path].look._replace(size=-1)
            self.rows[path] = replace(self.rows[path], look=look, content_hash="")

    def contents(self) -> list[tuple[object, ...]]:
        return [plain(self.rows[path]) for path in sorted(self.rows)]

    def matching(self, words: Sequence[str], without: str) -> list[tuple[int, str, int, tuple[float, float]]]:
        """How many words each unit has; sorted."""
        found = []
        for rows in self.rows.values():
            by_name = set(name_words(rows.path).split())
            brought = False
            for unit in rows.units:
                own = {*unit.words.text.split(), *unit.words.about.split()}
                num_found = len((own | by_name) & set(words))
                if num_found and without not in own | by_name and (own & set(words) or not brought):
                    brought |= not own & set(words)
                    found.append((-num_found, rows.path, unit.page or 0, unit.span_s or (0.0, 0.0)))
        return sorted(found)

    def meant(self, query: Vector, limit: int) -> list[tuple[float, str, int, tuple[float, float]]]:
        found = [
            (
                -round(max(float(passage @ query) for passage in unit.passages), 5),
                *(rows.path, unit.page or 0, unit.span_s or (0.0, 0.0)),
            )
            for rows in self.rows.values()
            for unit in rows.units
            if unit.passages
        ]
        return sorted(found)[:limit]

    def nearest(self, query: Vector, limit: int) -> list[tuple[float, str, int, tuple[float, float]]]:
        found = [
            (-round(float(unit.vectors[0] @ query), 5), rows.path, unit.page or 0, unit.span_s or (0.0, 0.0))
            for rows in self.rows.values()
            for unit in rows.units
            if unit.vector is not None
        ]
        return sorted(found)[:limit]


@dataclass(frozen=True)
class _Commit:
    remove: list[str]
    add: list[FileRows]

    def take(self, store: Store | _Dict) -> None:
        store.commit(self.remove, self.add)


@dataclass(frozen=True)
class _NoteLooks:
    looks: dict[str, Look]

    def take(self, store: Store | _Dict) -> None:
        store.note_looks(self.looks)


@dataclass(frozen=True)
class _MarkOutdated:
    paths: list[str]

    def take(self, store: Store | _Dict) -> None:
        store.mark_outdated(self.paths)


Step: TypeAlias = _Commit | _NoteLooks | _MarkOutdated

_PATHS = st.sampled_from(["a.png", "b.png", "x/c.pdf", "x/d.mp4", ODD_NAMES[0], ODD_NAMES[1]])
_LOOKS = st.builds(Look, *[st.integers(0, 2**62)] * 4)
_TEXTS = st.lists(st.sampled_from(["red", "blue", "car"]), max_size=3).map(" ".join)
_UNITS = st.builds(
    lambda page, span_s, look, text, about, passages: StoredUnit(
        "page" if page else "image",
        page,
        span_s,
        None if look is None else vector_of(look),
        Words(text, about),
        tuple(map(vector_of, passages)),
    ),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, (0.0, 9.5)]),
    st.none() | st.integers(0, 5),
    _TEXTS,
    _TEXTS,
    st.lists(st.integers(0, 5), max_size=3),
)
_FILES = st.builds(
    lambda path, look, units, lost: FileRows(path, look, f"{look.size:032x}", len(units) + lost, tuple(units)),
    _PATHS,
    _LOOKS,
    st.lists(_UNITS, min_size=1, max_size=3),
    st.integers(0, 1),
)
_COMMITS = st.builds(
    _Commit, st.lists(_PATHS, max_size=3), st.lists(_FILES, max_size=3, unique_by=lambda rows: rows.path)
)
_STEPS: st.SearchStrategy[Step] = st.one_of(
    _COMMITS,
    _COMMITS,
    st.builds(_NoteLooks, st.dictionaries(_PATHS, _LOOKS, max_size=3)),
    st.builds(_MarkOutdated, st.lists(_PATHS, max_size=2)),
)


def _compare_with_a_dict(kind: StoreKind, steps: list[Step], seed: int) -> None:
    query = vector_of(seed)
    model = _Dict()
    with tempfile.TemporaryDirectory() as folder:
        store = create_store(Path(folder), INFO, kind=kind)
        reader = open_store(Path(folder))
        for step in steps:
            step.take(model)
            with store.writing():
                step.take(store)
            reader.refresh()
            late = open_store(Path(folder))
            for one in (store, reader, late):
                assert contents(one) == model.contents()
                hits = one.nearest(query, 4)
                found = [(-round(hit.score, 5), *hit.unit.order) for hit in hits]
                assert found == model.nearest(query, 4)
                _compare_words(one, model, query)
            late.close()
        assert store.verify().problems == []
        store.close()
        reader.close()


def _compare_words(store: Store, model: _Dict, query: Vector) -> None:
    words = ("red", "car", "png", "x")
    matches = store.matching(Wanted(words, without=("blue",)), 100)
    assert sorted((-match.num_found, *match.unit.order) for match in matches) == model.matching(words, "blue")
    assert [match.num_found for match in matches] == sorted((match.num_found for match in matches), reverse=True)
    meant = store.nearest(query, 4, of="words")
    assert [(-round(near.score, 5), *near.unit.order) for near in meant] == model.meant(query, 4)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_STEPS, max_size=8), st.integers(0, 9))
def test_sqlite_holds_and_finds_what_a_dict_does(steps: list[Step], seed: int) -> None:
    _compare_with_a_dict("sqlite", steps, seed)


@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_STEPS, max_size=5), st.integers(0, 9))
def test_lance_holds_and_finds_what_a_dict_does(steps: list[Step], seed: int) -> None:
    _compare_with_a_dict("lance", steps, seed)
