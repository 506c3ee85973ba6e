"""What a configuration may say, and what its paths and names mean."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.places import ROOT
from support.train_files import write_config
from vlm2vec.errors import ConfigError, ModelError
from vlm2vec.sources.config import read_yaml
from vlm2vec.training.config import TrainConfig, read_config
from vlm2vec.training.trainee import Trainee


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
        "tiny": "tiny",
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
        Trainee.build(missing)


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
    assert read_yaml(folder / "mix.yaml") == {"a": {"weight": 1, "steps": 2}, "b": {"weight": 2, "steps": 2}}


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
