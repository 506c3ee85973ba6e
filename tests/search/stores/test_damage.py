"""What every store promises when its files are damaged: right results or one clear error, and a way out."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from support.stores import INFO, QUERY, contents, document, film, picture, worded
from vlm2vec.errors import IndexFolderError
from vlm2vec.search.store import Match, Near, Wanted
from vlm2vec.search.stores import StoreKind, create_store, open_store

Answer = tuple[list[Near], list[Near], list[Match], list[tuple[object, ...]]]
WANTED = Wanted(("red", "car", "png"), without=("f",))


@pytest.fixture(scope="module", params=["sqlite", pytest.param("lance", marks=pytest.mark.slow)])
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[StoreKind, Path, Answer]:
    """A store that has seen files come, go and change, so that it has bytes of every kind; and what it answers."""
    place = tmp_path_factory.mktemp("sound") / ".vlm2vec"
    store = create_store(place, INFO, kind=request.param)
    with store.writing():
        store.commit([], [*(picture(f"{n}.png") for n in range(12)), film("f.mp4", (0.0, 30.0))])
        pages = worded(document("a.pdf", [1, 2]), "a red car", "by A. Beck", passages=[7, 8])
        store.commit(["1.png"], [pages, worded(picture(os.fsdecode(b"caf\xe9.png")), "red", passages=[9])])
        store.mark_outdated(["2.png"])
        store.note_failures({})
    store.close()
    return request.param, place, _answer(place)


def _answer(place: Path) -> Answer:
    store = open_store(place)
    try:
        meant = store.nearest(QUERY, 10, of="words", calibrated=True)
        return store.nearest(QUERY, 10), meant, store.matching(WANTED, 10), contents(store)
    finally:
        store.close()


def _outcome(place: Path, expected: Answer) -> str:
    try:
        return "right" if _answer(place) == expected else "other results"
    except IndexFolderError as error:
        hints = [hint.action for hint in error.hints]
        return "told" if hints[-1:] in (["rebuild"], ["make_index"]) else f"no way out: {error}"


def _flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)


def _cut(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(max(1, path.stat().st_size)))


def _empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def _blank(path: Path, rng: random.Random) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _delete(path: Path, rng: random.Random) -> None:
    path.unlink()


def _become_a_folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = [_flip, _cut, _empty, _blank, _delete, _become_a_folder]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.strip("_"))
def test_any_file_of_a_store_may_be_damaged_in_any_way_and_the_store_is_made_anew(
    kept: tuple[StoreKind, Path, Answer], tmp_path: Path, damage: Callable[[Path, random.Random], None]
) -> None:
    kind, sound, expected = kept
    rng = random.Random(damage.__name__)
    names = sorted(path.relative_to(sound) for path in sound.rglob("*") if path.is_file())
    for number, name in enumerate(names):
        place = Path(shutil.copytree(sound, tmp_path / str(number) / ".vlm2vec"))
        damage(place / name, rng)
        assert (name, _outcome(place, expected)) in [(name, "right"), (name, "told")]
        create_store(place, INFO, kind=kind).close()
        assert _answer(place) == ([], [], [], [])


def test_a_byte_that_changes_in_silence_never_gives_other_results(
    kept: tuple[StoreKind, Path, Answer], tmp_path: Path
) -> None:
    _damage_bytes(kept, tmp_path, {"sqlite": 300, "lance": 100}[kept[0]])


@pytest.mark.torture
def test_of_three_thousand_bytes_that_change_in_silence_none_gives_other_results(
    kept: tuple[StoreKind, Path, Answer], tmp_path: Path
) -> None:
    _damage_bytes(kept, tmp_path, 3000)


def _damage_bytes(kept: tuple[StoreKind, Path, Answer], tmp_path: Path, times: int) -> None:
    _, sound, expected = kept
    place = Path(shutil.copytree(sound, tmp_path / ".vlm2vec"))
    rng = random.Random(times)
    # Most of a database's pages are spare room, where damage is none.
    used = [
        (path, at)
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.name not in ("lock", "index.json")
        for at, byte in enumerate(path.read_bytes())
        if byte or rng.random() < 0.1
    ]
    outcomes: Counter[str] = Counter()
    for path, at in rng.sample(used, min(times, len(used))):
        content = path.read_bytes()
        with path.open("r+b") as stream:
            stream.seek(at)
            stream.write(bytes([content[at] ^ rng.randrange(1, 256)]))
        outcomes[_outcome(place, expected)] += 1
        for left in place.glob("library.db-*"):
            left.unlink()
        path.write_bytes(content)
    assert outcomes.keys() == {"right", "told"}
    assert _answer(place) == expected
    store = open_store(place)
    assert store.verify().problems == []
    store.close()


def test_all_of_a_sound_store_is_verified(kept: tuple[StoreKind, Path, Answer]) -> None:
    verdict = open_store(kept[1]).verify()
    assert (verdict.model, verdict.num_files, verdict.num_units, verdict.problems) == ("a model", 14, 15, [])
    assert verdict.num_sealed


def test_what_is_as_it_was_written_and_cannot_be_right_is_named(tmp_path: Path, kind: StoreKind) -> None:
    store = create_store(tmp_path / ".vlm2vec", INFO, kind=kind)
    long = picture("long.png")
    long.units[0].vectors[0][:] *= 3
    with store.writing():
        store.commit([], [picture("a.png"), long, document("b.pdf", [1, 2, 3], num_units=2)])
    assert sorted(store.verify().problems) == [
        "a vector of long.png has the length 3, not 1",
        "b.pdf has 3 stored parts of 2",
    ]


# The words of the store in one file


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("UPDATE words SET text = 'a blue car' WHERE id = 14", "its words 14 are not as they were written"),
        ("DELETE FROM words WHERE id = 14", "some of its 3 words are missing: there are 2"),
        ("UPDATE passages SET vector = zeroblob(length(vector)) WHERE id = 2", "its vector 2 is not as it was written"),
        ("UPDATE passages SET unit = unit + 1 WHERE id = 2", "its vector 2 is not as it was written"),
        ("DELETE FROM passages WHERE id = 2", "some of its 5 vectors are missing"),
        ("UPDATE names SET name = 'b pdf' WHERE id = 14", "the words of the name of its file 14 are not as they were"),
        ("DELETE FROM names WHERE id = 3", "some of its 14 names are missing: there are 13"),
        ("INSERT INTO text_index (rowid, text, about) VALUES (3, 'red', '')", "its full text is not as it was written"),
        ("INSERT INTO name_index (name_index) VALUES ('optimize')", "its full text is not as it was written"),
        ("DELETE FROM text_index_docsize WHERE id = 14", "its full text is not as it was written"),
        ("UPDATE part_index_data SET block = zeroblob(9) WHERE id > 10", "its full text (part_index) is damaged"),
    ],
)
def test_damage_of_words_is_told_by_verifying(tmp_path: Path, change: str, problem: str) -> None:
    store = create_store(tmp_path, INFO)
    with store.writing():
        store.commit([], [picture(f"{n}.png") for n in range(13)])
        pages = worded(document("a.pdf", [1, 2]), "a red car", "by A. Beck", passages=[7, 8])
        store.commit(["1.png"], [pages, worded(picture("b.png"), "red", passages=[9])])
    store.close()
    with closing(sqlite3.connect(tmp_path / "library.db")) as database:
        database.execute(change)
        database.commit()
    problems = open_store(tmp_path).verify().problems
    assert [one for one in problems if problem in one], problems


def test_damage_of_the_full_text_is_told_before_the_first_answer(tmp_path: Path) -> None:
    store = create_store(tmp_path, INFO)
    with store.writing():
        store.commit([], [worded(picture("b.png"), "red")])
    with closing(sqlite3.connect(tmp_path / "library.db")) as database:
        database.execute("UPDATE text_index_docsize SET sz = x'7f7f'")
        database.commit()
    for one in (store, open_store(tmp_path)):
        with pytest.raises(IndexFolderError, match=r"its full text is not as it was written; .* makes it anew"):
            one.matching(Wanted(("red",)), 1)
        assert len(one.nearest(QUERY, 1)) == 1
