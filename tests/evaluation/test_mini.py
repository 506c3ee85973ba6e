"""`vlm2vec evaluate` with nothing said: mmeb-mini, the bundled model, and what is printed beside it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.evaluation_runs import run
from support.places import ROOT
from vlm2vec.cli.app import app
from vlm2vec.evaluation.scores import read_scores
from vlm2vec.tasks.registry import get_tasks, packaged_root

BESIDE = ["chance", "12x12 pixels", "untrained"]
NOTE = "12x12 pixels: texts have no pixels, so it has scores only where queries and candidates are pictures or clips"


def _means(printed: str) -> dict[str, list[str]]:
    """Number of datasets, overall, and the modalities of each model in the first table."""
    rows = re.findall(r"^(\w[\w ]*?) +(\d+/23) +(\S+) +(\S+) +(\S+) +(\S+)$", printed, re.MULTILINE)
    return {name: list(cells) for name, *cells in rows}


@pytest.mark.slow
def test_without_arguments_it_measures_the_bundled_model_beside_three_that_know_nothing(tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "vlm2vec", "evaluate"], tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    means = _means(done.stdout)
    assert list(means) == ["bundled", *BESIDE]
    assert {name: cells[0] for name, cells in means.items()} == {
        "bundled": "23/23", "chance": "23/23", "12x12 pixels": "4/23", "untrained": "23/23",
    }  # fmt: skip
    overall = {name: cells[1] for name, cells in means.items()}
    # Of too few tasks there is no mean to compare.
    assert means["12x12 pixels"][1:] == ["-"] * 4
    assert float(overall["bundled"]) > float(overall["untrained"])
    assert float(overall["bundled"]) > float(overall["chance"])
    recorded = json.loads((ROOT / "benchmarks" / "results" / "mini.json").read_text("utf-8"))["rows"][0]
    # Other processors round otherwise, which moves some ranks.
    assert float(overall["bundled"]) == pytest.approx(recorded["means"]["overall"], abs=0.5)
    assert NOTE in done.stdout
    assert "- where more than half of the datasets of bundled are missing: 12x12 pixels" in done.stdout
    table = done.stdout.split("\n\n")[-1].splitlines()
    assert table[0].split() == ["dataset", "group", "bundled", "chance", "12x12", "pixels", "untrained"]
    assert [line.split()[0] for line in table[1:]] == [task.name for task in get_tasks("mmeb-mini")]
    out = tmp_path / "evaluations" / "mmeb-mini" / "bundled"
    assert len(read_scores(out / "scores.json").datasets["video"]) == 8
    assert (out / "report.html").is_file()


@pytest.mark.slow
def test_some_tasks_are_compared_with_the_same_tasks(tmp_path: Path) -> None:
    options = ("--tasks", "which-way,scene-crop,skin-tone", "--out", "out")
    done = run([sys.executable, "-m", "vlm2vec", "evaluate", *options], tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    means = _means(done.stdout)
    assert {name: cells[0] for name, cells in means.items()} == {
        "bundled": "3/23", "chance": "3/23", "12x12 pixels": "2/23", "untrained": "3/23",
    }  # fmt: skip
    root = packaged_root("mmeb-mini")
    assert root is not None
    chance = read_scores(root / "baselines" / "chance.json").datasets
    expected = [chance["image"]["skin-tone"], chance["image"]["scene-crop"], chance["video"]["which-way"]]
    assert means["chance"][1] == f"{sum(100 * one.metrics['hit@1'] for one in expected) / 3:.2f}*"
    # Both of the pictures, and none of the clips.
    assert means["12x12 pixels"][2:] == [f"{means['12x12 pixels'][1]}", "-", "-"]
    table = done.stdout.split("\n\n")[-1].splitlines()
    assert [line.split()[0] for line in table[1:]] == ["skin-tone", "scene-crop", "which-way"]


@pytest.mark.slow
def test_a_part_of_the_queries_is_not_compared_with_baselines_of_all(tmp_path: Path) -> None:
    options = ("--tasks", "sentence-to-clip", "--limit", "4")
    done = run([sys.executable, "-m", "vlm2vec", "evaluate", *options], tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(_means(done.stdout)) == ["bundled"]
    assert (
        "only the first 4 queries of each dataset, and of candidates that come with queries only theirs" in done.stdout
    )
    assert (tmp_path / "evaluations" / "mmeb-mini" / "bundled-limit4" / "scores.json").is_file()


def test_there_is_no_option_that_would_be_ignored() -> None:
    done = CliRunner().invoke(app, ["evaluate", "--num-frames", "4"])
    assert done.exit_code == 2
    assert "No such option" in done.stderr
