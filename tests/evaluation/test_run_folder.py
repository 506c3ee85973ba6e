"""Several runs into one folder: they add to one another, never mix, and leave no score that does not hold any more."""

from __future__ import annotations

import json
import re
from pathlib import Path
from threading import Event, Thread

import pytest
from filelock import FileLock

from support.evaluation_runs import Counting, Together, in_threads, names_in, scores_in, written
from support.task_fixtures import write_fixture
from vlm2vec.errors import BusyError, ConfigError, DataError, StorageError
from vlm2vec.evaluation.run_folder import RunFolder, RunSettings, read_examples
from vlm2vec.evaluation.runner import Evaluation, TaskScore, evaluate
from vlm2vec.model.embedder import Embedder
from vlm2vec.tasks.registry import get_tasks

TASKS = ["ImageNet-1K", "GQA", "MSR-VTT"]
SETTINGS = RunSettings(
    benchmark="mmeb-v2", model="tiny", fingerprint="f", limit=None, root=None, late_interaction=False
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return written(TASKS, tmp_path / "data")


def _settings(out: Path) -> dict[str, object]:
    settings: dict[str, object] = json.loads((out / "run.json").read_text())
    return settings


def test_two_runs_at_once_keep_each_others_scores(published: Embedder, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    others: list[Evaluation] = []

    def video_meanwhile(score: TaskScore) -> None:
        if not others:
            others.append(evaluate(Counting(published), get_tasks(names=["MSR-VTT"]), root=root, out=out))

    images = get_tasks(names=["ImageNet-1K", "GQA"])
    found = evaluate(Counting(published), images, root=root, out=out, on_score=video_meanwhile)
    assert others[0].scores.datasets["video"].keys() == {"MSR-VTT"}
    assert names_in(out) == set(TASKS)
    assert {name for of_modality in found.scores.datasets.values() for name in of_modality} == set(TASKS)


def test_threads_that_write_at_once_lose_nothing(tmp_path: Path, published: Embedder, root: Path) -> None:
    (one,) = get_tasks(names=["GQA"])
    scores = evaluate(Counting(published), [one], root=root, out=tmp_path / "some").scores.datasets["image"]["GQA"]
    tasks = get_tasks()[::3]

    def work(processes: Together) -> None:
        folder = RunFolder.claim(tmp_path / "out", SETTINGS)
        for task in tasks[processes.rank :: processes.size]:
            folder._change(task.name, scores)

    assert in_threads(work, 4) == [None] * 4
    assert names_in(tmp_path / "out") == {task.name for task in tasks}
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir() if path.suffix == ".part") == []


def test_a_lock_that_is_held_too_long_is_named(tmp_path: Path) -> None:
    held, done = Event(), Event()

    def hold() -> None:
        with FileLock(tmp_path / "scores.lock"):
            held.set()
            done.wait()

    holder = Thread(target=hold)
    holder.start()
    held.wait()
    try:
        with pytest.raises(
            BusyError, match=r"^another run has held .*scores\.lock for 0 s; wait for it to end, or stop"
        ):
            RunFolder.claim(tmp_path, SETTINGS, patience_s=0.1)
    finally:
        done.set()
        holder.join()


def test_a_task_that_fails_again_keeps_nothing_of_what_it_gave_before(
    published: Embedder, root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def run(name: str) -> Evaluation:
        return evaluate(Counting(published), get_tasks(names=[name]), root=root, out=out)

    run("ImageNet-1K")
    run("GQA")
    (root / "image-tasks" / "ImageNet-1K" / "red.png").unlink()
    assert list(run("ImageNet-1K").failures) == ["ImageNet-1K"]
    assert names_in(out) == {"GQA"}
    assert [path.name for path in (out / "predictions").iterdir()] == ["GQA.jsonl"]
    assert read_examples(out).keys() == {"GQA"}
    for picture in (root / "image-tasks" / "GQA").iterdir():
        picture.unlink()
    found = run("GQA")
    assert list(found.failures) == ["GQA"]
    assert not any(found.scores.datasets.values())
    assert not (out / "scores.json").exists()
    assert list((out / "predictions").iterdir()) == list((out / "examples").iterdir()) == []


def test_scores_of_two_data_roots_never_mix(published: Embedder, root: Path, tmp_path: Path) -> None:
    tasks, other = get_tasks(names=["GQA"]), tmp_path / "other"
    write_fixture(tasks[0], other)
    evaluate(Counting(published), tasks, root=root, out=tmp_path / "out")
    assert _settings(tmp_path / "out")["root"] == str(root.resolve())
    # The same folder by another path.
    evaluate(Counting(published), tasks, root=root / ".." / "data", out=tmp_path / "out")
    message = re.escape(f"holds an evaluation with root {json.dumps(str(root))}, not {json.dumps(str(other))}; give an")
    with pytest.raises(ConfigError, match=message):
        evaluate(Counting(published), tasks, root=other, out=tmp_path / "out")


def test_a_score_file_of_which_nothing_says_what_it_is_of_is_not_taken_over(
    published: Embedder, root: Path, tmp_path: Path
) -> None:
    tasks = get_tasks(names=["GQA"])
    evaluate(Counting(published), tasks, root=root, out=tmp_path / "other")
    (tmp_path / "out").mkdir()
    before = (tmp_path / "other" / "scores.json").read_bytes()
    (tmp_path / "out" / "scores.json").write_bytes(before)
    with pytest.raises(
        DataError, match=r"holds a scores\.json and no run\.json that says whose it is; give another folder as out="
    ):
        evaluate(Counting(published), tasks, root=root, out=tmp_path / "out")
    assert (tmp_path / "out" / "scores.json").read_bytes() == before


def test_the_same_model_by_another_name_goes_on(published: Embedder, root: Path, tmp_path: Path) -> None:
    tasks, model = get_tasks(names=["GQA"]), Counting(published)
    evaluate(model, tasks, root=root, out=tmp_path / "out")
    again = Counting(published)
    again.name = "./tiny/"
    evaluate(again, tasks, root=root, out=tmp_path / "out")
    assert again.num_encoded == 0


def test_a_model_and_a_root_may_have_names_that_are_no_text(tmp_path: Path) -> None:
    odd = SETTINGS.model_copy(update={"model": "m\udcff", "root": "/data\udcff"})
    RunFolder.claim(tmp_path, odd)
    assert RunFolder.claim(tmp_path, RunSettings(**odd.model_dump())).settings == odd


def test_what_is_wrong_with_all_tasks_costs_no_score_and_claims_no_folder(
    published: Embedder, root: Path, tmp_path: Path
) -> None:
    tasks, out = get_tasks(names=["GQA"]), tmp_path / "out"
    evaluate(Counting(published), tasks, root=root, out=out)
    root.rename(tmp_path / "away")
    with pytest.raises(
        ConfigError, match=r"there is no folder .*data with the data of mmeb-v2; give another folder as root="
    ):
        evaluate(Counting(published), tasks, root=root, out=out)
    assert names_in(out) == {"GQA"}
    with pytest.raises(ConfigError, match="limit is 0: ask at least one query of each task"):
        evaluate(Counting(published), tasks, root=tmp_path / "away", out=tmp_path / "new", limit=0)
    assert not (tmp_path / "new").exists()


def test_an_error_of_the_caller_is_no_failure_of_the_task(published: Embedder, root: Path, tmp_path: Path) -> None:
    def broken(score: TaskScore) -> None:
        raise RuntimeError("stderr is closed")

    with pytest.raises(RuntimeError, match="stderr is closed"):
        evaluate(Counting(published), get_tasks(names=["GQA"]), root=root, out=tmp_path / "out", on_score=broken)
    assert names_in(tmp_path / "out") == {"GQA"}


def test_packaged_data_have_no_root(published: Embedder, tmp_path: Path) -> None:
    evaluate(Counting(published), get_tasks("mmeb-mini", names=["scene-crop"]), out=tmp_path, limit=1)
    assert _settings(tmp_path)["root"] is None


def test_the_first_process_alone_writes_the_results(
    published: Embedder, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, claims = RunFolder.claim, list[Path]()

    def counted(path: Path, settings: RunSettings) -> RunFolder:
        claims.append(path)
        return claim(path, settings)

    monkeypatch.setattr(RunFolder, "claim", counted)
    tasks = get_tasks(names=TASKS)
    found = in_threads(
        lambda processes: (
            evaluate(Counting(published), tasks, root=root, out=tmp_path / "out", processes=processes).scores.datasets
        )
    )
    assert claims == [tmp_path / "out"]
    assert found[0] == found[1]
    assert names_in(tmp_path / "out") == set(TASKS)
    alone = evaluate(Counting(published), tasks, root=root, out=tmp_path / "alone").scores.datasets
    assert found[0] == alone
    assert scores_in(tmp_path / "out") == scores_in(tmp_path / "alone")


def test_an_error_of_the_first_process_alone_is_every_processs(published: Embedder, root: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("no folder")
    tasks = get_tasks(names=TASKS)

    def work(processes: Together) -> Evaluation:
        return evaluate(Counting(published), tasks, root=root, out=tmp_path / "out", processes=processes)

    errors: list[object] = list(in_threads(work))
    assert [type(error) for error in errors] == [StorageError] * 2
    assert all(str(error).startswith(f"cannot write {tmp_path / 'out'}: file exists; give") for error in errors)


def test_processes_with_different_models_are_refused(published: Embedder, root: Path, tmp_path: Path) -> None:
    def work(processes: Together) -> Evaluation:
        model = Counting(published)
        model.fingerprint = f"print {processes.rank}"
        return evaluate(model, get_tasks(names=TASKS), root=root, out=tmp_path / "out", processes=processes)

    errors: list[object] = list(in_threads(work))
    assert [type(error) for error in errors] == [ConfigError] * 2
    assert "models of different fingerprints (print 0, print 1)" in str(errors[0])
    assert not (tmp_path / "out").exists()
