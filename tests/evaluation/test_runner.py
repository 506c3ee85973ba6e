"""A whole miniature of MMEB-V2, one fixture a task, evaluated end to end with the golden tiny model."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.evaluation_runs import Counting, command, predictions_in, run, scores_in, stored_keys, under_torchrun
from support.places import SUPPORT
from support.task_fixtures import write_fixture
from vlm2vec.errors import ConfigError
from vlm2vec.evaluation.runner import TaskProgress, TaskScore, evaluate
from vlm2vec.evaluation.scores import ModelScores, read_scores
from vlm2vec.items import Item
from vlm2vec.model.embedder import Embedder
from vlm2vec.tasks.data import TaskData
from vlm2vec.tasks.registry import get_tasks, parse_task
from vlm2vec.vectors.keys import content_key

SOME = ["ImageNet-1K", "OK-VQA", "K700", "MSR-VTT", "QVHighlight", "ViDoRe_docvqa"]
CODE = SUPPORT / "evaluate_and_die.py"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotations and media of all tasks."""
    root = tmp_path_factory.mktemp("mmeb")
    for task in get_tasks():
        write_fixture(task, root)
    return root


def test_the_whole_benchmark_runs_twice_with_equal_results_and_encodes_nothing_the_second_time(
    published: Embedder, root: Path, tmp_path: Path
) -> None:
    tasks = get_tasks()
    model = Counting(published)
    told: list[TaskScore] = []
    seen: list[TaskProgress] = []
    first = evaluate(model, tasks, root=root, out=tmp_path, on_score=told.append, on_progress=seen.append)
    assert first.failures == {}
    assert [score.task.name for score in told] == [task.name for task in tasks]
    assert ModelScores.of_document(first.scores.as_document(), "scores") == first.scores
    assert {name for datasets in first.scores.datasets.values() for name in datasets} == {task.name for task in tasks}
    # What occurs in several tasks, or as query and candidate, is embedded once.
    everything = [parse_task(task, root) for task in tasks]
    filled = [item for data in everything for item in [*data.queries, *_filled(data)]]
    different = {(content_key(item), item.instruction) for item in filled}
    assert model.num_encoded == len(different) < len(filled)
    assert (seen[0].tasks_done, seen[-1].tasks_done, seen[-1].num_tasks) == (0, 77, 78)
    assert (seen[-1].items_done, seen[-1].num_items) == (5, 5)
    before = scores_in(tmp_path), predictions_in(tmp_path)
    # Again those of each group that are read otherwise; the scores of the rest stay in the folder.
    again = list({(task.group, task.parser): task for task in tasks}.values())
    second = evaluate(model, again, root=root, out=tmp_path)
    assert model.num_encoded == len(different)
    assert second.scores.datasets == first.scores.datasets == read_scores(tmp_path / "scores.json").datasets
    assert (scores_in(tmp_path), predictions_in(tmp_path)) == before


def _filled(data: TaskData) -> list[Item]:
    return [item for name, item in zip(data.candidate_names, data.candidates, strict=True) if name not in data.empty]


def test_scores_are_those_of_the_models_own_vectors(published: Embedder, root: Path, tmp_path: Path) -> None:
    """The same ranking as a plain product of `encode`, for a local task and a global one."""
    found = evaluate(Counting(published), get_tasks(names=["ImageNet-1K", "MSR-VTT"]), root=root, out=tmp_path)
    for name, modality in (("ImageNet-1K", "image"), ("MSR-VTT", "video")):
        (task,) = get_tasks(names=[name])
        data = parse_task(task, root)
        scores = published.encode(data.queries) @ published.encode(list(data.candidates)).T
        hits = []
        for row, query in enumerate(data.query_ids):
            pool = data.candidate_names if data.pools is None else data.pools[row]
            best = max(pool, key=lambda one: scores[row, data.candidate_names.index(one)])
            hits.append(best in data.relevant[query])
        assert found.scores.datasets[modality][name].metrics["hit@1"] == np.mean(hits)
        lines = [json.loads(line) for line in (tmp_path / "predictions" / f"{name}.jsonl").read_text().splitlines()]
        assert [line["query"] for line in lines] == list(data.query_ids)
        assert [line["ranked"][0][0] in line["relevant"] for line in lines] == hits


@pytest.mark.slow
def test_killed_at_any_item_and_started_again_it_gives_the_same_report(root: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run([sys.executable, str(CODE), str(root), str(whole), "0", *SOME], tmp_path).returncode == 0
    num_all = len(stored_keys(whole))
    stored = 0
    # Each run dies when it has been given so many vectors, in the middle of a task.
    for after in (2, 9):
        done = run([sys.executable, str(CODE), str(root), str(killed), str(after), *SOME], tmp_path)
        assert done.returncode == -signal.SIGKILL, done.stderr
        now = len(stored_keys(killed))
        assert now == stored + after - 1
        stored = now
    last = run([sys.executable, str(CODE), str(root), str(killed), "0", *SOME], tmp_path)
    assert last.stdout == f"{num_all - stored}\n", last.stderr
    assert scores_in(killed) == scores_in(whole)
    assert predictions_in(killed) == predictions_in(whole)
    assert set(stored_keys(killed).values()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.torture)])
def test_several_processes_give_the_report_of_one_and_share_the_work(root: Path, tmp_path: Path, ranks: int) -> None:
    one, several = tmp_path / "one", tmp_path / "several"
    options = ("--tasks", ",".join(SOME))
    alone = run(command(root, one, *options), tmp_path)
    assert alone.returncode == 0, alone.stderr
    together = run(command(root, several, *options, launcher=under_torchrun(ranks)), tmp_path)
    assert together.returncode == 0, together.stderr
    assert scores_in(several) == scores_in(one)
    assert together.stdout == alone.stdout
    assert [
        [line.split('"relevant"')[1] for line in text.splitlines()] for text in predictions_in(several).values()
    ] == [[line.split('"relevant"')[1] for line in text.splitlines()] for text in predictions_in(one).values()]
    assert stored_keys(several) == stored_keys(one)
    assert set(stored_keys(several).values()) == {1}
    assert len(list((several / "vectors").iterdir())) > len(list((one / "vectors").iterdir()))


@pytest.mark.slow
def test_a_task_that_fails_is_named_and_the_others_go_on(root: Path, tmp_path: Path) -> None:
    broken = tmp_path / "data"
    for task in get_tasks(names=SOME):
        write_fixture(task, broken)
    gone = broken / "image-tasks" / "ImageNet-1K" / "red.png"
    gone.unlink()
    damaged = broken / "video-tasks/frames/video_ret/MSR-VTT/video_0/frame_0001.png"
    for frame in damaged.parent.iterdir():
        frame.write_bytes(b"no picture")
    out = tmp_path / "out"
    done = run(command(broken, out, "--tasks", ",".join(SOME)), tmp_path)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3, done.stderr
    assert errors[0].startswith("error: ImageNet-1K: ")
    assert str(gone) in errors[0]
    assert errors[1].startswith("error: MSR-VTT: MSR-VTT: candidate 'video_0': ")
    assert str(damaged) in errors[1]
    assert errors[2] == "error: 2 of 6 tasks failed and have no score"
    assert [list(datasets) for datasets in scores_in(out)["metrics"].values()] == [
        ["OK-VQA"],
        ["K700", "QVHighlight"],
        ["ViDoRe_docvqa"],
    ]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_terminal_shows_a_bar_for_the_run_and_one_for_the_task(root: Path, tmp_path: Path) -> None:
    screen, terminal = pty.openpty()
    arguments = command(root, tmp_path / "out", "--tasks", "GQA,MSVD")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=terminal, env=environment) as done:
        os.close(terminal)
        shown = b""
        # A terminal whose other side has been closed is an error to read.
        with contextlib.suppress(OSError):
            while part := os.read(screen, 1 << 16):
                shown += part
    os.close(screen)
    assert done.returncode == 0
    words = shown.decode()
    assert re.search(r"evaluate .*\b1/2\b", words)
    assert re.search(r"MSVD .*\d:\d\d:\d\d", words)


def test_a_folder_gathers_the_tasks_of_one_model_and_no_other(
    published: Embedder, own: Embedder, root: Path, tmp_path: Path
) -> None:
    def measured(model: Embedder, *names: str, limit: int | None = None) -> list[str]:
        tasks = get_tasks(names=names)
        found = evaluate(Counting(model), tasks, root=root, out=tmp_path, limit=limit)
        return [name for datasets in found.scores.datasets.values() for name in datasets]

    assert measured(published, "QVHighlight") == ["QVHighlight"]
    assert measured(published, "ImageNet-1K") == ["ImageNet-1K", "QVHighlight"]
    with pytest.raises(ConfigError, match=r"holds an evaluation with fingerprint .* give another folder as out="):
        measured(own, "ImageNet-1K")
    with pytest.raises(ConfigError, match=r"holds an evaluation with limit null, not 1; give another folder"):
        measured(published, "ImageNet-1K", limit=1)


def test_a_limit_is_kept_in_the_score_file(published: Embedder, root: Path, tmp_path: Path) -> None:
    found = evaluate(Counting(published), get_tasks(names=["GQA"]), root=root, out=tmp_path, limit=2)
    assert found.scores.datasets["image"]["GQA"].num_queries == 2
    assert read_scores(tmp_path / "scores.json").limit == 2


def test_a_run_needs_tasks_of_one_benchmark_and_its_data(published: Embedder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="these are of: none"):
        evaluate(published, [], out=tmp_path)
    with pytest.raises(ConfigError, match="the data of mmeb-v2 are not in this package"):
        evaluate(published, get_tasks(names=["GQA"]), out=tmp_path)
