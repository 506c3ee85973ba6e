"""What a run tells: log, trackers, curves, model card."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest

from support.train_files import run_of, write_config
from vlm2vec.errors import MissingError
from vlm2vec.model.embedder import Embedder
from vlm2vec.training.config import read_config
from vlm2vec.training.loop import train


@pytest.mark.slow
def test_the_log_holds_every_step_and_the_folder_says_how_it_was_made(folder: Path) -> None:
    reports = run_of(write_config(folder, steps=3, save_every=2))
    lines = [json.loads(line) for line in (folder / "out" / "log.jsonl").read_text().splitlines()]
    assert lines == [report._asdict() for report in reports]
    made = json.loads((folder / "out" / "train_config.json").read_text())
    assert (made["steps"], made["data"]["image"]["weight"]) == (3, 3.0)
    assert Embedder.load(folder / "out" / "checkpoint-2", device="cpu").dim == 64


def test_the_log_tells_the_loss_of_each_source(folder: Path) -> None:
    train(read_config(write_config(folder, steps=2, sub_batch=0)))
    rows = [json.loads(line) for line in (folder / "out" / "log.jsonl").read_text().splitlines()]
    for row in rows:
        assert set(row["source_losses"]) == {"image", "video"}
        # Six rows of one and two of the other; the objective is their mean.
        mean = (6 * row["source_losses"]["image"] + 2 * row["source_losses"]["video"]) / 8
        assert row["loss"] == pytest.approx(mean, rel=1e-5)


@pytest.mark.slow
def test_the_card_names_data_and_scores_and_the_curves_are_a_picture(folder: Path) -> None:
    config = write_config(folder, steps=4, validation={"path": "image.jsonl", "every": 2, "pool": 8})
    train(read_config(config))
    card = (folder / "out" / "README.md").read_text()
    assert "| image | image.jsonl | 8 | 75.0% | 24 | 3.00 |" in card
    assert re.search(r"Held-out pairs \(image.jsonl\), pool of 8: recall at 1 \d\.\d{3}", card)
    with PIL.Image.open(folder / "out" / "curves.png") as picture:
        assert picture.width > 800
    held = [json.loads(line) for line in (folder / "out" / "validation.jsonl").read_text().splitlines()]
    assert [row["step"] for row in held] == [0, 2, 4]
    assert set(held[0]) == {"step", "recall@1", "recall@5", "recall@10", "pool"}
    # Ten of eight: everything is found.
    assert held[0]["recall@10"] == 1.0


@pytest.mark.slow
def test_tensorboard_is_told_every_step(folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    train(read_config(write_config(folder, steps=3, trackers=["tensorboard"])))
    [events] = (folder / "out").rglob("events.out.tfevents.*")
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    assert [event.step for event in accumulator.Scalars("loss")] == [0, 1, 2]
    assert "source_losses/image" in accumulator.Tags()["scalars"]


@pytest.mark.slow
def test_several_processes_with_a_tracker_write_their_model(folder: Path) -> None:
    path = write_config(folder, steps=2, trackers=["tensorboard"], processes=2)
    run = subprocess.run([sys.executable, "-m", "vlm2vec", "train", path], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (folder / "out" / "model.safetensors").is_file()
    assert len(list((folder / "out").rglob("events.out.tfevents.*"))) == 1


def test_a_tracker_that_is_not_installed_is_named(folder: Path) -> None:
    with pytest.raises(
        MissingError, match="trackers: trackio is not installed; 'pip install trackio', or leave it out"
    ):
        train(read_config(write_config(folder, steps=1, trackers=["trackio"])))
