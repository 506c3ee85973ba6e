"""What a killed process was writing is deleted by the next one; what another process is writing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from support.evaluation_runs import Counting, written
from vlm2vec.evaluation.runner import evaluate
from vlm2vec.files import atomic_writer, remove_drafts
from vlm2vec.model.embedder import Embedder
from vlm2vec.tasks.registry import get_tasks
from vlm2vec.vectors.store import TokenStore, VectorStore

WRITING = """
import sys, time
from pathlib import Path
from vlm2vec.files import atomic_writer

with atomic_writer(Path(sys.argv[1])) as stream:
    stream.write(b"begun")
    stream.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


def _writer(path: Path) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", WRITING, str(path)]
    writer = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    return writer


def test_a_draft_goes_when_its_writer_is_dead_and_not_before(tmp_path: Path) -> None:
    with _writer(tmp_path / "a.json") as writer:
        (draft,) = tmp_path.glob("a.json.*.part")
        remove_drafts(tmp_path)
        assert draft.exists()
        writer.send_signal(signal.SIGKILL)
    assert draft.read_bytes() == b"begun"
    remove_drafts(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_whose_folder_is_cleared_again_and_again_loses_nothing(tmp_path: Path) -> None:
    done = threading.Event()

    def clear() -> None:
        while not done.is_set():
            remove_drafts(tmp_path)

    clearing = [threading.Thread(target=clear) for _ in range(2)]
    for thread in clearing:
        thread.start()
    try:
        for number in range(60):
            with atomic_writer(tmp_path / f"{number % 7}.json") as stream:
                stream.write(b"%d" % number)
            assert (tmp_path / f"{number % 7}.json").read_bytes() == b"%d" % number
    finally:
        done.set()
        for thread in clearing:
            thread.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{number}.json" for number in range(7)]


def test_a_writer_that_fails_leaves_nothing_and_closes_all(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_writer(tmp_path / "a") as stream:
            stream.write(b"x")
            raise ValueError("no")

    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(ValueError, match="no"):
            fail()
    with pytest.raises(FileNotFoundError), atomic_writer(tmp_path / "none" / "a"):
        pass
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before


HEX = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    "name",
    [
        "a.part",
        f"{HEX}.part",
        f"a.{HEX}",
        f"a.{HEX[:-1]}.part",
        f"a.{HEX.upper()}.part",
        f"a.{HEX[:16]}.part",
        f"a.{HEX}.part.txt",
    ],
)
def test_what_has_another_name_is_nobodys_draft(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    (tmp_path / f"b.{HEX}.part").write_bytes(b"")
    remove_drafts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    remove_drafts(tmp_path / "none")


@pytest.mark.parametrize(
    ("kind", "vectors"),
    [(VectorStore, np.ones((1, 4), dtype=np.float32)), (TokenStore, [np.ones((2, 4), dtype=np.float32)])],
)
def test_opening_a_store_deletes_the_drafts_in_it(
    tmp_path: Path, kind: type[VectorStore | TokenStore], vectors: object
) -> None:
    kind.open(tmp_path, 4).put([b"k" * 16], vectors)  # type: ignore[arg-type]
    (shard,) = tmp_path.iterdir()
    left = tmp_path / f"{shard.name}.{HEX}.part"
    left.write_bytes(shard.read_bytes()[:20])
    opened = kind.open(tmp_path, 4)
    assert (len(opened), b"k" * 16 in opened) == (1, True)
    assert list(tmp_path.iterdir()) == [shard]


def test_a_run_deletes_what_a_killed_one_was_writing_in_its_whole_folder(published: Embedder, tmp_path: Path) -> None:
    root, out, tasks = written(["GQA"], tmp_path / "data"), tmp_path / "out", get_tasks(names=["GQA"])
    evaluate(Counting(published), tasks, root=root, out=out)
    before = sorted(path for path in out.rglob("*") if path.is_file())
    names = ("scores.json", "run.json", "predictions/GQA.jsonl", "examples/GQA.json", "vectors/4-1.npy")
    for name in names:
        (out / f"{name}.{HEX}.part").write_bytes(b"begun")
    with _writer(out / "predictions" / "GQA.jsonl") as writer:
        evaluate(Counting(published), tasks, root=root, out=out)
        (living,) = out.rglob("*.part")
        assert living.parent == out / "predictions"
        writer.communicate("")
    assert sorted(path for path in out.rglob("*") if path.is_file()) == before
