"""A training run, from JSON lines to a model that loads."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from support.train_files import COLOURS, run_of, write_config, write_data
from vlm2vec.cli.app import app
from vlm2vec.errors import ConfigError
from vlm2vec.model.attention import Segments
from vlm2vec.model.embedder import Embedder
from vlm2vec.model.families.qwen_vl import QwenVLBackbone, _Encoded
from vlm2vec.training.config import read_config
from vlm2vec.training.loop import StepReport, _learning_rate, _step_seed


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[StepReport]]:
    """A folder of sources with a whole run of 30 steps in `out`, and what was told of each step."""
    folder = tmp_path_factory.mktemp("learned")
    write_data(folder)
    return folder, run_of(write_config(folder))


def test_a_run_learns_and_leaves_a_model_that_loads_and_finds(learned: tuple[Path, list[StepReport]]) -> None:
    folder, reports = learned
    assert [report.step for report in reports] == list(range(30))
    assert np.mean([r.loss for r in reports[-5:]]) < 0.6 * np.mean([r.loss for r in reports[:5]])
    embedder = Embedder.load(folder / "out", device="cpu")
    settings = embedder.settings
    assert (settings.prompt_style, settings.max_pixels, settings.num_frames) == ("qwen2-vl", 3136, 2)
    queries = embedder.encode_query(COLOURS, target="image")
    pictures = embedder.encode_document([folder / f"{colour}.png" for colour in COLOURS])
    found = embedder.similarity(queries, pictures).argmax(1)
    assert (found == np.arange(8)).mean() >= 0.5


def test_training_continues_from_a_model(learned: tuple[Path, list[StepReport]]) -> None:
    folder, _ = learned
    first = run_of(write_config(folder, out="more", init="out", scratch=None, steps=1))[0]
    assert first.loss < 1.2


@pytest.mark.slow
def test_the_same_seed_gives_the_same_losses(folder: Path) -> None:
    runs = [
        run_of(write_config(folder, steps=4, out=f"run{number}", **changes))
        for number, changes in enumerate(({}, {"loader_workers": 1}, {"seed": 2}))
    ]
    one, other, different = ([report.loss for report in run] for run in runs)
    assert one == other != different


@pytest.mark.slow
def test_the_command_trains_prints_where_the_model_is_and_names_a_mistake(folder: Path) -> None:
    command = ["train", str(write_config(folder, steps=2)), "--out", str(folder / "elsewhere")]
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, done.stdout) == (0, f"{folder / 'elsewhere'}\n")
    first, *_ = done.stderr.split("\n")
    assert first == "427,200 parameters are trained:"
    assert re.search(r"^step 1: loss \d", done.stderr, re.MULTILINE)
    assert Embedder.load(folder / "elsewhere", device="cpu").dim == 64
    wrong = CliRunner().invoke(app, ["train", str(write_config(folder, step=3))])
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "step: Extra inputs are not permitted" in wrong.stderr


@pytest.mark.parametrize(
    ("decay", "expected"), [("linear", [0.1, 0.5, 1.0, 1.0, 0.5, 0.01]), ("cosine", [0.1, 0.5, 1.0, 1.0, 0.5, 2.5e-4])]
)
def test_warm_up_is_linear_and_the_rest_goes_down_to_nothing(folder: Path, decay: str, expected: list[float]) -> None:
    config = read_config(write_config(folder, steps=110, warmup_steps=10, learning_rate=1.0, decay=decay))
    rates = [_learning_rate(step, config) for step in (0, 4, 9, 10, 60, 109)]
    assert rates == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("numbers", "seed"),
    [
        ((0, 0, 0), 3010437511937009226),
        ((1, 0, 0), 7839147235533974352),
        ((42, 4999, 7), 2028254797865295550),
        ((2**64, 10**9, 0), 102152524076755840),
        ((42, 1, 0), -255314083093863083),
    ],
)
def test_a_step_is_seeded_as_in_the_first_release(numbers: tuple[int, int, int], seed: int) -> None:
    assert _step_seed(*numbers) == seed


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_the_settings_of_its_checkpoint(folder: Path) -> None:
    inputs = {"prompt_style": "vlm2vec", "pooling": "mean", "max_pixels": 3136, "num_frames": 2}
    run_of(write_config(folder, steps=1, inputs=inputs))
    run_of(write_config(folder, out="more", init="out", scratch=None, steps=1, inputs={"num_frames": 1}))
    settings = Embedder.load(folder / "more", device="cpu").settings
    assert (settings.prompt_style, settings.pooling, settings.max_pixels) == ("vlm2vec", "mean", 3136)
    assert settings.num_frames == 1


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_with_a_checkpoint_and_names_the_rows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = QwenVLBackbone.decode

    def broken(self: QwenVLBackbone, x_TD: torch.Tensor, positions: torch.Tensor, segments: Segments) -> _Encoded:
        encoded = original(self, x_TD, positions, segments)
        # One document of step 2 has no numbers: the longest sequence is a video.
        calls.append(1)
        if len(calls) == 6:
            return _Encoded(encoded.pooled.index_fill(0, torch.tensor([0]), torch.nan), None)
        return encoded

    calls: list[int] = []
    monkeypatch.setattr(QwenVLBackbone, "decode", broken)
    message = r"loss of step 2 is nan, .*; vectors of 1 row\(s\) and 0 hard neg.* are no numbers: .*jsonl:\d"
    with pytest.raises(ConfigError, match=message):
        run_of(write_config(folder))
    assert Embedder.load(folder / "out" / "checkpoint-2", device="cpu").dim == 64
