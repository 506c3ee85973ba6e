"""What goes wrong in one of several processes, or in one task, leaves all the others in step."""

from __future__ import annotations

import re
from pathlib import Path
from threading import current_thread

import pytest

from support.evaluation_runs import Counting, Together, command, in_threads, names_in, run, under_torchrun, written
from vlm2vec.errors import StorageError
from vlm2vec.evaluation.runner import Evaluation, evaluate
from vlm2vec.model.backbone import Vectors
from vlm2vec.model.embedder import Embedder
from vlm2vec.tasks.registry import get_tasks
from vlm2vec.vectors.store import VectorStore

TASKS = ["ImageNet-1K", "GQA", "MSR-VTT"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return written(TASKS, tmp_path / "data")


def test_a_full_disk_in_one_process_fails_one_task_in_all(
    published: Embedder, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, second, num_failed = VectorStore.put, set[object](), 0

    def full_once(store: VectorStore, keys: list[bytes], vectors: Vectors) -> None:
        nonlocal num_failed
        if current_thread() in second and not num_failed:
            num_failed += 1
            raise StorageError("cannot write vectors: full")
        put(store, keys, vectors)

    monkeypatch.setattr(VectorStore, "put", full_once)

    def work(processes: Together) -> Evaluation:
        if processes.rank == 1:
            second.add(current_thread())
        out = tmp_path / "out"
        return evaluate(Counting(published), get_tasks(names=TASKS), root=root, out=out, processes=processes)

    first, other = in_threads(work)
    for failures in (first.failures, other.failures):
        assert {name: str(error) for name, error in failures.items()} == {"ImageNet-1K": "cannot write vectors: full"}
    assert first.scores == other.scores
    assert names_in(tmp_path / "out") == {"GQA", "MSR-VTT"}
    again = evaluate(Counting(published), get_tasks(names=TASKS), root=root, out=tmp_path / "out")
    assert again.failures == {}
    alone = evaluate(Counting(published), get_tasks(names=TASKS), root=root, out=tmp_path / "alone")
    assert again.scores.datasets == alone.scores.datasets


@pytest.mark.slow
def test_a_missing_picture_under_torchrun_fails_its_task_and_the_exit_code(root: Path, tmp_path: Path) -> None:
    gone = root / "image-tasks" / "ImageNet-1K" / "red.png"
    gone.unlink()
    out = tmp_path / "out"
    arguments = command(root, out, "--tasks", ",".join(TASKS), launcher=under_torchrun(2))
    done = run(arguments, tmp_path)
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2, done.stderr
    assert re.match(rf"error: ImageNet-1K: .*{re.escape(str(gone))}", errors[0])
    assert errors[1] == "error: 1 of 3 tasks failed and have no score"
    # Whatever torchrun says of a process that has ended with 1 comes afterwards.
    assert "Traceback" not in done.stderr[: done.stderr.index(errors[1])]
    assert "vlm2vec/evaluation" not in done.stderr
    assert names_in(out) == {"GQA", "MSR-VTT"}
    assert "GQA" in done.stdout
