"""A family that is registered by one row of FAMILIES does every job, with no line changed elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import PIL.Image
import pytest

from support.evaluation_runs import names_in, written
from support.toy_family import make_toy
from support.train_files import write_rows
from vlm2vec.evaluation.runner import evaluate
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.library import Library
from vlm2vec.tasks.registry import get_tasks
from vlm2vec.training.mining import mine_file

TASKS = ["ImageNet-1K", "MSR-VTT"]


@pytest.fixture
def toy(tmp_path: Path) -> Embedder:
    return Embedder.load(make_toy(tmp_path / "toy"))


def test_it_indexes_and_searches_a_folder(toy: Embedder, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for colour in ("red", "darkred", "blue", "lime"):
        PIL.Image.new("RGB", (40, 30), colour).save(folder / f"{colour}.png")
    with Library.open(folder, model=toy) as library:
        summary = library.sync()
        assert (summary.added, summary.embedded) == (4, 4)
        hits = library.search(PIL.Image.new("RGB", (30, 40), (250, 0, 0)), 2)
        assert [hit.path for hit in hits] == ["red.png", "darkred.png"]
        assert library.sync().embedded == 0


@pytest.mark.parametrize("late", [False, True])
def test_it_is_evaluated_by_vectors_of_items_and_of_tokens(toy: Embedder, tmp_path: Path, late: bool) -> None:
    root, out = written(TASKS, tmp_path / "data"), tmp_path / "out"
    found = evaluate(toy, get_tasks(names=TASKS), root=root, out=out, late_interaction=late)
    assert found.failures == {}
    assert names_in(out) == set(TASKS)


def test_it_finds_hard_negatives(toy: Embedder, tmp_path: Path) -> None:
    texts = ["a red car on a road", "a red bus on a road", "two boats", "green apples in this basket"]
    rows = write_rows(tmp_path / "rows.jsonl", [{"query": text[2:], "positive": text} for text in texts])
    report = mine_file(rows, tmp_path / "mined.jsonl", toy, vectors=tmp_path / "vectors", num_negatives=1)
    assert (report.rows, report.negatives) == (4, 4)
    mined = [json.loads(line) for line in (tmp_path / "mined.jsonl").read_text("utf-8").splitlines()]
    assert [row["negatives"] for row in mined[:2]] == [[texts[1]], [texts[0]]]
