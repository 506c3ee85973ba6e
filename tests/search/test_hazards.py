"""What must not happen to an index: other threads, other processes, other programs, links and files that move."""

from __future__ import annotations

import errno
import json
import os
import queue
import shutil
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from support.index_folders import make_picture, paths_of, summary_of, vector_of
from vlm2vec.errors import IndexFolderError, StorageError
from vlm2vec.items import Image
from vlm2vec.model.embedder import Embedder
from vlm2vec.search import lock
from vlm2vec.search.index import Index
from vlm2vec.search.scan import scan_folder
from vlm2vec.search.searching import open_index, search_near
from vlm2vec.search.table import Row, UnitTable


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
    index = Index.create(tmp_path, embedder=own)
    index.add(embedder=own)
    shutil.copy(tmp_path / "1.png", tmp_path / "2.png")
    make_picture(tmp_path / "1.png", 2)
    monkeypatch.setattr("vlm2vec.search.indexing._ROWS_PER_COMMIT", 1)
    replace, hashing = UnitTable.replace, threading.Event()

    def slowly(self: UnitTable, paths: Any, rows: Any) -> None:
        replace(self, paths, rows)
        # The rows are written, and the other thread is let go on with what was the content of 1.png.
        hashing.set()
        threading.Event().wait(0.3)

    def hash_file(path: Path, file: Any) -> str:
        if path.name == "2.png":
            hashing.wait(10)
        return hashed(path, file)

    from vlm2vec.search.indexing import _hash_file as hashed

    monkeypatch.setattr(UnitTable, "replace", slowly)
    monkeypatch.setattr("vlm2vec.search.indexing._hash_file", hash_file)
    embedder: Any = _InAnotherThread(own)
    assert index.add(embedder=embedder) == summary_of(added=1, changed=1, embedded=2)
    for name in ("1.png", "2.png"):
        expected = own.encode_document(Image(tmp_path / name))
        np.testing.assert_allclose(vector_of(index, name), expected, atol=2e-6)


def test_what_others_have_written_since_is_removed_and_found(three: Index, own: Embedder) -> None:
    stale = Index.open(three.folder)
    make_picture(three.folder / "new.png", 9)
    three.add(embedder=own)
    found = search_near(stale, Image(three.folder / "new.png"), 1)
    assert found is not None
    assert found[0].path == "new.png"
    other = Index.open(three.folder)
    make_picture(three.folder / "newer.png", 10)
    three.add(embedder=own)
    assert other.remove([three.folder / "newer.png"]) == 1
    three.table.refresh()
    assert "newer.png" not in paths_of(three)


def test_an_index_that_another_process_has_made_meanwhile_is_kept(three: Index, own: Embedder) -> None:
    again = Index.create(three.folder, embedder=own, replace=False)
    assert paths_of(again) == paths_of(three) == ["0.png", "1.png", "2.png"]
    assert paths_of(Index.create(three.folder, embedder=own)) == []


@pytest.mark.parametrize("content", ['{"name": "my site"}', "[1, 2]", "no json"])
def test_another_programs_index_json_is_not_written_over(tmp_path: Path, own: Embedder, content: str) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.json").write_text(content)
    with pytest.raises(IndexFolderError, match="site holds other things than an index; give an empty or new folder"):
        Index.create(tmp_path, embedder=own, path=site)
    (site / "page.html").write_text("")
    with pytest.raises(IndexFolderError, match="site holds other things than an index; give an empty or new folder"):
        Index.create(tmp_path, embedder=own, path=site)
    assert (site / "index.json").read_text() == content


def test_another_programs_index_json_is_not_called_a_damaged_index(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(json.dumps({"name": "my site"}))
    with pytest.raises(IndexFolderError, match=r"is no index: its index.json is another program's; give another path"):
        Index.open(path=tmp_path)


def test_files_in_a_linked_folder_that_is_away_stay(tmp_path: Path, own: Embedder) -> None:
    make_picture(tmp_path / "disk" / "a.png", 1)
    pictures = tmp_path / "pictures"
    make_picture(pictures / "b.png", 2)
    (pictures / "archive").symlink_to(tmp_path / "disk")
    (pictures / "old.txt").symlink_to(tmp_path / "nothing.txt")
    index = Index.create(pictures, embedder=own)
    assert index.add(embedder=own) == summary_of(added=2, embedded=2, left_out={".txt": 1})
    (tmp_path / "disk").rename(tmp_path / "unplugged")
    assert scan_folder(pictures).failed == [("archive/", "no such file or directory")]
    index.add(embedder=own)
    assert paths_of(index) == ["archive/a.png", "b.png"]
    (tmp_path / "unplugged").rename(tmp_path / "disk")
    assert index.add(embedder=own) == summary_of(unchanged=2, left_out={".txt": 1})


def test_an_animation_under_another_ending_becomes_what_it_is_there(tmp_path: Path, own: Embedder) -> None:
    frames = [PIL.Image.new("RGB", (28, 28), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / "a.jpg", format="GIF", save_all=True, append_images=frames[1:])
    index = Index.create(tmp_path, embedder=own)
    index.add(embedder=own)
    assert index.counts() == {"image": 1}
    (tmp_path / "a.jpg").rename(tmp_path / "a.gif")
    assert index.add(embedder=own) == summary_of(added=1, removed=1, embedded=1)
    assert index.counts() == {"video": 1}


def test_the_same_files_replaced_again_and_again_do_not_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlm2vec.search.table._KEEP_OLD_VERSIONS", timedelta(milliseconds=1))
    table = UnitTable.create(tmp_path, dim=256, fingerprint="f")
    rng = np.random.default_rng(0)
    sizes = []
    for turn in range(100):
        rows = [
            Row(
                path="a.pdf",
                kind="page",
                page=page,
                span_s=None,
                num_units=50,
                content_hash=f"{turn}",
                size=1,
                mtime_ns=turn,
                vector=rng.normal(size=256).astype(np.float32),
            )
            for page in range(1, 51)
        ]
        table.replace(["a.pdf"], rows)
        table.tidy()
        sizes.append(sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()))
    # 50 rows take 51 kB; up to 65 versions are kept, two of each replacement.
    assert max(sizes) < 45 * 51_200
    assert len(table.files()) == 1


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_named(three: Index, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def no_locks(descriptor: int) -> bool:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(lock, "_try_lock", no_locks)
    message = f"cannot write to the index .*: {os.strerror(code)}; give a folder that you can write to with --index"
    with pytest.raises(StorageError, match=message):
        three.remove([three.folder / "0.png"])


def test_the_bundled_model_is_meant_where_a_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundled").mkdir()
    make_picture(tmp_path / "pictures" / "0.png", 0)
    monkeypatch.chdir(tmp_path)
    index, embedder = open_index(Path("pictures"))
    assert (index.model, embedder.name) == ("bundled", "bundled")
