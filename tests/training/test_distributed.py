"""Two real processes over gloo train what one process trains."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from support.train_files import logged, write_config

pytestmark = pytest.mark.slow

EVERYTHING: dict[str, object] = {
    "data": {
        "image": {"path": "negatives.jsonl", "weight": 2, "temperature": 0.2},
        "video": {"path": "video.jsonl"},
        "words": {"path": "words.jsonl", "weight": 2},
    },
    "loss": {
        "temperature": 0.1,
        "learn_temperature": True,
        "symmetric": True,
        "mask_same_content": True,
        "mask_same_label": True,
        "matryoshka": [16, 64],
        "token_dim": 16,
    },
    "teachers": {"circle": {"vectors": "circle"}},
}
# Steps of texts alone between others: what they do not reach has a gradient of zero, in one process as in two.
BY_TURNS: dict[str, object] = {
    "data": {"image": {"path": "image.jsonl"}, "words": {"path": "words.jsonl"}},
    "sub_batch": 8,
    "weight_decay": 0.1,
    "steps": 6,
}
ADAPTER: dict[str, object] = {
    "init": "base",
    "scratch": None,
    "adapter": {"rank": 2, "dropout": 0.0, "targets": ["q_proj", "down_proj"]},
}


def _train(folder: Path, out: str, *options: str, **changes: object) -> subprocess.CompletedProcess[str]:
    return _launch(("vlm2vec",), folder, out, *options, **changes)


def _launch(
    launcher: tuple[str, ...], folder: Path, out: str, /, *options: str, **changes: object
) -> subprocess.CompletedProcess[str]:
    path = write_config(folder, out=out, **({"steps": 4, "token_budget": 60, "learning_rate": 0.0003} | changes))
    command = [sys.executable, "-m", *launcher, "train", str(path), *options]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def _weights(out: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = load_file(min(out.glob("*model.safetensors")))
    return weights


@pytest.mark.parametrize(
    ("parallel", "changes"),
    [
        pytest.param("ddp", EVERYTHING, id="ddp"),
        pytest.param("fsdp", EVERYTHING, id="fsdp"),
        pytest.param("ddp", BY_TURNS, id="ddp, texts by turns"),
        pytest.param("ddp", ADAPTER, id="ddp, dora"),
        pytest.param(
            "fsdp",
            ADAPTER | {"data": {"named": {"path": "named.jsonl"}}},
            id="fsdp, dora, pictures first",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_two_processes_train_what_one_trains(folder: Path, parallel: str, changes: dict[str, object]) -> None:
    if "init" in changes:
        assert _train(folder, "base", steps=1).returncode == 0
    # One process with the graph of everything against two with cached gradients.
    one = _train(folder, "one", token_budget=None, **changes)
    assert one.returncode == 0, one.stderr
    two = _train(folder, "two", processes=2, parallel=parallel, **changes)
    assert two.returncode == 0, two.stderr
    assert two.stdout == f"{folder / 'two'}\n"
    for field in ("loss", "grad_norm", "accuracy", "temperature"):
        assert logged(folder / "two", field) == pytest.approx(logged(folder / "one", field), rel=1e-5)
    first, second = _weights(folder / "one"), _weights(folder / "two")
    assert first.keys() == second.keys()
    # Stored in half precision, whose steps are 1e-3 of a value.
    assert max(float((first[key].float() - second[key].float()).abs().max()) for key in first) < 2e-3


def test_a_run_goes_on_with_another_number_of_processes(folder: Path) -> None:
    assert _train(folder, "whole", steps=6, save_every=3).returncode == 0
    shutil.copytree(folder / "whole" / "checkpoint-3", folder / "part" / "checkpoint-3")
    shutil.copyfile(folder / "whole" / "log.jsonl", folder / "part" / "log.jsonl")
    launcher = ("torch.distributed.run", "--nproc-per-node", "2", "-m", "vlm2vec")
    more = _launch(launcher, folder, "part", "--resume", steps=6, save_every=3, processes=2)
    assert more.returncode == 0, more.stderr
    assert logged(folder / "part", "loss") == pytest.approx(logged(folder / "whole", "loss"), rel=1e-5)


def test_a_divided_model_is_validated_saved_and_goes_on(folder: Path) -> None:
    changes: dict[str, object] = {
        "validation": {"path": "image.jsonl", "every": 1, "pool": 8},
        "parallel": "fsdp",
        "processes": 2,
        "save_every": 2,
    }
    whole = _train(folder, "whole", **changes)
    assert whole.returncode == 0, whole.stderr
    shutil.copytree(folder / "whole" / "checkpoint-2", folder / "part" / "checkpoint-2")
    shutil.copyfile(folder / "whole" / "log.jsonl", folder / "part" / "log.jsonl")
    more = _train(folder, "part", "--resume", **changes)
    assert more.returncode == 0, more.stderr
    assert logged(folder / "part", "loss") == pytest.approx(logged(folder / "whole", "loss"), rel=1e-6)


def test_an_ablation_runs_on_several_processes(folder: Path) -> None:
    validation = {"path": "image.jsonl", "every": 1, "pool": 8}
    path = write_config(folder, steps=1, processes=2, validation=validation)
    command = [sys.executable, "-m", "vlm2vec", "ablate", str(path), "--sub-batches", "0,8"]
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stderr
    assert run.stdout == (folder / "out" / "ablation.md").read_text()


def test_ctrl_c_ends_all_processes_without_a_traceback(folder: Path) -> None:
    path = write_config(folder, steps=100_000, save_every=100_000, processes=2)
    command = [sys.executable, "-m", "vlm2vec", "train", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as run:
        try:
            log = folder / "out" / "log.jsonl"
            while run.poll() is None and not (log.exists() and log.stat().st_size):
                time.sleep(0.1)
            run.send_signal(signal.SIGINT)
            _, said = run.communicate(timeout=60)
        finally:
            run.kill()
    assert (run.returncode, "Traceback" in said) == (130, False), said


def test_a_launcher_that_starts_fewer_processes_than_asked_for_is_an_error(folder: Path) -> None:
    launcher = ("torch.distributed.run", "--nproc-per-node", "1", "-m", "vlm2vec")
    run = _launch(launcher, folder, "out", steps=1, processes=2)
    assert run.returncode != 0
    assert "error: 1 process(es) take part, but processes=2 was asked for; start with 'vlm2vec train'" in run.stderr
    assert not (folder / "out").exists()


def test_under_accelerate_on_cpu_which_starts_one_process_the_others_are_started(folder: Path) -> None:
    launcher = ("accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "vlm2vec")
    run = _launch(launcher, folder, "two", processes=2)
    assert run.returncode == 0, run.stderr
    assert _train(folder, "one").returncode == 0
    assert logged(folder / "two", "loss") == pytest.approx(logged(folder / "one", "loss"), rel=1e-5)
