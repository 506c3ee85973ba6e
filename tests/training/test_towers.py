"""The trainer trains the heads of two towers as it trains any other family."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from support.tiny_towers import make_trainable
from support.train_files import COLOURS, run_of, write_config, write_data
from vlm2vec.errors import ConfigError, VLM2VecError
from vlm2vec.model.embedder import Embedder

HEADS = {
    "scratch": None,
    "inputs": {"num_frames": 2},
    "freeze": ["image_tower", "text_tower"],
    "loss": {"temperature": 0.1, "mask_same_label": True, "matryoshka": [32, 16]},
    "steps": 60,
    "learning_rate": 0.01,
}


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A folder with data, and a model to start from."""
    write_data(tmp_path)
    make_trainable(tmp_path / "start")
    return tmp_path


def test_heads_learn_while_towers_stay_and_the_model_is_exported(begun: Path) -> None:
    reports = run_of(write_config(begun, init=str(begun / "start"), **HEADS))
    assert np.mean([one.loss for one in reports[-5:]]) < 0.8 * np.mean([one.loss for one in reports[:5]])
    before, after = (load_file(begun / name / "model.safetensors") for name in ("start", "out"))
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"image_head", "text_head"}
    model = Embedder.load(begun / "out")
    words, pictures = model.encode(COLOURS), model.encode([begun / f"{colour}.png" for colour in COLOURS])
    right = (words @ pictures.T).argmax(1) == np.arange(len(COLOURS))
    started = Embedder.load(begun / "start")
    chance = started.encode(COLOURS) @ started.encode([begun / f"{colour}.png" for colour in COLOURS]).T
    # Towers drawn at random see little.
    assert right.sum() >= 3 > (chance.argmax(1) == np.arange(len(COLOURS))).sum()
    assert model.capabilities.matryoshka_dims == (32, 16)


def test_a_run_that_was_cut_off_continues_to_the_same_weights(begun: Path) -> None:
    short = HEADS | {"steps": 6, "init": str(begun / "start"), "save_every": 3}
    run_of(write_config(begun, out="whole", **short))
    run_of(write_config(begun, out="part", **short))
    (begun / "part" / "README.md").unlink()
    run_of(begun / "part.yaml", resume=True)
    whole, part = (load_file(begun / name / "model.safetensors") for name in ("whole", "part"))
    assert all(torch.equal(whole[name], part[name]) for name in whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": ["visual"]}, r"freeze: this model has no part 'visual'; it has image_tower, text_tower"),
        ({"freeze": ["image_tower", "text_tower", "image_head", "text_head"]}, "'freeze' leaves nothing to train"),
        ({"freeze": [], "adapter": {"rank": 4}}, "adapter: .* takes none"),
        ({"loss": {"token_dim": 8}}, r"loss\.token_dim: .* has no vectors of tokens"),
        ({"inputs": {"max_pixels": 3136}}, "max_pixels=3136: this model looks at every picture"),
        ({"data": {"image": {"path": "image.jsonl", "max_pixels": 3136}}}, "source 'image': max_pixels=3136"),
    ],
)
def test_what_such_a_model_has_not_is_refused(begun: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises((ConfigError, VLM2VecError), match=message):
        run_of(write_config(begun, **(HEADS | {"init": str(begun / "start")} | changes)))
