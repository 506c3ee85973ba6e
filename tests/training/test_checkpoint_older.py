"""A run that an older version began is continued: tests/data/old_run is of commit 48d8374."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from support.golden_cases import MODEL
from support.places import DATA
from support.train_files import logged, write_config
from vlm2vec.model.embedder import Embedder
from vlm2vec.training.config import read_config
from vlm2vec.training.loop import train

OLD = DATA / "old_run"
CHANGES: dict[str, object] = {
    "out": "run",
    "init": str(MODEL),
    "scratch": None,
    "adapter": {"rank": 2, "dropout": 0.2, "targets": ["q_proj", "v_proj"]},
    "steps": 4,
    "save_every": 2,
    "inputs": {"prompt_style": "vlm2vec", "max_pixels": 3136, "num_frames": 2},
    "loss": {"temperature": 0.1, "learn_temperature": True, "mask_same_label": True},
    "teachers": {"circle": {"vectors": "circle"}},
    "validation": {"path": "image.jsonl", "every": 2, "pool": 8},
}


@pytest.fixture
def folder(folder: Path) -> Path:
    """The old run after two of its four steps, with its sources, teacher and configuration."""
    shutil.copytree(OLD, folder / "run")
    for path in (folder / "run" / "checkpoint-2").glob("*_config.json"):
        # Paths are absolute.
        text = path.read_text("utf-8").replace("@MODEL@", str(MODEL)).replace("@FOLDER@", str(folder))
        path.write_text(text, "utf-8")
    return folder


@pytest.mark.slow
def test_a_run_of_an_older_version_continues_with_its_rows_and_its_dropout(folder: Path) -> None:
    train(read_config(write_config(folder, **CHANGES)), resume=True)
    before = [json.loads(line)["loss"] for line in (OLD / "log.jsonl").read_text("utf-8").splitlines()]
    # Another kind of processor may round otherwise; other dropout moves the losses by a tenth and more.
    assert logged(folder / "run", "loss") == pytest.approx(before, rel=1e-3)
    held = [json.loads(line) for line in (folder / "run" / "validation.jsonl").read_text("utf-8").splitlines()]
    assert [row["step"] for row in held] == [0, 2, 4]


def test_a_checkpoint_of_an_older_version_loads_as_a_model(folder: Path) -> None:
    assert Embedder.load(folder / "run" / "checkpoint-2", device="cpu").encode("a cat").shape == (64,)
