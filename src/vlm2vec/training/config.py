"""What a training run is: the fields of `vlm2vec train CONFIG.yaml`, checked before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from vlm2vec.errors import ConfigError
from vlm2vec.model.prompts import STYLES


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scratch(_Strict):
    """Shape of a Qwen2-VL model with random weights."""

    tokenizer: Path
    hidden_size: PositiveInt = 256
    num_layers: PositiveInt = 6
    num_heads: PositiveInt = 4
    num_kv_heads: PositiveInt = 2
    intermediate_size: PositiveInt = 768
    vision_size: PositiveInt = 192
    vision_layers: PositiveInt = 6
    vision_heads: PositiveInt = 3

    @model_validator(mode="after")
    def _heads_fit(self) -> Scratch:
        if self.hidden_size % (16 * self.num_heads) or self.num_heads % self.num_kv_heads:
            raise ValueError("hidden_size must be a multiple of 16 * num_heads, and num_heads of num_kv_heads")
        if self.vision_size % (4 * self.vision_heads):
            raise ValueError("vision_size must be a multiple of 4 * vision_heads")
        return self


class Inputs(_Strict):
    """How items are written down and pooled and how large pictures may be; saved with the model.

    What is not given is as in the checkpoint that training goes on from; for a new model, style `qwen2-vl` and else as
    VLM2Vec-V2 was published.
    """

    prompt_style: str | None = None
    pooling: Literal["last", "mean"] | None = None
    min_pixels: PositiveInt | None = None
    max_pixels: PositiveInt | None = None
    num_frames: PositiveInt | None = None

    @model_validator(mode="after")
    def _style_exists(self) -> Inputs:
        if self.prompt_style is not None and self.prompt_style not in STYLES:
            raise ValueError(f"prompt_style {self.prompt_style!r} is unknown; use one of {', '.join(sorted(STYLES))}")
        return self


class Source(_Strict):
    """A JSONL file of pairs and its weight in the mixture."""

    path: Path
    weight: PositiveFloat = 1.0


class TrainConfig(_Strict):
    """A whole run. Paths are relative to the configuration file."""

    out: Path
    init: str | None = None
    scratch: Scratch | None = None
    inputs: Inputs = Inputs()
    data: Annotated[dict[str, Source], Field(min_length=1)]
    steps: PositiveInt
    batch_size: PositiveInt
    sub_batch: PositiveInt
    learning_rate: PositiveFloat
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: PositiveFloat = 1.0
    temperature: PositiveFloat = 0.02
    symmetric: bool = False
    center: bool = False
    mask_same_label: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 42
    save_every: PositiveInt | None = None
    loader_workers: Annotated[int, Field(ge=0)] = 1

    @model_validator(mode="after")
    def _one_origin(self) -> TrainConfig:
        if (self.init is None) == (self.scratch is None):
            raise ValueError("give either 'init' (a checkpoint to go on from) or 'scratch' (the shape of a new model)")
        return self


def read_config(path: Path) -> TrainConfig:
    """A configuration file, with its paths made absolute.

    Raises:
        ConfigError: the file is missing, no YAML, or a field is unknown, missing or out of range; each is named.
    """
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    try:
        config = TrainConfig.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {problems}") from None
    folder = path.parent.resolve()
    scratch, init = config.scratch, config.init
    return config.model_copy(
        update={
            "out": folder / config.out,
            # A folder if there is one, else a name for the hub.
            "init": str(folder / init) if init is not None and (folder / init).is_dir() else init,
            "scratch": scratch and scratch.model_copy(update={"tokenizer": folder / scratch.tokenizer}),
            "data": {
                name: source.model_copy(update={"path": folder / source.path}) for name, source in config.data.items()
            },
        }
    )
