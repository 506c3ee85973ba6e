"""An index follows its folder: what changes is in it soon, and a burst of changes is one update."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from support.index_folders import make_picture, paths_of, summary_of
from support.toy_family import make_toy
from vlm2vec.errors import BusyError, IndexFolderError
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.library import Library
from vlm2vec.search.stores import open_store
from vlm2vec.search.watch import Followed, Pace, follow

PACE = Pace(quiet_s=0.1, most_s=5.0, retry_s=0.1)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return Embedder.load(make_toy(tmp_path_factory.mktemp("model") / "toy"))


@pytest.fixture
def library(tmp_path: Path, toy: Embedder) -> Library:
    make_picture(tmp_path / "a" / "0.png", 0)
    make_picture(tmp_path / "1.png", 1)
    return Library.open(tmp_path, model=toy)


@pytest.fixture
def updates(library: Library) -> Iterator[Iterator[Followed]]:
    """Those after the first, which takes in all of the folder."""
    following = follow(library, pace=PACE)
    assert next(following) == Followed(None, summary_of(added=2, embedded=2))
    yield following
    following.close()  # type: ignore[attr-defined]


def test_a_burst_of_a_thousand_files_is_one_update(library: Library, updates: Iterator[Followed]) -> None:
    # Equal files, because what is tested is not their embedding.
    for number in range(1000):
        shutil.copyfile(library.folder / "1.png", library.folder / "a" / f"copy{number}.png")
    followed = next(updates)
    assert followed.summary == summary_of(added=1000)
    assert followed.paths == tuple(sorted(f"a/copy{number}.png" for number in range(1000)))


def test_what_is_changed_renamed_and_deleted_is_followed(library: Library, updates: Iterator[Followed]) -> None:
    (library.folder / "a").rename(library.folder / "b")
    assert next(updates) == Followed(("a", "b"), summary_of(added=1, removed=1))
    make_picture(library.folder / "1.png", 5)
    assert next(updates) == Followed(("1.png",), summary_of(changed=1, embedded=1))
    shutil.rmtree(library.folder / "b")
    (library.folder / "1.png").rename(library.folder / "2.png")
    found = next(updates)
    assert found.paths is not None
    assert set(found.paths) >= {"b", "1.png", "2.png"}
    assert paths_of(library) == ["2.png"]


def test_a_folder_that_comes_whole_is_followed_into(library: Library, updates: Iterator[Followed]) -> None:
    elsewhere = library.folder.with_name(f"{library.folder.name}-elsewhere")
    make_picture(elsewhere / "deep" / "er" / "7.png", 7)
    elsewhere.rename(library.folder / "new")
    assert next(updates).summary == summary_of(added=1, embedded=1)
    make_picture(library.folder / "new" / "deep" / "8.png", 8)
    assert next(updates) == Followed(("new/deep/8.png",), summary_of(added=1, embedded=1))


def test_what_is_no_file_to_be_searched_makes_no_update(library: Library, updates: Iterator[Followed]) -> None:
    for name in (".hidden.png", "notes.xyz", "code.ts", ".git/0.png", ".vlm2vec/odd.png"):
        (library.folder / name).parent.mkdir(exist_ok=True)
        (library.folder / name).write_bytes(b"x")
    (library.folder / "a" / ".draft").mkdir()
    make_picture(library.folder / "2.png", 2)
    assert next(updates) == Followed(("2.png",), summary_of(added=1, embedded=1))


def test_an_ignore_file_that_changes_is_followed_for_its_folder(library: Library, updates: Iterator[Followed]) -> None:
    (library.folder / "a" / ".vlm2vecignore").write_text("*.png\n")
    assert next(updates) == Followed(("a",), summary_of(removed=1, excluded=1))
    (library.folder / ".vlm2vecignore").write_text("1.*\n")
    assert next(updates) == Followed(("",), summary_of(removed=1, excluded=2))
    assert paths_of(library) == []


def test_what_another_process_keeps_from_being_written_is_written_afterwards(
    library: Library, updates: Iterator[Followed]
) -> None:
    with closing(open_store(library.path)) as store, store.writing():
        make_picture(library.folder / "2.png", 2)
        followed = next(updates)
        assert (followed.paths, followed.summary, type(followed.trouble)) == (("2.png",), None, BusyError)
    assert next(updates) == Followed(("2.png",), summary_of(added=1, embedded=1))


def test_a_folder_that_is_gone_ends_it(library: Library, updates: Iterator[Followed]) -> None:
    library.close()
    library.folder.rename(library.folder.with_name(f"{library.folder.name}-gone"))
    with pytest.raises(IndexFolderError, match="there is no folder"):
        next(updates)
    assert not library.folder.exists()


def test_a_file_that_cannot_be_read_is_tried_again_when_it_changes(
    library: Library, updates: Iterator[Followed]
) -> None:
    (library.folder / "2.png").write_bytes(b"half of it")
    summary = next(updates).summary
    assert summary is not None
    assert [path for path, _ in summary.failed] == ["2.png"]
    make_picture(library.folder / "2.png", 2)
    assert next(updates).summary == summary_of(added=1, embedded=1)


def test_a_link_to_the_folder_is_the_folder(tmp_path: Path, toy: Embedder) -> None:
    make_picture(tmp_path / "real" / "0.png", 0)
    (tmp_path / "link").symlink_to("real", target_is_directory=True)
    library = Library.open(tmp_path / "link", model=toy)
    following = follow(library, pace=PACE)
    next(following)
    make_picture(tmp_path / "link" / "1.png", 1)
    assert next(following) == Followed(("1.png",), summary_of(added=1, embedded=1))
    os.utime(tmp_path / "real" / "1.png", (5, 5))
    assert next(following) == Followed(("1.png",), summary_of(unchanged=1))


def test_hits_are_of_the_folder_as_it_is(library: Library, updates: Iterator[Followed]) -> None:
    make_picture(library.folder / "green.png", 200 * 256)
    next(updates)
    (hit,) = library.search(np.array([0.01, 0.79, 0.31] + [0.0] * 16, np.float32), 1)
    assert hit.path == "green.png"
