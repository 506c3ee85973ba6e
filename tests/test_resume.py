"""A run that was stopped goes on as if it had not been."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from train_files import logged, write_circle, write_config, write_data
from vlm2vec.errors import ConfigError
from vlm2vec.training.checkpoint import checkpoints
from vlm2vec.training.config import read_config
from vlm2vec.training.loop import train

VARIANTS: dict[str, dict[str, object]] = {
    "full": {},
    "texts alone, which do not reach the vision tower": {"data": {"words": {"path": "words.jsonl"}}},
    "a teacher, whose map is trained too": {"teachers": {"circle": {"vectors": "circle"}}},
    "learned temperature and token vectors": {"loss": {"temperature": 0.1, "learn_temperature": True, "token_dim": 16}},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_data(tmp_path)
    write_circle(tmp_path / "circle")
    return tmp_path


@pytest.mark.parametrize("name", VARIANTS)
def test_going_on_at_any_checkpoint_equals_never_having_stopped_to_the_bit(folder: Path, name: str) -> None:
    whole = folder / "whole"
    changes = VARIANTS[name] | {"steps": 7, "save_every": 2, "keep": 9}
    train(read_config(write_config(folder, out="whole", **changes)))
    assert [path.name for path in checkpoints(whole)] == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    for step in (2, 6):
        part = folder / f"from{step}"
        shutil.copytree(whole / f"checkpoint-{step}", part / f"checkpoint-{step}")
        shutil.copyfile(whole / "log.jsonl", part / "log.jsonl")
        train(read_config(write_config(folder, out=part.name, **changes)), resume=True)
        assert logged(part, "loss") == logged(whole, "loss")
        one, other = (load_file(out / "model.safetensors") for out in (whole, part))
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_an_adapter_with_dropout_goes_on_to_the_bit(folder: Path) -> None:
    train(read_config(write_config(folder, out="base", steps=1)))
    adapter = {"rank": 2, "dropout": 0.2, "targets": ["q_proj", "v_proj"]}
    changes: dict[str, object] = {"init": "base", "scratch": None, "adapter": adapter, "steps": 4, "save_every": 2}
    train(read_config(write_config(folder, out="whole", **changes)))
    shutil.copytree(folder / "whole" / "checkpoint-2", folder / "part" / "checkpoint-2")
    shutil.copyfile(folder / "whole" / "log.jsonl", folder / "part" / "log.jsonl")
    train(read_config(write_config(folder, out="part", **changes)), resume=True)
    assert logged(folder / "part", "loss") == logged(folder / "whole", "loss")


def test_a_run_killed_while_it_writes_a_checkpoint_goes_on(folder: Path) -> None:
    changes: dict[str, object] = {"steps": 25, "save_every": 1, "keep": 2}
    train(read_config(write_config(folder, out="whole", **changes)))
    config, out = write_config(folder, out="killed", **changes), folder / "killed"
    command = [sys.executable, "-m", "vlm2vec", "train", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        # Not the first one: there must be a checkpoint to go on from.
        if len(checkpoints(out)) and any(out.glob("checkpoint-*.partial")):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list(out.glob("checkpoint-*.partial")), "the process was not killed while it wrote"
    assert not (out / "model.safetensors").exists()
    subprocess.run([*command, "--resume"], check=True, capture_output=True)
    assert logged(out, "loss") == logged(folder / "whole", "loss")


def test_a_run_that_fails_in_its_first_step_can_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes: dict[str, object] = {"steps": 2}
    train(read_config(write_config(folder, out="whole", **changes)))
    with monkeypatch.context() as patch:
        patch.setattr("vlm2vec.training.loop.clip_gradients", lambda parameters, max_norm: float("nan"))
        with pytest.raises(ConfigError, match=r"the loss of step 0 is .*, its gradient's norm nan.*in checkpoint-0"):
            train(read_config(write_config(folder, out="part", **changes)))
    train(read_config(write_config(folder, out="part", **changes)), resume=True)
    assert logged(folder / "part", "loss") == logged(folder / "whole", "loss")


def test_only_the_latest_checkpoints_and_the_best_are_kept(folder: Path) -> None:
    validation = {"path": "image.jsonl", "every": 1, "pool": 8}
    path = write_config(folder, steps=9, save_every=1, keep=2, validation=validation)
    train(read_config(path))
    kept = [folder.name for folder in checkpoints(folder / "out")]
    assert kept[-2:] == ["checkpoint-7", "checkpoint-8"]
    assert len(kept) <= 3


def test_another_configuration_is_another_run(folder: Path) -> None:
    train(read_config(write_config(folder, steps=3, save_every=2)))
    with pytest.raises(ConfigError, match=re.escape("learning_rate was 0.003, is 0.1; seed was 1, is 5")):
        train(read_config(write_config(folder, steps=3, save_every=2, seed=5, learning_rate=0.1)), resume=True)
