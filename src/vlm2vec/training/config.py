"""Which fields has a training run? They are checked before anything is loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from vlm2vec.errors import ConfigError
from vlm2vec.model.checkpoint import SHIPPED
from vlm2vec.model.prompts import STYLES
from vlm2vec.sources.config import read_sources, read_yaml
from vlm2vec.sources.forms import SourceConfig


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    return path if info.context is None else Path(info.context, path)


def _beside_or_named(init: str, info: ValidationInfo) -> str:
    """A folder as an absolute path; otherwise a name: "tiny", or one of the hub."""
    if init in SHIPPED or info.context is None:
        return init
    # By `os.path`, which calls a name that is too long none of a folder, where Path raises.
    place = Path(info.context, os.path.expanduser(init))
    # Where "runs" lies beside the configuration, "runs/first" is no name of the hub, even if the run is missing; nor is
    # a folder of the current directory, to which no path in a configuration is relative.
    looks_like_a_path = len(Path(init).parts) > 2 or init.startswith((".", "~")) or os.path.isdir(init)
    is_path = os.path.isdir(place) or looks_like_a_path or ("/" in init and os.path.isdir(place.parent))
    return str(place) if is_path else init


_Place = Annotated[Path, AfterValidator(_beside_the_file)]
"""A path, relative to the configuration file that is being read."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scratch(_Strict):
    """Shape of a Qwen2-VL model with random weights."""

    tokenizer: _Place
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


class Adapter(_Strict):
    """LoRA or DoRA (arXiv 2106.09685, 2402.09353). Defaults: the published code's, with its first list of targets."""

    rank: PositiveInt = 16
    alpha: PositiveFloat = 64
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    dora: bool = True
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "down_proj")


class _Inputs(_Strict):
    """How items are written down and pooled and how large pictures may be; saved with the model.

    A field that is left out is as in the checkpoint that training starts from; a new model has style `qwen2-vl` and
    otherwise VLM2Vec-V2's published values.
    """

    prompt_style: str | None = None
    pooling: Literal["last", "mean"] | None = None
    min_pixels: PositiveInt | None = None
    max_pixels: PositiveInt | None = None
    max_frame_pixels: PositiveInt | None = None
    num_frames: PositiveInt | None = None

    @model_validator(mode="after")
    def _style_exists(self) -> _Inputs:
        if self.prompt_style is not None and self.prompt_style not in STYLES:
            raise ValueError(f"prompt_style {self.prompt_style!r} is unknown; use one of {', '.join(sorted(STYLES))}")
        return self


class Loss(_Strict):
    """InfoNCE. The defaults are the published loss: one direction, fixed temperature, nothing masked.

    Args:
        temperature: of sources that have none of their own; `learn_temperature` trains a factor on all of them.
        symmetric: average with the direction from documents to queries.
        center: subtract the mean of the batch from the vectors before they are scaled to length one.
        mask_same_content, mask_same_label: documents of the same content as the query's positive, or positives of rows
            with the same label, do not count as negatives.
        mask_margin: nor do documents that score above the positive by more than this.
        matryoshka: numbers of leading dimensions that are trained to work alone; name the full one too.
        token_dim: train token vectors of so many dimensions as well, for late interaction; `token_weight` times their
            loss is added.
    """

    temperature: PositiveFloat = 0.02
    learn_temperature: bool = False
    symmetric: bool = False
    center: bool = False
    mask_same_content: bool = False
    mask_same_label: bool = False
    mask_margin: NonNegativeFloat | None = None
    matryoshka: tuple[PositiveInt, ...] = ()
    token_dim: PositiveInt | None = None
    token_weight: PositiveFloat = 1.0


class Teacher(_Strict):
    """A larger model whose vectors are cached, and its weight beside the contrastive loss.

    Args:
        vectors: folder of them, by content (`vlm2vec.write_teacher`). Items that it does not
            hold are not compared.
        regression: weight of one minus the cosine between a linear map of our vector and the teacher's.
        similarity: weight of the divergence of our similarities within a batch from the teacher's.
        temperature: of the softmax over both.
    """

    vectors: _Place
    regression: NonNegativeFloat = 1.0
    similarity: NonNegativeFloat = 1.0
    temperature: PositiveFloat = 0.05


class Validation(_Strict):
    """Held-out pairs, ranked every so many steps against `pool` documents. `allow_outside` as for a source."""

    path: _Place
    every: PositiveInt
    pool: PositiveInt = 500
    allow_outside: bool = False


class TrainConfig(_Strict):
    """A whole run. Paths are relative to the configuration file."""

    out: Annotated[_Place, AfterValidator(lambda path: path.resolve())]
    init: Annotated[str, AfterValidator(_beside_or_named)] | None = None
    scratch: Scratch | None = None
    adapter: Adapter | None = None
    freeze: tuple[
        Literal["visual", "language_model", "embed_tokens", "image_tower", "text_tower", "image_head", "text_head"], ...
    ] = ()
    inputs: _Inputs = _Inputs()
    data_root: _Place | None = None
    data: Annotated[dict[str, SourceConfig], Field(min_length=1)]
    stage_starts: tuple[PositiveInt, ...] = ()
    steps: PositiveInt
    batch_size: PositiveInt
    sub_batch: NonNegativeInt
    draw: Literal["even", "sampled"] = "even"
    token_budget: PositiveInt | None = None
    learning_rate: PositiveFloat
    decay: Literal["linear", "cosine"] = "linear"
    warmup_steps: NonNegativeInt = 0
    weight_decay: NonNegativeFloat = 0.0
    max_grad_norm: PositiveFloat = 1.0
    loss: Loss = Loss()
    teachers: dict[str, Teacher] = {}
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: NonNegativeInt = 42
    validation: Validation | None = None
    save_every: PositiveInt | None = None
    keep: PositiveInt = 3
    max_bad_rows: Annotated[float, Field(ge=0, le=1)] = 0.01
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    parallel: Literal["ddp", "fsdp"] = "ddp"
    processes: PositiveInt | None = None
    loader_workers: NonNegativeInt = 1

    @property
    def start(self) -> str | Scratch:
        """Where training starts: name or folder of a checkpoint, or the shape of a new model."""
        match self.init, self.scratch:
            case (str(init), None):
                return init
            case (None, Scratch() as scratch):
                return scratch
        raise ValueError("give either 'init' (a checkpoint to start from) or 'scratch' (the shape of a new model)")

    @model_validator(mode="after")
    def _fits(self) -> TrainConfig:
        _ = self.start
        if self.adapter is not None and self.scratch is not None:
            raise ValueError("an adapter on random weights learns little; leave out 'adapter' or give 'init'")
        if self.adapter is not None and self.freeze:
            raise ValueError("'freeze' has no effect with an adapter, which trains nothing but itself; leave it out")
        if {"visual", "language_model"} <= set(self.freeze):
            raise ValueError("'freeze' leaves nothing to train")
        return self


def read_config(path: Path) -> TrainConfig:
    """A configuration file, with its paths made absolute.

    Raises:
        ConfigError: the file is missing, no YAML, or a field is unknown, given twice, missing or out of range; each is
            named.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no fields; docs/training.md lists them")
    folder = path.parent.resolve()
    root = folder / values["data_root"] if isinstance(values.get("data_root"), str) else None
    if isinstance(values.get("data"), (str, dict)):
        try:
            values = values | {"data": read_sources(values["data"], root, folder)}
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
    try:
        return TrainConfig.model_validate(values, context=folder)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {problems}") from None
