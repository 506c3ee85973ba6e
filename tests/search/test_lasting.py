"""What an index promises over time: it survives whatever ends a run, may be moved, and refuses what does not fit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from support.golden_cases import MODEL
from support.index_folders import (
    is_up_to_date,
    make_pdf,
    make_picture,
    paths_of,
    stored_rows,
    summary_of,
    vector_of,
)
from support.places import DATA
from vlm2vec.errors import BusyError, IndexFolderError, InputError
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.library import Library
from vlm2vec.search.retrieve import Question
from vlm2vec.search.store import Filter
from vlm2vec.search.stores import open_store

OLD = DATA / "old_index"

# What survives


@pytest.mark.slow
def test_a_killed_run_leaves_a_usable_index_and_the_next_one_continues(tmp_path: Path, own: Embedder) -> None:
    for number in range(600):
        make_picture(tmp_path / f"{number}.png", number)
    script = f"""
from vlm2vec import Embedder, Library
embedder = Embedder.load({str(MODEL)!r}, prompt_style="qwen2-vl", device="cpu")
library = Library.open({str(tmp_path)!r}, model=embedder)
library.sync(on_progress=lambda done, total: print(done, flush=True))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 300:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    library = Library.open(tmp_path, model=own)
    done = library.counts()["image"]
    assert 256 <= done < 600
    assert len(library.search(vector_of(library, paths_of(library)[0]), 5)) == 5
    assert library.sync() == summary_of(added=600 - done, unchanged=done, embedded=600 - done)
    assert library.counts() == {"image": 600}


def test_an_interrupted_run_keeps_what_is_done(tmp_path: Path, own: Embedder) -> None:
    for number in range(40):
        make_picture(tmp_path / f"{number}.png", number)
    library = Library.open(tmp_path, model=own)

    def stop(done: int, total: int) -> None:
        assert total == 40
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        library.sync(on_progress=stop)
    assert library.counts() == {"image": 7}


def test_copies_that_need_no_model_are_kept_when_a_run_is_interrupted(
    three: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(three.folder / "0.png", three.folder / "copy.png")
    make_picture(three.folder / "new.png", 9)

    def no_model(self: object) -> Embedder:
        raise KeyboardInterrupt

    monkeypatch.setattr(Library, "load_model", no_model)
    with pytest.raises(KeyboardInterrupt):
        three.sync()
    assert paths_of(three) == ["0.png", "1.png", "2.png", "copy.png"]


def test_only_one_writer_at_a_time(three: Library) -> None:
    make_picture(three.folder / "new.png", 9)
    with closing(open_store(three.path)) as other, other.writing():
        with pytest.raises(BusyError, match=f"is being written by process {os.getpid()}; wait"):
            three.sync()
        with pytest.raises(BusyError, match=f"is being written by process {os.getpid()}; wait"):
            three.remove("0.png")
        assert len(three.search(vector_of(three, "0.png"), 3)) == 3
    assert three.sync() == summary_of(added=1, unchanged=3, embedded=1)


def test_an_index_that_is_up_to_date_needs_neither_the_lock_nor_the_model(
    three: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Embedder, "load")
    with closing(open_store(three.path)) as other, other.writing():
        library = Library.open(three.folder)
        assert library.sync() == summary_of(unchanged=3)
        assert library.search(three.folder / "1.png", 1)[0].path == "1.png"


def test_a_sync_that_has_nothing_to_do_does_not_touch_the_lock(three: Library) -> None:
    lock = three.path / "lock"
    os.utime(lock, ns=(1, 1))
    assert three.sync() == summary_of(unchanged=3)
    assert lock.stat().st_mtime_ns == 1


def test_a_library_that_cannot_be_opened_leaves_no_file_open(three: Library) -> None:
    three.close()
    other = SimpleNamespace(name="other", fingerprint="f" * 32, dim=1, dtype="float32")
    with pytest.raises(IndexFolderError, match="and this is 'other'") as of_another:
        Library.open(three.folder, model=other)  # type: ignore[arg-type]
    with pytest.raises(IndexFolderError, match="was made for the folder") as of_elsewhere:
        Library.open(three.folder.parent, index=three.path)
    # As long as somebody looks at the errors, all that they came by is kept.
    assert all((of_another.tb, of_elsewhere.tb))
    opened = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert str(three.path / "library.db") not in opened


def test_another_process_sees_what_was_added_since_it_opened_the_index(three: Library) -> None:
    reader = Library.open(three.folder)
    make_picture(three.folder / "3.png", 3)
    three.sync()
    assert reader.counts() == {"image": 4}


def test_an_index_of_the_first_releases_is_searched_and_updated_without_embedding_anything_anew(
    tmp_path: Path, own: Embedder
) -> None:
    for name in ("0.png", "1.png", "2.png", "two.pdf"):
        shutil.copy(OLD / name, tmp_path)
        # As they were then.
        time_ns = 10**18 + (0 if name == "two.pdf" else int(name[0]))
        os.utime(tmp_path / name, ns=(time_ns, time_ns))
    shutil.copytree(OLD / "dot_vlm2vec", tmp_path / ".vlm2vec")
    vectors = np.load(OLD / "vectors.npy")
    library = Library.open(tmp_path, model=own)
    assert (library.info.decoding, paths_of(library)) == (1, ["0.png", "1.png", "2.png", "two.pdf"])
    assert [(hit.path, hit.page) for hit in library.search(vectors[4], 1)] == [("two.pdf", 2)]
    assert library.search(tmp_path / "1.png", 1)[0].path == "1.png"
    assert library.sync() == summary_of(unchanged=4)
    reopened = Library.open(tmp_path, model=own)
    assert (reopened.info.decoding, is_up_to_date(reopened)) == (2, True)
    units = [unit for rows in stored_rows(reopened, *paths_of(reopened)) for unit in rows.units]
    np.testing.assert_array_equal(np.stack([unit.vectors[0] for unit in units]), vectors)
    # From now on, a change is seen that size and time do not show.
    make_picture(tmp_path / "1.png", 200)
    os.utime(tmp_path / "1.png", ns=(10**18 + 1, 10**18 + 1))
    assert reopened.sync() == summary_of(changed=1, unchanged=3, embedded=1)


@pytest.mark.slow
def test_an_index_in_lancedb_is_brought_up_to_date_and_searched_as_one_in_sqlite(three: Library, own: Embedder) -> None:
    make_pdf(three.folder / "a.pdf", 10, 120)
    three.sync()
    other = Library.open(three.folder, model=own, rebuild=True, store="lance")
    assert other.sync() == summary_of(added=4, embedded=5)
    shutil.copy(three.folder / "0.png", three.folder / "copy.png")
    (three.folder / "1.png").unlink()
    os.utime(three.folder / "2.png", ns=(5, 5))
    (three.folder / "bad.png").write_bytes(b"words")
    with Library.open(three.folder, model=own) as reopened:
        found = reopened.sync()
        assert found == summary_of(added=1, removed=1, unchanged=3, failed=found.failed)
        assert reopened.sync(retry=False) == summary_of(unchanged=4, failed_before=1)
        hits = reopened.search(three.folder / "0.png", 4)
    assert (hits[0].path, hits[0].copies) == ("0.png", ("copy.png",))
    assert (three.path / "index.json").exists()
    # As it was kept, so it is made anew.
    assert Library.open(three.folder, model=own, rebuild=True).counts() == {}
    assert (three.path / "index.json").exists()


def test_a_folder_may_be_moved_with_its_index(
    three: Library, own: Embedder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    moved = tmp_path_factory.mktemp("other") / "moved"
    three.folder.rename(moved)
    assert Library.open(moved, model=own).sync() == summary_of(unchanged=3)
    assert Library.open(index=moved / ".vlm2vec").folder == moved.resolve()
    assert Library.open(moved, index=moved / ".vlm2vec").folder == moved


def test_an_index_elsewhere_belongs_to_its_folder(tmp_path: Path, own: Embedder) -> None:
    make_picture(tmp_path / "a" / "0.png", 0)
    (tmp_path / "b").mkdir()
    place = tmp_path / "a" / "index"
    library = Library.open(tmp_path / "a", index=place, model=own)
    assert library.sync() == summary_of(added=1, embedded=1)
    assert Library.open(index=place).folder == (tmp_path / "a").resolve()
    with pytest.raises(IndexFolderError, match=r"was made for the folder .*/a, not for .*/b; "):
        Library.open(tmp_path / "b", index=place)
    assert paths_of(library) == ["0.png"]
    anew = Library.open(tmp_path / "b", index=place, model=own, rebuild=True)
    assert (anew.folder, paths_of(anew)) == (tmp_path / "b", [])
    assert Library.open(index=place).folder == (tmp_path / "b").resolve()


def test_an_index_that_is_linked_into_its_folder_belongs_to_the_folder(tmp_path: Path, own: Embedder) -> None:
    make_picture(tmp_path / "a" / "0.png", 0)
    (tmp_path / "elsewhere" / "index").mkdir(parents=True)
    (tmp_path / "a" / ".vlm2vec").symlink_to(tmp_path / "elsewhere" / "index")
    Library.open(tmp_path / "a", model=own).sync()
    for index in (tmp_path / "a" / ".vlm2vec", tmp_path / "elsewhere" / "index"):
        assert Library.open(tmp_path / "a", index=index, model=own).sync() == summary_of(unchanged=1)
        assert Library.open(index=index).folder == (tmp_path / "a").resolve()


def test_a_folder_with_other_things_is_not_made_an_index(tmp_path: Path, own: Embedder) -> None:
    make_picture(tmp_path / "0.png", 0)
    library = Library.open(tmp_path, index=tmp_path, model=own)
    with pytest.raises(IndexFolderError, match="holds other things than an index"):
        library.sync()
    with pytest.raises(IndexFolderError, match="holds other things than an index"):
        Library.open(tmp_path, index=tmp_path, model=own, rebuild=True)
    assert os.listdir(tmp_path) == ["0.png"]


# What is refused


def test_another_model_is_refused_with_the_ways_out(three: Library, own: Embedder, published: Embedder) -> None:
    with pytest.raises(IndexFolderError) as caught:
        Library.open(three.folder, model=published)
    assert str(caught.value) == (
        f"the index {three.path} was made by the model '{MODEL}' ({own.fingerprint[:8]}), and this is "
        f"'{MODEL}' ({published.fingerprint[:8]}): its weights or settings have changed. "
        "Their vectors cannot be compared; Library.open(folder, rebuild=True) makes it anew; "
        "give another folder as index="
    )


def test_a_model_that_has_changed_under_its_name_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    model = Path(shutil.copytree(MODEL, tmp_path / "model"))
    (model / "vlm2vec.json").write_text(json.dumps({"prompt_style": "qwen2-vl"}))
    make_picture(tmp_path / "files" / "0.png", 0)
    Library.open(tmp_path / "files", model=model).sync()
    (model / "vlm2vec.json").write_text(json.dumps({"prompt_style": "vlm2vec"}))
    library = Library.open(tmp_path / "files", model=model)
    make_picture(tmp_path / "files" / "1.png", 1)
    for use in (lambda: library.search("x"), library.sync, library.load_model):
        with pytest.raises(IndexFolderError, match=r"its weights or settings have changed\. Their vectors"):
            use()
    assert library.counts() == {"image": 1}


def test_a_missing_index_says_how_to_make_one(tmp_path: Path) -> None:
    library = Library.open(tmp_path)
    for use in (lambda: library.search("x"), library.counts, library.verify, lambda: library.remove("a.png")):
        with pytest.raises(IndexFolderError, match=r"there is no index at .*; Library.open\(folder\).sync\(\) makes"):
            use()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "content", [b"", b"words", b"SQLite format 3\0" + bytes(5000)], ids=["empty", "words", "zeros"]
)
def test_a_damaged_index_says_how_to_mend_it_and_is_made_anew_when_told(
    three: Library, own: Embedder, content: bytes
) -> None:
    three.close()
    (three.path / "library.db").write_bytes(content)
    with pytest.raises(IndexFolderError, match=r"Library.open\(folder, rebuild=True\) makes it anew$"):
        Library.open(three.folder, model=own).sync()
    assert (three.path / "library.db").read_bytes() == content
    assert Library.open(three.folder, model=own, rebuild=True).sync() == summary_of(added=3, embedded=3)


def test_wrong_questions_are_refused(three: Library) -> None:
    good = np.ones(three.info.dim, dtype=np.float32)
    for vector in (good[:-1], good * 0, good * np.nan):
        with pytest.raises(InputError, match=f"this index needs {three.info.dim} finite numbers"):
            three.search(vector)
    with pytest.raises(InputError, match="k is 0"):
        three.search(good, 0)
    with pytest.raises(InputError, match="offset is -1"):
        three.search(good, offset=-1)
    with pytest.raises(InputError, match="no kind 'sound': use text, image, video, page"):
        three.search(good, kind="sound")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="k is 0"):
        three.similar("0.png", 0)
    with pytest.raises(InputError, match="k is '3'"):
        three.search(good, "3")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"k is 2\.5"):
        three.search(good, 2.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="where is None: it must be a Filter"):
        Question(good, where=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"kinds": "image"}, "Filter.kinds is 'image': it must be a set"),
        ({"kinds": {"pdf"}}, "no kind 'pdf': use text, image, video, page"),
        ({"types": ".png"}, "Filter.types is '.png': it must be a set"),
        ({"since": "2024"}, "Filter.since is '2024': it must be a number of seconds"),
        ({"until": float("nan")}, "Filter.until is nan: it must be a number of seconds"),
        ({"until": 1e300}, r"Filter.until is 1e\+300: it must be a number of seconds"),
        ({"under": "/home"}, "Filter.under is '/home': it must be relative to the indexed folder"),
        ({"under": "a/../b"}, "Filter.under is 'a/../b': it must be relative to the indexed folder"),
    ],
)
def test_a_filter_that_can_be_true_of_nothing_is_refused(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Filter(**parts)


# Which model


def test_an_index_that_was_made_in_half_precision_is_opened_in_it(tmp_path: Path) -> None:
    model = Path(shutil.copytree(MODEL, tmp_path / "model"))
    (model / "vlm2vec.json").write_text(json.dumps({"prompt_style": "qwen2-vl"}))
    folder = tmp_path / "folder"
    make_picture(folder / "0.png", 0)
    half = Embedder.load(model, dtype="bfloat16")
    Library.open(folder, model=half).sync()
    embedder = Library.open(folder).load_model()
    assert (embedder.dtype, embedder.fingerprint) == ("bfloat16", half.fingerprint)
    reason = r"it computes in float32 here, and did in bfloat16 there; load the model with dtype='bfloat16'\. Their"
    with pytest.raises(IndexFolderError, match=reason):
        Library.open(folder, model=Embedder.load(model))
    assert Library.open(folder, rebuild=True).info.dtype == "float32"


def test_an_index_remembers_its_model_also_when_it_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(shutil.copytree(MODEL, tmp_path / "model"))
    (model / "vlm2vec.json").write_text(json.dumps({"prompt_style": "qwen2-vl"}))
    folder = tmp_path / "folder"
    make_picture(folder / "0.png", 0)
    monkeypatch.chdir(tmp_path)
    with Library.open(folder, model="model") as library:
        library.sync()
    monkeypatch.chdir(folder)
    again = Library.open(folder)
    assert (again.counts(), again.load_model().name) == ({"image": 1}, str(model))
    anew = Library.open(folder, rebuild=True)
    assert (anew.counts(), anew.info.model) == ({}, str(model))


def test_the_bundled_model_is_meant_where_a_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundled").mkdir()
    make_picture(tmp_path / "pictures" / "0.png", 0)
    monkeypatch.chdir(tmp_path)
    library = Library.open("pictures", model="bundled")
    library.sync()
    assert (library.info.model, library.load_model().name) == ("bundled", "bundled")
