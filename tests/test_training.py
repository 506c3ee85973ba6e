"""A training run, from JSON lines to a model that loads."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
import yaml
from typer.testing import CliRunner

from golden_cases import MODEL
from vlm2vec.cli.app import app
from vlm2vec.data.collate import same_label
from vlm2vec.data.records import Pair, read_pairs
from vlm2vec.errors import ConfigError
from vlm2vec.items import Image, Item, Video
from vlm2vec.model.embedder import Embedder
from vlm2vec.training.config import TrainConfig, read_config
from vlm2vec.training.loop import StepReport, learning_rate, train

COLOURS = ["red", "green", "blue", "yellow", "black", "white", "purple", "orange"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight colours: word to picture, and word to a two-frame video."""
    for colour in COLOURS:
        PIL.Image.new("RGB", (56, 56), colour).save(tmp_path / f"{colour}.png")
        (tmp_path / colour).mkdir()
        for number in range(2):
            PIL.Image.new("RGB", (56, 56), colour).save(tmp_path / colour / f"{number}.png")
    _write(tmp_path / "image.jsonl", [{"query": c, "positive": {"image": f"{c}.png"}, "label": c} for c in COLOURS])
    _write(tmp_path / "video.jsonl", [{"query": {"text": c}, "positive": {"video": c}} for c in COLOURS])
    return tmp_path


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _config(folder: Path, **changes: object) -> Path:
    values: dict[str, object] = {
        "out": "out",
        "scratch": {
            "tokenizer": str(MODEL),
            "hidden_size": 64,
            "num_layers": 2,
            "num_heads": 2,
            "num_kv_heads": 1,
            "intermediate_size": 128,
            "vision_size": 64,
            "vision_layers": 1,
            "vision_heads": 2,
        },
        "inputs": {"max_pixels": 3136, "num_frames": 2},
        "data": {"image": {"path": "image.jsonl", "weight": 3}, "video": {"path": "video.jsonl"}},
        "steps": 30,
        "batch_size": 8,
        "sub_batch": 4,
        "learning_rate": 0.003,
        "temperature": 0.1,
        "mask_same_label": True,
        "loader_workers": 0,
        "seed": 1,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in (values | changes).items() if v is not None}))
    return path


def _run(path: Path) -> list[StepReport]:
    reports: list[StepReport] = []
    train(read_config(path), reports.append)
    return reports


def test_a_run_learns_and_leaves_a_model_that_loads_and_finds(folder: Path) -> None:
    reports = _run(_config(folder))
    assert [report.step for report in reports] == list(range(30))
    assert np.mean([r.loss for r in reports[-5:]]) < 0.6 * np.mean([r.loss for r in reports[:5]])
    embedder = Embedder.load(folder / "out", device="cpu")
    settings = embedder.settings
    assert (settings.prompt_style, settings.max_pixels, settings.num_frames) == ("qwen2-vl", 3136, 2)
    queries = embedder.encode_query(COLOURS, target="image")
    pictures = embedder.encode_document([folder / f"{colour}.png" for colour in COLOURS])
    found = embedder.similarity(queries, pictures).argmax(1)
    assert (found == np.arange(8)).mean() >= 0.5


def test_the_log_holds_every_step_and_the_folder_says_how_it_was_made(folder: Path) -> None:
    reports = _run(_config(folder, steps=3, save_every=2))
    lines = [json.loads(line) for line in (folder / "out" / "log.jsonl").read_text().splitlines()]
    assert lines == [report._asdict() for report in reports]
    made = json.loads((folder / "out" / "train_config.json").read_text())
    assert (made["steps"], made["data"]["image"]["weight"]) == (3, 3.0)
    assert Embedder.load(folder / "out" / "checkpoint-2", device="cpu").dim == 64


def test_the_same_seed_gives_the_same_losses(folder: Path) -> None:
    one, other = _run(_config(folder, steps=4)), _run(_config(folder, steps=4, loader_workers=1))
    assert [r.loss for r in one] == [r.loss for r in other]
    assert [r.loss for r in one] != [r.loss for r in _run(_config(folder, steps=4, seed=2))]


def test_the_command_trains_prints_where_the_model_is_and_names_a_mistake(folder: Path) -> None:
    command = ["train", str(_config(folder, steps=2)), "--out", str(folder / "elsewhere")]
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, done.stdout) == (0, f"{folder / 'elsewhere'}\n")
    assert re.match(r"step 1: loss \d", done.stderr)
    assert Embedder.load(folder / "elsewhere", device="cpu").dim == 64
    wrong = CliRunner().invoke(app, ["train", str(_config(folder, step=3))])
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "step: Extra inputs are not permitted" in wrong.stderr


def test_training_goes_on_from_a_checkpoint(folder: Path) -> None:
    _run(_config(folder))
    first = _run(_config(folder, out="more", init="out", scratch=None, steps=1))[0]
    assert first.loss < 1.2


def test_warm_up_is_linear_and_the_rest_a_cosine_to_a_hundredth(folder: Path) -> None:
    config = read_config(_config(folder, steps=110, warmup_steps=10, learning_rate=1.0))
    rates = [learning_rate(step, config) for step in (0, 4, 9, 10, 60, 109)]
    assert rates == pytest.approx([0.1, 0.5, 1.0, 1.0, 0.505, 0.01], abs=1e-3)


def test_rows_with_the_same_label_or_the_same_text_are_no_negatives() -> None:
    def pair(origin: str, positive: Item, label: str | None = None) -> Pair:
        return Pair(Item("q"), positive, label, origin)

    picture = Item(media=(Image(b"x"),))
    pairs = [pair("1", picture, "cat"), pair("2", picture, "cat"), pair("3", picture), pair("4", picture)]
    pairs += [pair("5", Item("dog")), pair("6", Item("dog"))]
    assert same_label(pairs).nonzero().tolist() == [[0, 1], [1, 0], [4, 5], [5, 4]]


def test_paths_of_a_row_are_relative_to_its_file(tmp_path: Path) -> None:
    row = {"query": {"text": "t", "instruction": "i"}, "positive": {"video": ["a.png", "b.png"]}, "label": "l"}
    _write(tmp_path / "pairs.jsonl", [row])
    video = Video((tmp_path / "a.png", tmp_path / "b.png"))
    origin = f"{tmp_path / 'pairs.jsonl'}:1"
    assert read_pairs(tmp_path / "pairs.jsonl") == [Pair(Item("t", (), "i"), Item(media=(video,)), "l", origin)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "pairs.jsonl:2 is not JSON"),
        ('{"query": "a"}', "pairs.jsonl:2: a row is an object with 'query', 'positive'"),
        ('{"query": "a", "positive": "b", "labels": "c"}', "pairs.jsonl:2: a row is an object"),
        ('{"query": "a", "positive": "b", "label": 3}', "pairs.jsonl:2: the label is 3"),
        ('{"query": "a", "positive": {"img": "b"}}', "pairs.jsonl:2: unknown key 'img'"),
        ('{"query": "a", "positive": ""}', "pairs.jsonl:2: an item has neither text nor medium"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"query": "a", "positive": "b"}\n' + line + "\n")
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_pairs(tmp_path / "pairs.jsonl")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": 3}, "step: Extra inputs are not permitted"),
        ({"steps": 0}, "steps: Input should be greater than 0"),
        ({"scratch": None}, "give either 'init'"),
        ({"inputs": {"prompt_style": "clip"}}, "prompt_style 'clip' is unknown; use one of qwen2-vl, vlm2vec"),
        ({"scratch": {"tokenizer": "t", "num_heads": 3}}, "scratch: Value error, hidden_size must be a multiple"),
        ({"data": {}}, "data: Dictionary should have at least 1 item"),
    ],
)
def test_a_malformed_configuration_is_named_field_by_field(
    folder: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_config(_config(folder, **changes))


@pytest.mark.parametrize("loader_workers", [0, 1])
def test_a_row_that_cannot_be_read_stops_the_run_and_is_named(folder: Path, loader_workers: int) -> None:
    (folder / "blue.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(folder / 'image.jsonl'))}:3: .*blue.png"):
        _run(_config(folder, loader_workers=loader_workers))


def test_a_run_that_goes_on_keeps_the_settings_of_its_checkpoint(folder: Path) -> None:
    inputs = {"prompt_style": "vlm2vec", "pooling": "mean", "max_pixels": 3136, "num_frames": 2}
    _run(_config(folder, steps=1, inputs=inputs))
    _run(_config(folder, out="more", init="out", scratch=None, steps=1, inputs={"num_frames": 1}))
    settings = Embedder.load(folder / "more", device="cpu").settings
    assert (settings.prompt_style, settings.pooling, settings.max_pixels) == ("vlm2vec", "mean", 3136)
    assert settings.num_frames == 1


def test_line_separators_inside_a_text_do_not_end_a_row(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"query": "a\u2028b", "positive": "c"}\n', "utf-8")
    assert [pair.query.text for pair in read_pairs(tmp_path / "pairs.jsonl")] == ["a\u2028b"]


def test_a_loss_that_is_no_number_stops_the_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm2vec.training.loop.normalize", lambda x: x * torch.nan)
    with pytest.raises(ConfigError, match="the loss of step 0 is nan"):
        _run(_config(folder))


def test_paths_of_a_configuration_are_relative_to_it(folder: Path) -> None:
    config: TrainConfig = read_config(_config(folder))
    assert (config.out, config.data["image"].path) == (folder / "out", folder / "image.jsonl")
