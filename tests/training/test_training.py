"""A training run, from JSON lines to a model that loads."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from support.train_files import COLOURS, write_config, write_data, write_rows
from vlm2vec.cli.app import app
from vlm2vec.errors import ConfigError, DataError, ModelError
from vlm2vec.model.attention import Segments
from vlm2vec.model.embedder import Embedder
from vlm2vec.model.families.qwen_vl import QwenVLBackbone, _Encoded
from vlm2vec.sources.config import read_yaml
from vlm2vec.training.config import TrainConfig, read_config
from vlm2vec.training.loop import StepReport, learning_rate, train
from vlm2vec.training.trainee import build_trainee
from vlm2vec.training.validation import Validator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_data(tmp_path)
    return tmp_path


def _run(path: Path, *, resume: bool = False) -> list[StepReport]:
    reports: list[StepReport] = []
    train(read_config(path), resume=resume, on_step=reports.append)
    return reports


def test_a_run_learns_and_leaves_a_model_that_loads_and_finds(folder: Path) -> None:
    reports = _run(write_config(folder))
    assert [report.step for report in reports] == list(range(30))
    assert np.mean([r.loss for r in reports[-5:]]) < 0.6 * np.mean([r.loss for r in reports[:5]])
    embedder = Embedder.load(folder / "out", device="cpu")
    settings = embedder.settings
    assert (settings.prompt_style, settings.max_pixels, settings.num_frames) == ("qwen2-vl", 3136, 2)
    queries = embedder.encode_query(COLOURS, target="image")
    pictures = embedder.encode_document([folder / f"{colour}.png" for colour in COLOURS])
    found = embedder.similarity(queries, pictures).argmax(1)
    assert (found == np.arange(8)).mean() >= 0.5


@pytest.mark.slow
def test_the_log_holds_every_step_and_the_folder_says_how_it_was_made(folder: Path) -> None:
    reports = _run(write_config(folder, steps=3, save_every=2))
    lines = [json.loads(line) for line in (folder / "out" / "log.jsonl").read_text().splitlines()]
    assert lines == [report._asdict() for report in reports]
    made = json.loads((folder / "out" / "train_config.json").read_text())
    assert (made["steps"], made["data"]["image"]["weight"]) == (3, 3.0)
    assert Embedder.load(folder / "out" / "checkpoint-2", device="cpu").dim == 64


@pytest.mark.slow
def test_the_same_seed_gives_the_same_losses(folder: Path) -> None:
    runs = [
        _run(write_config(folder, steps=4, out=f"run{number}", **changes))
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


def test_a_source_that_a_run_will_never_read_is_named_at_its_start(folder: Path) -> None:
    # Two sub-batches of eight are drawn in all, of which a tenth is none.
    data = {"image": {"path": "image.jsonl", "weight": 9}, "video": {"path": "video.jsonl", "weight": 1}}
    done = CliRunner().invoke(app, ["train", str(write_config(folder, steps=2, sub_batch=8, data=data))])
    assert done.exit_code == 0
    told = "never read in 2 steps: video; give more weight or steps, or a smaller sub_batch"
    assert [line for line in done.stderr.split("\n") if line.startswith("never")] == [told]


def test_training_goes_on_from_a_checkpoint(folder: Path) -> None:
    _run(write_config(folder))
    first = _run(write_config(folder, out="more", init="out", scratch=None, steps=1))[0]
    assert first.loss < 1.2


@pytest.mark.parametrize(
    ("decay", "expected"), [("linear", [0.1, 0.5, 1.0, 1.0, 0.5, 0.01]), ("cosine", [0.1, 0.5, 1.0, 1.0, 0.5, 2.5e-4])]
)
def test_warm_up_is_linear_and_the_rest_goes_down_to_nothing(folder: Path, decay: str, expected: list[float]) -> None:
    config = read_config(write_config(folder, steps=110, warmup_steps=10, learning_rate=1.0, decay=decay))
    rates = [learning_rate(step, config) for step in (0, 4, 9, 10, 60, 109)]
    assert rates == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": 3}, "step: Extra inputs are not permitted"),
        ({"steps": 0}, "steps: Input should be greater than 0"),
        ({"scratch": None}, "give either 'init'"),
        ({"inputs": {"prompt_style": "clip"}}, "prompt_style 'clip' is unknown; use one of qwen2-vl, vlm2vec"),
        ({"scratch": {"tokenizer": "t", "num_heads": 3}}, "scratch: Value error, hidden_size must be a multiple"),
        ({"data": {}}, "data: Dictionary should have at least 1 item"),
        ({"freeze": ["visual", "language_model"]}, "'freeze' leaves nothing to train"),
        ({"adapter": {}}, "an adapter on random weights learns little"),
        (
            {"adapter": {}, "init": "base", "scratch": None, "freeze": ["visual"]},
            "'freeze' has no effect with an adapter",
        ),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
    ],
)
def test_a_malformed_configuration_is_named_field_by_field(
    folder: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_config(write_config(folder, **changes))


@pytest.mark.slow
def test_a_row_that_cannot_be_read_is_replaced_by_another_of_its_source_and_counted(folder: Path) -> None:
    (folder / "blue.png").write_bytes(b"no picture")
    changes: dict[str, object] = {"data": {"image": {"path": "image.jsonl"}}, "steps": 2}
    reports = [_run(write_config(folder, out=f"run{n}", loader_workers=n, **changes)) for n in (0, 1)]
    # Every row comes once an epoch, so each step of eight meets the bad one once.
    assert [[r.bad_rows for r in run] for run in reports] == [[1, 2], [1, 2]]
    assert [r.loss for r in reports[0]] == [r.loss for r in reports[1]]
    told = [json.loads(line) for line in (folder / "run0" / "bad_rows.jsonl").read_text().splitlines()]
    assert [row["step"] for row in told] == [0, 1]
    assert told[0]["row"].startswith(f"{folder / 'image.jsonl'}:3: ")


def test_neighbouring_bad_rows_count_once_each(folder: Path) -> None:
    for colour in ("green", "blue", "yellow"):
        (folder / f"{colour}.png").write_bytes(b"no picture")
    changes: dict[str, object] = {"data": {"image": {"path": "image.jsonl"}}, "steps": 1}
    assert [report.bad_rows for report in _run(write_config(folder, **changes))] == [3]


def test_validation_needs_pairs_that_differ_and_counts_what_is_no_number_as_not_found(folder: Path) -> None:
    (folder / "one.jsonl").write_text('{"query": "a", "positive": "b"}\n')
    with pytest.raises(DataError, match=r"one.jsonl holds 1 pair\(s\) of different labels and documents; 2 are"):
        _run(write_config(folder, validation={"path": "one.jsonl", "every": 1}))
    config = read_config(write_config(folder, validation={"path": "image.jsonl", "every": 1, "pool": 8}))
    trainee = build_trainee(config)
    assert config.validation is not None
    validator = Validator(config.validation, trainee)
    trainee.backbone.model.language_model.norm.weight.data.fill_(torch.nan)
    scores = validator.measure(torch.device("cpu"), "float32")
    assert (scores["recall@1"], scores["recall@5"]) == (0.0, 0.0)


def test_validation_reads_no_more_rows_than_fill_its_pool(folder: Path) -> None:
    rows: list[object] = [{"query": f"query {n}", "positive": f"document {n}"} for n in range(9)]
    # Nine rows are looked at in the order 6, 8, 0, 2, 4, 3, 1, 5, 7.
    rows[7] = {"query": "no pair"}
    write_rows(folder / "held.jsonl", rows)
    config = read_config(write_config(folder, validation={"path": "held.jsonl", "every": 1, "pool": 8}))
    assert config.validation is not None
    trainee = build_trainee(config)
    assert len(Validator(config.validation, trainee).documents) == 8
    with pytest.raises(DataError, match=r"held.jsonl:8"):
        Validator(config.validation.model_copy(update={"pool": 9}), trainee)


def test_too_many_bad_rows_stop_the_run_and_are_listed(folder: Path) -> None:
    (folder / "blue.png").write_bytes(b"no picture")
    message = r"2 of 16 rows could not be read.*max_bad_rows=0.001(.|\n)*image.jsonl:3: .*blue.png"
    with pytest.raises(DataError, match=message):
        _run(write_config(folder, data={"image": {"path": "image.jsonl"}}, max_bad_rows=0.001))


def test_a_source_without_any_readable_row_stops_the_run(folder: Path) -> None:
    for colour in COLOURS:
        (folder / f"{colour}.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"source 'image': none of 8 rows can be read; the last: .*png"):
        _run(write_config(folder, loader_workers=1))


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_the_settings_of_its_checkpoint(folder: Path) -> None:
    inputs = {"prompt_style": "vlm2vec", "pooling": "mean", "max_pixels": 3136, "num_frames": 2}
    _run(write_config(folder, steps=1, inputs=inputs))
    _run(write_config(folder, out="more", init="out", scratch=None, steps=1, inputs={"num_frames": 1}))
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
        _run(write_config(folder))
    assert Embedder.load(folder / "out" / "checkpoint-2", device="cpu").dim == 64


def test_paths_of_a_configuration_are_relative_to_it(folder: Path) -> None:
    config: TrainConfig = read_config(write_config(folder))
    assert (config.out, config.data["image"].path) == (folder / "out", folder / "image.jsonl")


def test_what_a_run_goes_on_from_is_a_folder_beside_the_configuration_or_a_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "runs" / "first").mkdir(parents=True)
    here = folder / "here"
    (here / "current").mkdir(parents=True)
    monkeypatch.chdir(here)
    inits = {
        "bundled": "bundled",
        "Qwen/Qwen2-VL-2B-Instruct": "Qwen/Qwen2-VL-2B-Instruct",
        "runs/first": str(folder / "runs" / "first"),
        "runs/second": str(folder / "runs" / "second"),
        "../runs/first": str(folder / "../runs/first"),
        "current": str(folder / "current"),
        "a/b/c": str(folder / "a/b/c"),
        # Longer than any name may be.
        "9" * 4000: "9" * 4000,
    }
    assert {name: read_config(write_config(folder, scratch=None, init=name)).init for name in inits} == inits
    missing = read_config(write_config(folder, scratch=None, init="runs/second"))
    with pytest.raises(ModelError, match=f"no checkpoint folder {folder / 'runs' / 'second'}"):
        build_trainee(missing)


def test_a_key_that_stands_twice_is_an_error(folder: Path) -> None:
    path = write_config(folder)
    path.write_text(path.read_text() + "steps: 20\n")
    with pytest.raises(ConfigError, match=r"is not valid YAML: the key 'steps' stands twice\n.*line \d+, column 1"):
        read_config(path)
    (folder / "mix.yaml").write_text("a: &a {weight: 1}\nb: {<<: *a, weight: 2}\nb: {<<: *a}\n")
    with pytest.raises(ConfigError, match="the key 'b' stands twice"):
        read_config(write_config(folder, data="mix.yaml"))
    # What "<<" brings in may be said anew.
    (folder / "mix.yaml").write_text("a: &a {weight: 1, steps: 2}\nb: {<<: *a, weight: 2}\n")
    assert read_yaml(folder / "mix.yaml")["b"] == {"weight": 2, "steps": 2}


@pytest.mark.slow
def test_a_run_does_not_write_over_another(folder: Path) -> None:
    _run(write_config(folder, steps=1))
    with pytest.raises(ConfigError, match="out already holds a finished run; give another folder as out="):
        _run(write_config(folder, steps=1))
    with pytest.raises(ConfigError, match="out holds a finished run, so there is nothing to continue"):
        _run(write_config(folder, steps=1), resume=True)
    with pytest.raises(
        ConfigError, match="fresh holds no checkpoint, so there is nothing to continue; leave out resume=True"
    ):
        _run(write_config(folder, out="fresh"), resume=True)
    _run(write_config(folder, out="stopped", steps=2, save_every=1))
    with pytest.raises(ConfigError, match="stopped already holds a run; continue it with resume=True; give another"):
        _run(write_config(folder, out="stopped", steps=2, save_every=1))
