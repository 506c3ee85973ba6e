"""What an index promises over time: it survives whatever ends a run, may be moved, and refuses what does not fit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.golden_cases import MODEL
from support.index_folders import make_picture, paths_of, summary_of, vector_of
from vlm2vec.errors import BusyError, IndexFolderError, InputError
from vlm2vec.items import Item
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.index import Index
from vlm2vec.search.lock import writing
from vlm2vec.search.searching import open_index, search
from vlm2vec.search.table import Row, UnitTable

# What survives


def test_a_killed_run_leaves_a_usable_index_and_the_next_one_continues(tmp_path: Path, own: Embedder) -> None:
    for number in range(600):
        make_picture(tmp_path / f"{number}.png", number)
    script = f"""
from pathlib import Path
from vlm2vec import Embedder, Index
embedder = Embedder.load({str(MODEL)!r}, prompt_style="qwen2-vl", device="cpu")
index = Index.create(Path({str(tmp_path)!r}), embedder=embedder)
index.add(embedder=embedder, progress=lambda done, total: print(done, flush=True))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 300:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    index = Index.open(tmp_path)
    done = index.counts()["image"]
    assert 256 <= done < 600
    assert len(index.search(vector_of(index, paths_of(index)[0]), 5)) == 5
    assert index.add(embedder=own) == summary_of(added=600 - done, unchanged=done, embedded=600 - done)
    assert index.counts() == {"image": 600}


def test_an_interrupted_run_keeps_what_is_done(tmp_path: Path, own: Embedder) -> None:
    for number in range(40):
        make_picture(tmp_path / f"{number}.png", number)
    index = Index.create(tmp_path, embedder=own)

    def stop(done: int, total: int) -> None:
        assert total == 40
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.add(embedder=own, progress=stop)
    assert index.counts() == {"image": 7}


def test_only_one_writer_at_a_time(three: Index, own: Embedder) -> None:
    with writing(three.path):
        with pytest.raises(BusyError, match=f"is being written by process {os.getpid()}; wait"):
            three.add(embedder=own)
        assert len(three.search(vector_of(three, "0.png"), 3)) == 3
    assert three.add(embedder=own) == summary_of(unchanged=3)


def test_another_process_sees_what_was_added_since_it_opened_the_index(three: Index, own: Embedder) -> None:
    reader = Index.open(three.folder)
    make_picture(three.folder / "3.png", 3)
    three.add(embedder=own)
    assert reader.counts() == {"image": 4}


def test_many_commits_are_merged(tmp_path: Path) -> None:
    table = UnitTable.create(tmp_path, dim=2, fingerprint="f")
    for number in range(60):
        vector = np.array([1, 0], dtype=np.float32)
        table.replace([], [Row(f"{number}.png", "image", None, None, 1, "h", 1, 1, vector)])
    assert len(list((tmp_path / "units.lance" / "data").iterdir())) == 60
    table.tidy()
    reopened = UnitTable.open(tmp_path, dim=2, fingerprint="f")
    assert reopened.count("image") == 60
    reopened.tidy()
    assert len(reopened.files()) == 60


def test_a_folder_may_be_moved_with_its_index(
    three: Index, own: Embedder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    moved = tmp_path_factory.mktemp("other") / "moved"
    three.folder.rename(moved)
    assert Index.open(moved).add(embedder=own) == summary_of(unchanged=3)
    assert Index.open(path=moved / ".vlm2vec").folder == moved.resolve()


def test_an_index_elsewhere_belongs_to_its_folder(tmp_path: Path, own: Embedder) -> None:
    make_picture(tmp_path / "a" / "0.png", 0)
    (tmp_path / "b").mkdir()
    place = tmp_path / "a" / "index"
    index = Index.create(tmp_path / "a", embedder=own, path=place)
    assert index.add(embedder=own) == summary_of(added=1, embedded=1)
    assert Index.open(path=place).folder == (tmp_path / "a").resolve()
    with pytest.raises(IndexFolderError, match=r"was made for the folder .*/a, not for .*/b; "):
        Index.open(tmp_path / "b", path=place)


def test_a_folder_with_other_things_is_not_made_an_index(tmp_path: Path, own: Embedder) -> None:
    make_picture(tmp_path / "0.png", 0)
    with pytest.raises(IndexFolderError, match="holds other things than an index"):
        Index.create(tmp_path, embedder=own, path=tmp_path)
    assert os.listdir(tmp_path) == ["0.png"]


# What is refused


def test_another_model_is_refused_with_the_ways_out(three: Index, published: Embedder) -> None:
    with pytest.raises(IndexFolderError) as caught:
        three.add(embedder=published)
    assert str(caught.value) == (
        f"the index {three.path} was made by the model '{MODEL}' ({three.fingerprint[:8]}), and this is "
        f"'{MODEL}' ({published.fingerprint[:8]}): its weights or settings have changed. "
        "Their vectors cannot be compared. Make the index anew with 'vlm2vec index FOLDER "
        "--rebuild', keep a second one elsewhere with --index PATH"
    )
    with pytest.raises(IndexFolderError, match="cannot be compared"):
        search(three, published, Item(text="x"))


def test_a_missing_index_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(IndexFolderError, match=r"there is no index at .*; 'vlm2vec index FOLDER' makes one"):
        Index.open(tmp_path)


@pytest.mark.parametrize("damage", ["json", "fields", "table", "manifests", "data"])
def test_a_damaged_index_says_how_to_mend_it_and_can_be_made_anew(three: Index, own: Embedder, damage: str) -> None:
    info, table = three.path / "index.json", three.path / "units.lance"
    if damage == "json":
        info.write_text("{")
    elif damage == "fields":
        info.write_text(json.dumps({"format": 1, "model": 3}))
    elif damage == "table":
        shutil.rmtree(table)
    else:
        for path in (table / {"manifests": "_versions", "data": "data"}[damage]).iterdir():
            os.truncate(path, 40)
    with pytest.raises(IndexFolderError, match=r"'vlm2vec index FOLDER --rebuild' makes it anew$"):
        Index.open(three.folder).search(np.ones(three.dim, dtype=np.float32))
    assert Index.create(three.folder, embedder=own).add(embedder=own) == summary_of(added=3, embedded=3)


def test_an_index_of_a_newer_format_is_refused(three: Index) -> None:
    info = json.loads((three.path / "index.json").read_text())
    (three.path / "index.json").write_text(json.dumps(info | {"format": 2}))
    with pytest.raises(IndexFolderError, match="has format 2, and this version of vlm2vec knows up to 1; use a newer"):
        Index.open(three.folder)


def test_wrong_questions_are_refused(three: Index) -> None:
    good = np.ones(three.dim, dtype=np.float32)
    for vector in (good[:-1], good * 0, good * np.nan):
        with pytest.raises(InputError, match=f"this index needs {three.dim} finite numbers"):
            three.search(vector)
    with pytest.raises(InputError, match="k is 0"):
        three.search(good, 0)
    with pytest.raises(InputError, match="no kind 'text': use image, video, page"):
        three.search(good, kind="text")  # type: ignore[arg-type]


def test_an_index_that_was_made_in_half_precision_is_opened_in_it(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(MODEL, model)
    (model / "vlm2vec.json").write_text(json.dumps({"prompt_style": "qwen2-vl"}))
    folder = tmp_path / "folder"
    make_picture(folder / "0.png", 0)
    half = Embedder.load(model, dtype="bfloat16")
    Index.create(folder, embedder=half).add(embedder=half)
    index, embedder = open_index(folder)
    assert (index.dtype, embedder.dtype, embedder.fingerprint) == ("bfloat16", "bfloat16", half.fingerprint)
    reason = r"it computes in float32 here, and did in bfloat16 there.* or load the model with dtype='bfloat16'"
    with pytest.raises(IndexFolderError, match=reason):
        index.check_model(Embedder.load(model))
    # What was made before the index said so.
    info = json.loads((index.path / "index.json").read_text())
    del info["dtype"]
    (index.path / "index.json").write_text(json.dumps(info))
    assert Index.open(folder).dtype is None
    assert open_index(folder, rebuild=True)[1].dtype == "float32"


def test_opening_makes_an_index_once_and_remembers_its_model(tmp_path: Path, own: Embedder) -> None:
    model = tmp_path / "model"
    shutil.copytree(MODEL, model)
    (model / "vlm2vec.json").write_text(json.dumps({"prompt_style": "qwen2-vl"}))
    folder = tmp_path / "folder"
    make_picture(folder / "0.png", 0)
    index, embedder = open_index(folder, model=str(model))
    index.add(embedder=embedder)
    again, same = open_index(folder)
    assert (again.counts(), same.name, same.fingerprint) == ({"image": 1}, str(model), embedder.fingerprint)
    anew, _ = open_index(folder, rebuild=True)
    assert (anew.counts(), anew.model) == ({}, str(model))
