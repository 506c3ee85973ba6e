"""What every store promises of the meaning of words: one hit a unit, and scores that a background makes comparable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.stores import DIM, INFO, QUERY, contents, document, picture, plain, text, vector_of, worded
from vlm2vec.errors import InputError
from vlm2vec.search.store import Background, FileRows, Filter, Look, Near, Store, StoredUnit, Vector
from vlm2vec.search.stores import StoreKind, create_store, open_store


def write(store: Store, *add: FileRows, remove: tuple[str, ...] = ()) -> None:
    with store.writing():
        store.commit(remove, add)


def toward(*numbers: float) -> Vector:
    """A vector that begins with these numbers, and is 0 otherwise."""
    return np.array([*numbers, *[0.0] * (DIM - len(numbers))], np.float32)


def told(path: str, *passages: Vector, look: Vector | None = None) -> FileRows:
    """A file of one section that has passages."""
    return FileRows(path, Look(1, 2, 3, 4), "0" * 32, 1, (StoredUnit("text", None, None, look, passages=passages),))


def scores(found: list[Near]) -> list[tuple[str, float, float]]:
    return [(near.unit.path, round(near.score, 4), round(near.calibrated, 4)) for near in found]


# Passages


def test_a_unit_is_found_once_by_its_best_passage(store: Store) -> None:
    write(
        store,
        told("a.md", toward(1.0), toward(0.6, 0.8), toward(0.0, 1.0)),
        told("b.md", toward(0.8, 0.6)),
        told("c.md", toward(-1.0), toward(0.0, 0.0, 1.0)),
        told("look.png", look=toward(1.0)),
    )
    assert scores(store.nearest(toward(1.0), 9, of="words")) == [
        *(("a.md", 1.0, 1.0), ("b.md", 0.8, 0.8), ("c.md", 0.0, 0.0)),
    ]
    assert scores(store.nearest(toward(0.0, 1.0), 2, of="words")) == [("a.md", 1.0, 1.0), ("b.md", 0.6, 0.6)]
    assert scores(store.nearest(toward(1.0), 9)) == [("look.png", 1.0, 1.0)]


def test_of_equal_passages_the_units_are_in_order_of_path_and_page(store: Store) -> None:
    write(store, *(worded(picture(f"{name}.png"), "", passages=[1, 1]) for name in "cab"))
    write(store, worded(document("b.pdf", [2, 1]), "", passages=[2, 1]), told("z.md", vector_of(3)))
    found = store.nearest(vector_of(1), 4, of="words")
    assert [(near.unit.path, near.unit.page) for near in found] == [
        *(("a.png", None), ("b.pdf", 1), ("b.pdf", 2), ("b.png", None)),
    ]
    assert len({near.score for near in store.nearest(vector_of(1), 5, of="words")}) == 1


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (Filter(), ["a.png", "b.pdf", "x/c.md"]),
        (Filter(kinds=frozenset({"text", "page"})), ["b.pdf", "x/c.md"]),
        (Filter(under="x"), ["x/c.md"]),
        (Filter(types=frozenset({"png"}), kinds=frozenset({"text"})), []),
    ],
)
def test_a_filter_holds_for_passages(store: Store, where: Filter, found: list[str]) -> None:
    write(store, worded(picture("a.png"), "", passages=[1]), worded(document("b.pdf", [1]), "", passages=[2]))
    write(store, told("x/c.md", vector_of(3)))
    assert sorted(near.unit.path for near in store.nearest(QUERY, 9, where, of="words")) == found


def test_passages_come_and_go_with_their_files(store: Store) -> None:
    reader = open_store(store.place)
    assert reader.nearest(QUERY, 9, of="words") == []
    write(store, told("a.md", toward(1.0)), worded(document("b.pdf", [1, 2]), "", passages=[4, 5]))
    reader.refresh()
    assert len(reader.nearest(QUERY, 9, of="words")) == 3
    write(store, told("a.md", toward(0.0, 1.0)), remove=("b.pdf",))
    reader.refresh()
    for one in (store, reader, open_store(store.place)):
        assert scores(one.nearest(toward(1.0), 9, of="words")) == [("a.md", 0.0, 0.0)]
    assert store.verify().problems == []


# Calibration


def test_mean_and_spread_are_those_of_the_scores_with_the_background() -> None:
    background = Background(np.stack([toward(1.0), toward(0.0, 1.0)]))
    mean, spread = background.mean_and_spread(np.stack([toward(0.6, 0.8), toward(1.0), toward(0.0, 0.0, 1.0)]))
    np.testing.assert_allclose(mean, [0.7, 0.5, 0.0], atol=1e-7)
    np.testing.assert_allclose(spread, [0.1, 0.5, 1e-6], atol=1e-7)
    assert (str(mean.dtype), str(spread.dtype)) == ("float32", "float32")


def test_equal_vectors_have_equal_means_and_spreads_wherever_they_stand() -> None:
    background = Background(np.stack([vector_of(seed, 103) for seed in range(7)]))
    mean, spread = background.mean_and_spread(np.stack([vector_of(seed % 2, 103) for seed in range(2051)]))
    assert (len(set(mean.tolist())), len(set(spread.tolist()))) == (2, 2)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (vector_of(1), "a background is float32 with two rows or more, not float32"),
        (vector_of(1)[None], "a background is float32 with two rows or more, not float32"),
        (np.eye(2), "a background is float32 with two rows or more, not float64"),
        (2 * np.eye(2, dtype=np.float32), "a vector of the background has the length 2, not 1"),
    ],
)
def test_a_background_that_is_none_is_refused(vectors: Vector, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Background(vectors)


BACKGROUND = Background(np.stack([toward(1.0), toward(0.0, 1.0)]))
# (score - mean) / spread: (0.96 - 0.14) / 0.14 and (0.8 - 0.42) / 0.06.
PLAIN, HUB = toward(0.0, 0.28, 0.96), toward(0.36, 0.48, 0.8)
CALIBRATED = [("hub.md", 0.8, 6.3333), ("plain.md", 0.96, 5.8571)]


def test_calibrated_scores_put_what_is_near_to_everything_behind(tmp_path: Path, kind: StoreKind) -> None:
    store = create_store(tmp_path / ".vlm2vec", INFO, kind=kind, background=BACKGROUND)
    write(store, told("plain.md", PLAIN, look=PLAIN), told("hub.md", HUB, look=HUB))
    query = toward(0.0, 0.0, 1.0)
    for one in (store, open_store(store.place)):
        assert one.background is not None
        np.testing.assert_array_equal(one.background.vectors, BACKGROUND.vectors)
        assert scores(one.nearest(query, 9)) == CALIBRATED[::-1]
        assert scores(one.nearest(query, 9, calibrated=True)) == CALIBRATED
        assert scores(one.nearest(query, 1, calibrated=True)) == CALIBRATED[:1]
        assert scores(one.nearest(query, 1, of="words", calibrated=True)) == CALIBRATED[:1]
        assert scores(one.nearest(query, 1, Filter(under="x"), calibrated=True)) == []


def test_the_best_passage_is_the_one_of_the_best_calibrated_score(tmp_path: Path, kind: StoreKind) -> None:
    store = create_store(tmp_path / ".vlm2vec", INFO, kind=kind, background=BACKGROUND)
    write(store, told("a.md", PLAIN, HUB))
    query = toward(0.0, 0.0, 1.0)
    assert scores(store.nearest(query, 1, of="words")) == [("a.md", 0.96, 5.8571)]
    assert scores(store.nearest(query, 1, of="words", calibrated=True)) == [("a.md", 0.8, 6.3333)]


def test_a_background_that_comes_later_calibrates_all_that_is_stored(store: Store) -> None:
    assert store.background is None
    files = [
        told("plain.md", PLAIN, look=PLAIN),
        told("hub.md", HUB),
        worded(document("b.pdf", [1]), "no passage"),
    ]
    write(store, *files, text("c.md", "no vector"))
    reader = open_store(store.place)
    query = toward(0.0, 0.0, 1.0)
    assert scores(reader.nearest(query, 1)) == [("plain.md", 0.96, 0.96)]
    before = contents(reader)
    with store.writing():
        store.note_background(BACKGROUND)
        store.commit([], [told("late.md", HUB)])
    reader.refresh()
    for one in (store, reader, open_store(store.place)):
        assert scores(one.nearest(query, 1)) == [("plain.md", 0.96, 5.8571)]
        found = scores(one.nearest(query, 3, of="words", calibrated=True))
        assert found == [CALIBRATED[0], ("late.md", *CALIBRATED[0][1:]), CALIBRATED[1]]
    with store.writing():
        store.note_background(Background(np.stack([toward(0.0, 1.0), toward(1.0)])))
        store.commit(["late.md"], [])
    reader.refresh()
    assert contents(store) == contents(reader) == before
    assert store.verify().problems == []


def test_a_background_of_other_dimensions_is_refused(store: Store) -> None:
    with store.writing(), pytest.raises(InputError, match="the background has 2 dimensions, the index 16"):
        store.note_background(Background(np.eye(2, dtype=np.float32)))
    assert store.background is None


def test_equal_vectors_have_equal_calibrated_scores_wherever_they_stand(tmp_path: Path, kind: StoreKind) -> None:
    background = Background(np.stack([vector_of(seed, 103) for seed in range(7)]))
    store = create_store(tmp_path / ".vlm2vec", replace(INFO, dim=103), kind=kind, background=background)
    write(store, *(picture(f"{number:04}.png", 50 + number % 2, dim=103) for number in range(601)))
    found = store.nearest(vector_of(51, 103), 601, calibrated=True)
    assert [near.unit.path for near in found[:300]] == [f"{number:04}.png" for number in range(1, 601, 2)]
    assert len({near.calibrated for near in found}) == 2
    assert plain(picture("0000.png", 50, dim=103)) == plain(store.read(["0000.png"])[0])
