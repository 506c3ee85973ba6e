"""What must not happen to an index: other threads, other processes, other programs, links and files that move."""

from __future__ import annotations

import os
import queue
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from support.cli_runs import write_model
from support.index_folders import make_picture, paths_of, stored_files, summary_of, vector_of
from vlm2vec.errors import IndexFolderError
from vlm2vec.files import content_hash as hashed
from vlm2vec.items import Image
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.committer import Committer
from vlm2vec.search.library import Library
from vlm2vec.search.plan import make_plan
from vlm2vec.search.scan import scan_folder
from vlm2vec.search.store import FileRows
from vlm2vec.search.stores import open_store
from vlm2vec.vectors.job import Flush


class _InAnotherThread:
    """An embedder that takes items in another thread, as `Embedder.stream` does, but never waits to take the next."""

    def __init__(self, real: Embedder) -> None:
        self.real = real
        self.name, self.dim, self.dtype, self.fingerprint = real.name, real.dim, real.dtype, real.fingerprint

    def stream(self, items: Iterator[Any], ask: object, **options: object) -> Iterator[tuple[int, Any]]:
        taken: queue.Queue[Any] = queue.Queue()

        def take() -> None:
            for item in items:
                taken.put(item)
            taken.put(None)

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        for position, item in enumerate(iter(taken.get, None)):
            yield position, self.real.encode_document(item)
        thread.join()


def test_a_file_is_no_copy_of_one_that_is_being_written_anew(
    tmp_path: Path, own: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_picture(tmp_path / "1.png", 1)
    library = Library.open(tmp_path, model=own)
    library.sync()
    shutil.copy(tmp_path / "1.png", tmp_path / "2.png")
    make_picture(tmp_path / "1.png", 2)
    hashing = threading.Event()

    def content_hash(path: Path) -> str:
        if path.name == "2.png":
            hashing.wait(10)
        return hashed(path)

    monkeypatch.setattr("vlm2vec.search.contents.content_hash", content_hash)
    with closing(open_store(library.path)) as store:
        commit = store.commit

        def slowly(remove: list[str], add: list[FileRows]) -> None:
            commit(remove, add)
            # The rows are written, and the other thread continues with what was the content of 1.png.
            hashing.set()
            threading.Event().wait(0.3)

        monkeypatch.setattr(store, "commit", slowly)
        plan = make_plan(scan_folder(tmp_path), store.files(), store.failures())
        embedder: Any = _InAnotherThread(own)
        with store.writing():
            done = Committer(plan, store, tmp_path, flush=Flush(rows=1))
            done.run(lambda: embedder)
    assert (done.counts, done.embedded, done.failed) == ({"added": 1, "changed": 1}, 2, {})
    for name in ("1.png", "2.png"):
        expected = own.encode_document(Image(tmp_path / name))
        np.testing.assert_allclose(vector_of(library, name), expected, atol=2e-6)


def test_what_others_have_written_since_is_removed_and_found(three: Library, own: Embedder) -> None:
    stale = Library.open(three.folder, model=own)
    make_picture(three.folder / "new.png", 9)
    three.sync()
    assert stale.search(three.folder / "new.png", 1)[0].path == "new.png"
    other = Library.open(three.folder, model=own)
    make_picture(three.folder / "newer.png", 10)
    three.sync()
    assert other.remove([three.folder / "newer.png"]) == 1
    assert "newer.png" not in paths_of(three)


def test_an_index_that_another_process_has_made_meanwhile_is_kept(tmp_path: Path, own: Embedder) -> None:
    make_picture(tmp_path / "0.png", 0)
    first, second = (Library.open(tmp_path, model=own) for _ in range(2))
    assert first.sync() == summary_of(added=1, embedded=1)
    assert second.sync() == summary_of(unchanged=1)
    assert paths_of(Library.open(tmp_path, model=own)) == ["0.png"]
    assert paths_of(Library.open(tmp_path, model=own, rebuild=True)) == []


def test_an_index_that_another_process_has_made_with_another_model_is_refused(
    tmp_path: Path, own: Embedder, published: Embedder
) -> None:
    make_picture(tmp_path / "0.png", 0)
    library = Library.open(tmp_path, model=published)
    Library.open(tmp_path, model=own).sync()
    with pytest.raises(IndexFolderError, match="Their vectors cannot be compared"):
        library.sync()
    assert paths_of(Library.open(tmp_path)) == ["0.png"]


def test_a_library_that_was_opened_before_its_index_was_made_takes_the_model_of_the_index(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    make_picture(tmp_path / "files" / "0.png", 0)
    library = Library.open(tmp_path / "files")
    Library.open(tmp_path / "files", model=model).sync()
    assert [hit.path for hit in library.search("a square")] == ["0.png"]
    assert library.load_model().name == str(model)


def test_a_closed_library_opens_its_index_again(three: Library) -> None:
    three.close()
    assert three.counts() == {"image": 3}
    assert three.sync() == summary_of(unchanged=3)


def test_files_in_a_linked_folder_that_is_away_stay(tmp_path: Path, own: Embedder) -> None:
    make_picture(tmp_path / "disk" / "a.png", 1)
    pictures = tmp_path / "pictures"
    make_picture(pictures / "b.png", 2)
    (pictures / "archive").symlink_to(tmp_path / "disk")
    (pictures / "old.log").symlink_to(tmp_path / "nothing.log")
    library = Library.open(pictures, model=own)
    assert library.sync() == summary_of(added=2, embedded=2, left_out={".log": 1})
    (tmp_path / "disk").rename(tmp_path / "unplugged")
    assert scan_folder(pictures).failed == [("archive/", "no such file or directory")]
    library.sync()
    assert paths_of(library) == ["archive/a.png", "b.png"]
    (tmp_path / "unplugged").rename(tmp_path / "disk")
    assert library.sync() == summary_of(unchanged=2, left_out={".log": 1})


def test_an_animation_under_another_ending_becomes_what_it_is_there(tmp_path: Path, own: Embedder) -> None:
    frames = [PIL.Image.new("RGB", (28, 28), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / "a.jpg", format="GIF", save_all=True, append_images=frames[1:])
    library = Library.open(tmp_path, model=own)
    library.sync()
    assert library.counts() == {"image": 1}
    (tmp_path / "a.jpg").rename(tmp_path / "a.gif")
    assert library.sync() == summary_of(added=1, removed=1, embedded=1)
    assert library.counts() == {"video": 1}


def test_many_copies_are_committed_without_waiting_for_the_end(
    three: Library, own: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        shutil.copy(three.folder / "0.png", three.folder / f"copy{number}.png")
    seen: list[int] = []

    def content_hash(path: Path) -> str:
        seen.append(len(stored_files(three)))
        return hashed(path)

    monkeypatch.setattr("vlm2vec.search.contents.content_hash", content_hash)
    with closing(open_store(three.path)) as store, store.writing():
        plan = make_plan(scan_folder(three.folder), store.files(), store.failures())
        Committer(plan, store, three.folder, flush=Flush(rows=2)).run(lambda: own)
    assert seen == [3, 3, 5, 5, 7]
    assert len(stored_files(three)) == 8


def test_paths_may_be_given_from_the_current_folder_or_as_hits_have_them(
    three: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_picture(three.folder / "a" / "3.png", 3)
    monkeypatch.chdir(three.folder.parent)
    relative = os.path.relpath(three.folder / "a" / "3.png")
    assert three.sync(relative) == summary_of(added=1, embedded=1)
    assert [hit.path for hit in three.similar("a/3.png", 4)] == [hit.path for hit in three.similar(relative, 3)]
    assert three.search(Path("a/3.png"), 1)[0].path == "a/3.png"
    assert three.remove(["a"]) == 1
    assert three.remove([]) == 0
    with pytest.raises(IndexFolderError, match="is not inside"):
        three.remove("../elsewhere.png")


def test_a_file_of_the_current_folder_is_not_taken_for_one_of_the_index_of_equal_name(
    three: Library, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copy(three.folder / "2.png", elsewhere / "0.png")
    monkeypatch.chdir(elsewhere)
    assert three.search(Path("0.png"), 1)[0].path == "2.png"


def test_files_of_a_folder_that_is_away_stay_also_where_they_are_named(tmp_path: Path, own: Embedder) -> None:
    make_picture(tmp_path / "folder" / "0.png", 0)
    library = Library.open(tmp_path / "folder", index=tmp_path / "index", model=own)
    library.sync()
    (tmp_path / "folder").rename(tmp_path / "away")
    with pytest.raises(IndexFolderError, match="there is no folder"):
        library.sync(["0.png"])
    assert paths_of(library) == ["0.png"]
