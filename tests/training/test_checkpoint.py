"""A run that was stopped continues as if it had not been, and no run writes over another."""

from __future__ import annotations

import json
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
from safetensors.torch import load_file, save_file

from support.train_files import cut_off, logged, run_of, write_config
from vlm2vec.errors import BusyError, ConfigError, DataError, StorageError
from vlm2vec.training.checkpoint import TrainingFolder
from vlm2vec.training.config import read_config
from vlm2vec.training.distributed import TrainingGroup
from vlm2vec.training.loop import train

pytestmark = pytest.mark.slow

VARIANTS: dict[str, dict[str, object]] = {
    "full": {},
    "texts alone, which do not reach the vision tower": {"data": {"words": {"path": "words.jsonl"}}},
    "a teacher, whose map is trained too": {"teachers": {"circle": {"vectors": "circle"}}},
    "learned temperature and token vectors": {"loss": {"temperature": 0.1, "learn_temperature": True, "token_dim": 16}},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_going_on_at_any_checkpoint_equals_never_having_stopped_to_the_bit(folder: Path, name: str) -> None:
    whole = folder / "whole"
    changes = VARIANTS[name] | {"steps": 7, "save_every": 2, "keep": 9}
    train(read_config(write_config(folder, out="whole", **changes)))
    assert [path.name for path in TrainingFolder(whole).checkpoints] == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
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
        if TrainingFolder(out).checkpoints and any(out.glob("checkpoint-*.partial")):
            os.kill(process.pid, signal.SIGSTOP)
            # It may have been done before it was stopped.
            if any(out.glob("checkpoint-*.partial")):
                break
            os.kill(process.pid, signal.SIGCONT)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list(out.glob("checkpoint-*.partial")), "the process was not killed while it wrote"
    assert not (out / "model.safetensors").exists()
    subprocess.run([*command, "--resume"], check=True, capture_output=True)
    assert logged(out, "loss") == logged(folder / "whole", "loss")


def test_a_run_that_fails_in_its_first_step_can_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes: dict[str, object] = {"steps": 2, "validation": {"path": "image.jsonl", "every": 1, "pool": 8}}
    train(read_config(write_config(folder, out="whole", **changes)))
    with monkeypatch.context() as patch:
        patch.setattr(TrainingGroup, "add_gradients", lambda group, max_norm: float("nan"))
        with pytest.raises(ConfigError, match=r"the loss of step 0 is .*, its gradient's norm nan.*in checkpoint-0"):
            train(read_config(write_config(folder, out="part", **changes)))
    train(read_config(write_config(folder, out="part", **changes)), resume=True)
    assert logged(folder / "part", "loss") == logged(folder / "whole", "loss")
    one, other = ((folder / out / "validation.jsonl").read_text() for out in ("whole", "part"))
    assert one == other


def test_a_second_run_in_the_folder_is_kept_out(folder: Path) -> None:
    config = read_config(write_config(folder, steps=2))
    with (
        TrainingFolder(config.out).alone(first=True),
        pytest.raises(BusyError, match=r"another run is training in .*out; wait for"),
    ):
        train(config)
    train(config)
    with pytest.raises(ConfigError, match="holds a finished run; give another folder as out="):
        train(config)


def test_a_finished_run_is_not_trained_again(folder: Path) -> None:
    config = read_config(write_config(folder, steps=4, save_every=2))
    train(config)
    before = (config.out / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(ConfigError, match="holds a finished run, so there is nothing to continue"):
        train(config, resume=True)
    assert (config.out / "model.safetensors").stat().st_mtime_ns == before


def test_a_folder_that_cannot_be_written_is_told_with_the_way_on(folder: Path) -> None:
    (folder / "out").touch()
    with pytest.raises(ConfigError, match="out is no folder, so no run can lie there; give another folder as out="):
        train(read_config(write_config(folder)))
    (folder / "run" / "checkpoint-3").mkdir(parents=True)
    full = (
        r"cannot write to .*run: no space left on device; free .*; the run is kept up to checkpoint-3; continue it with"
    )
    with pytest.raises(StorageError, match=full), TrainingFolder(folder / "run").writing():
        Path("/dev/full").write_text("x")


def test_only_the_latest_checkpoints_and_the_best_are_kept(folder: Path) -> None:
    validation = {"path": "image.jsonl", "every": 1, "pool": 8}
    path = write_config(folder, steps=9, save_every=1, keep=2, validation=validation)
    train(read_config(path))
    kept = [folder.name for folder in TrainingFolder(folder / "out").checkpoints]
    assert kept[-2:] == ["checkpoint-7", "checkpoint-8"]
    assert len(kept) <= 3


def test_another_configuration_is_another_run_and_every_difference_is_named_by_its_path(folder: Path) -> None:
    data: dict[str, dict[str, object]] = {
        "image": {"path": "image.jsonl", "weight": 3},
        "video": {"path": "video.jsonl"},
    }
    train(read_config(write_config(folder, steps=3, save_every=2, data=data)))
    cut_off(folder / "out")
    data["image"]["weight"] = 2
    message = "data.image.weight was 3.0, is 2.0; learning_rate was 0.003, is 0.1; seed was 1, is 5. Put that back, or"
    changed = read_config(write_config(folder, steps=3, save_every=2, seed=5, learning_rate=0.1, data=data))
    with pytest.raises(ConfigError, match=re.escape(message)):
        train(changed, resume=True)


def test_a_run_of_a_version_that_knew_fewer_fields_goes_on(folder: Path) -> None:
    path = write_config(folder, steps=3, save_every=2)
    train(read_config(path))
    cut_off(folder / "out")
    written = folder / "out" / "checkpoint-2" / "train_config.json"
    values = json.loads(written.read_text())
    del values["trackers"], values["inputs"]["max_frame_pixels"], values["data"]["image"]["max_pixels"]
    written.write_text(json.dumps(values))
    state = written.with_name("training_state.json")
    kept = {key: value for key, value in json.loads(state.read_text()).items() if key not in ("heard", "sizes")}
    state.write_text(json.dumps(kept))
    before = logged(folder / "out", "loss")
    train(read_config(path), resume=True)
    assert logged(folder / "out", "loss") == before


@pytest.mark.parametrize("damage", ["missing", "cut short", "of another shape", "no state"])
def test_a_damaged_checkpoint_is_named_with_the_way_on(folder: Path, damage: str) -> None:
    path = write_config(folder, steps=3, save_every=2)
    train(read_config(path))
    cut_off(folder / "out")
    state = folder / "out" / "checkpoint-2" / "training_state.safetensors"
    tensors = load_file(state)
    name = next(name for name in sorted(tensors) if name.startswith("exp_avg."))
    if damage == "missing":
        save_file({key: tensor for key, tensor in tensors.items() if key != name}, state)
    elif damage == "of another shape":
        save_file(tensors | {name: torch.zeros(3)}, state)
    elif damage == "cut short":
        state.write_bytes(state.read_bytes()[:-1])
    else:
        state = state.with_suffix(".json")
        state.write_text('{"step": -1}')
    message = (
        rf"the checkpoint file {re.escape(str(state))} cannot be read: .*; delete checkpoint-2 to fall back to the"
    )
    with pytest.raises(DataError, match=message):
        train(read_config(path), resume=True)


def test_a_source_with_other_rows_than_the_run_had_is_refused(folder: Path) -> None:
    path = write_config(folder, steps=3, save_every=2)
    train(read_config(path))
    cut_off(folder / "out")
    rows = (folder / "video.jsonl").read_text().splitlines(keepends=True)
    (folder / "video.jsonl").write_text("".join(rows[:-1]))
    with pytest.raises(DataError, match=r"video had 8 rows, has 7. Put the sources back as they were, or start ano"):
        train(read_config(path), resume=True)


def test_what_a_teacher_knew_before_a_run_was_stopped_counts_when_it_goes_on(folder: Path) -> None:
    changes: dict[str, object] = {
        # The teacher knows colours, and none of the second stage's texts.
        "data": {
            "image": {"path": "image.jsonl", "weight": [1, 0]},
            "other": {"path": "other.jsonl", "weight": [0, 1]},
        },
        "stage_starts": [2],
        "teachers": {"circle": {"vectors": "circle"}},
        "steps": 5,
        "save_every": 2,
    }
    rows = [{"query": f"a thing {n}", "positive": f"another {n}"} for n in range(8)]
    (folder / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = write_config(folder, **changes)
    train(read_config(path), taught_within=3)
    cut_off(folder / "out")
    before = logged(folder / "out", "loss")
    train(read_config(path), resume=True, taught_within=3)
    assert logged(folder / "out", "loss") == before


def test_a_run_does_not_write_over_another(folder: Path) -> None:
    run_of(write_config(folder, steps=1))
    with pytest.raises(ConfigError, match="out already holds a finished run; give another folder as out="):
        run_of(write_config(folder, steps=1))
    with pytest.raises(ConfigError, match="out holds a finished run, so there is nothing to continue"):
        run_of(write_config(folder, steps=1), resume=True)
    with pytest.raises(
        ConfigError, match="fresh holds no checkpoint, so there is nothing to continue; leave out resume=True"
    ):
        run_of(write_config(folder, out="fresh"), resume=True)
    run_of(write_config(folder, out="stopped", steps=2, save_every=1))
    with pytest.raises(ConfigError, match="stopped already holds a run; continue it with resume=True; give another"):
        run_of(write_config(folder, out="stopped", steps=2, save_every=1))
