"""What a run tells: plan, log, trackers, curves, model card, held-out scores."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest
from typer.testing import CliRunner

from support.places import ROOT
from support.train_files import logged, write_config, write_data
from vlm2vec.cli.app import app
from vlm2vec.errors import ConfigError, MissingError
from vlm2vec.model.checkpoint import Settings
from vlm2vec.training.config import read_config
from vlm2vec.training.loop import train
from vlm2vec.training.plan import plan_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_data(tmp_path)
    return tmp_path


def test_a_plan_tells_share_epochs_and_tokens_before_anything_is_loaded(folder: Path) -> None:
    config = read_config(write_config(folder, steps=10))
    image, video = plan_run(config)
    assert image[:5] == ("image", 8, 0.75, 60, 7.5)
    assert video[:5] == ("video", 8, 0.25, 20, 2.5)
    # A picture of 56 x 56 is 4 tokens and so are two frames; what differs is the words around them.
    assert image.tokens is not None
    assert video.tokens is not None
    assert 60 * 10 < image.tokens < 60 * 80
    shown = CliRunner().invoke(app, ["train", str(write_config(folder, steps=10)), "--plan"])
    assert shown.exit_code == 0
    assert re.search(r"^image +8 +75\.00% +60 +7\.50 +[\d,]+$", shown.stdout, re.MULTILINE)
    assert not (folder / "out").exists()


@pytest.mark.slow
def test_a_source_is_seen_in_fewer_pixels_than_the_run_allows(folder: Path) -> None:
    def run(name: str, run_pixels: int, **source: object) -> Path:
        inputs = {"min_pixels": 784, "max_pixels": run_pixels, "num_frames": 2}
        data = {"image": {"path": "image.jsonl", **source}}
        return write_config(folder, out=name, steps=1, inputs=inputs, data=data)

    configs = [run("large", 3136), run("small", 784), run("limited", 3136, max_pixels=784)]
    large, small, limited = (plan_run(read_config(path))[0].tokens for path in configs)
    assert large is not None
    # Pictures of 56 x 56 in one token, not in four.
    assert (small, limited) == (large - 8 * 3, large - 8 * 3)
    for path in configs:
        train(read_config(path))
    large_loss, small_loss, limited_loss = (logged(folder / path.stem, "loss") for path in configs)
    assert limited_loss == small_loss != large_loss
    assert Settings.read(folder / "limited").max_pixels == 3136


def test_a_sources_limit_below_one_token_is_named(folder: Path) -> None:
    data = {"image": {"path": "image.jsonl", "max_pixels": 100}}
    with pytest.raises(ConfigError, match=r"source 'image': min_pixels=3136, max_pixels=100: need whole numbers"):
        plan_run(read_config(write_config(folder, data=data)))


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


def test_the_log_tells_the_loss_of_each_source(folder: Path) -> None:
    train(read_config(write_config(folder, steps=2, sub_batch=0)))
    rows = [json.loads(line) for line in (folder / "out" / "log.jsonl").read_text().splitlines()]
    for row in rows:
        assert set(row["source_losses"]) == {"image", "video"}
        # Six rows of one and two of the other; the objective is their mean.
        mean = (6 * row["source_losses"]["image"] + 2 * row["source_losses"]["video"]) / 8
        assert row["loss"] == pytest.approx(mean, rel=1e-5)


@pytest.mark.slow
def test_tensorboard_is_told_every_step(folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

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


@pytest.mark.slow
def test_more_packs_than_files_may_be_open_come_from_a_worker(folder: Path) -> None:
    # 16 items on each side, each in a pack of its own that comes as several tensors; two batches are read ahead.
    path = write_config(folder, steps=3, batch_size=16, token_budget=1, loader_workers=2)
    command = f'ulimit -Sn 128 && exec "{sys.executable}" -m vlm2vec train "{path}"'
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert len(logged(folder / "out", "loss")) == 3


def test_a_tracker_that_is_not_installed_is_named(folder: Path) -> None:
    with pytest.raises(
        MissingError, match="trackers: trackio is not installed; 'pip install trackio', or leave it out"
    ):
        train(read_config(write_config(folder, steps=1, trackers=["trackio"])))


@pytest.mark.parametrize(
    "path",
    sorted(ROOT.glob("configs/*.yaml")),
    ids=lambda path: path.name,
)
def test_every_configuration_of_the_repository_is_valid(path: Path) -> None:
    config = read_config(path)
    assert config.batch_size % max(1, config.sub_batch) == 0


def test_the_papers_configuration_has_its_numbers() -> None:
    config = read_config(ROOT / "configs" / "paper_v2_2b.yaml")
    weights = [source.weight for source in config.data.values()]
    assert (len(weights), sum(weights)) == (25, 52)  # type: ignore[arg-type]
    assert (config.batch_size, config.sub_batch, config.steps, config.warmup_steps) == (1024, 64, 5000, 100)
    assert (config.learning_rate, config.decay, config.loss.temperature) == (5e-5, "linear", 0.02)
    assert config.adapter is not None
    assert (config.adapter.rank, config.adapter.dora) == (16, True)
