"""Two towers as one module that can be trained: the towers may be frozen, so that their features are made once.

A folder of such a model holds what `towers` runs, and beside it the weights and shapes that training starts from.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from vlm2vec import media
from vlm2vec.documents import problems
from vlm2vec.errors import InputError, ModelError
from vlm2vec.items import Item
from vlm2vec.model.backbone import Ask, Capabilities, Output, Vectors
from vlm2vec.model.checkpoint import SETTINGS_FILE, Folders, Settings, read_json
from vlm2vec.model.families.towers import states_of_towers, with_wanted
from vlm2vec.model.families.towers_export import export
from vlm2vec.model.families.towers_features import FrozenFeatures
from vlm2vec.model.families.towers_inputs import (
    ChunkedText,
    Looks,
    TowersConfig,
    TowersInput,
    TowersProcessor,
    read_towers_config,
)
from vlm2vec.model.families.towers_torch import ImageHead, ImageShape, ImageTower, TextHead, TextShape, TextTower
from vlm2vec.model.families.trainable import TrainableModule

if TYPE_CHECKING:
    from vlm2vec.media.sandbox import Decoder

WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True, slots=True)
class TowersShape:
    """The shapes of towers and heads, as a folder's config.json holds them.

    Args:
        image, text: of the towers.
        image_hidden, text_hidden: units of the heads' hidden layers.
        names_dim, temperature, scale_known: of the image head.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    image: ImageShape
    text: TextShape
    image_hidden: int = 1024
    text_hidden: int = 0
    names_dim: int = 384
    temperature: float = 1.5
    scale_known: bool = True


@dataclass(frozen=True, slots=True)
class TowersPack:
    """Several items. U pictures, C chunks of texts, T word pieces of the longest one.

    Args:
        pixels: uint8 [U, 3, H, W].
        ids, mask: int64 [C, T].
        items: for each its parts; of each whether it is of pictures, and how many units it has.
        lengths: cost of each item.
    """

    pixels: Tensor
    ids: Tensor
    mask: Tensor
    items: tuple[tuple[tuple[bool, int], ...], ...]
    lengths: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        """Their cost together."""
        return sum(self.lengths)

    @classmethod
    def of(cls, prepared: Sequence[TowersInput]) -> TowersPack:
        """Lay prepared items together."""
        parts = [part for one in prepared for part in one.parts]
        frames = [part.frames for part in parts if isinstance(part, Looks)]
        chunks = [chunk for part in parts if isinstance(part, ChunkedText) for chunk in part.chunks]
        ids = np.zeros((len(chunks), max(map(len, chunks), default=1)), np.int64)
        mask = np.zeros_like(ids)
        for row, chunk in enumerate(chunks):
            ids[row, : len(chunk)], mask[row, : len(chunk)] = chunk, 1
        return cls(
            pixels=torch.from_numpy(np.concatenate(frames) if frames else np.empty((0, 3, 1, 1), np.uint8)),
            ids=torch.from_numpy(ids),
            mask=torch.from_numpy(mask),
            items=tuple(tuple(map(_units_of, one.parts)) for one in prepared),
            lengths=tuple(one.cost for one in prepared),
        )

    def to(self, device: torch.device) -> TowersPack:
        """The same on a device."""
        return replace(self, pixels=self.pixels.to(device), ids=self.ids.to(device), mask=self.mask.to(device))


class TowersProcessorInTraining(TowersProcessor):
    """The same, and lays items together for torch."""

    def pack(self, prepared: Sequence[TowersInput]) -> TowersPack:
        """Pictures and chunks of all items laid together."""
        return TowersPack.of(prepared)

    def within(self, max_pixels: int | None) -> TowersProcessorInTraining:
        """Itself: all pictures are of one size.

        Raises:
            InputError: a limit is asked for.
        """
        if max_pixels is not None:
            raise InputError(f"max_pixels={max_pixels}: this model looks at all pictures in one size; leave it out")
        return self


class TowersVectors(NamedTuple):
    """The vectors of a pack [N, D], not scaled; of tokens there are none."""

    pooled: Tensor
    tokens: None = None


class TrainableTowers(TrainableModule):
    """Both towers with their heads. Batch norms keep the statistics that they were trained with.

    Args:
        config: that holds.
        shape: of towers and heads; their weights are drawn at random.
        folder: that holds the tokenizer, and perhaps a model whose weights these will be.
    """

    processor: TowersProcessorInTraining
    device_place: Tensor

    def __init__(self, config: TowersConfig, shape: TowersShape, folder: Path) -> None:
        super().__init__()
        self.config, self.shape, self.folder = config, shape, folder
        self.processor = TowersProcessorInTraining(folder, config)
        self.settings = Settings(normalize=True, num_frames=config.video.num_frames)
        self.dim = config.dim
        self.token_head = None
        self.image_tower, self.text_tower = ImageTower(shape.image), TextTower(shape.text)
        self.image_head = ImageHead(
            shape.image.num_features,
            shape.image.num_classes,
            hidden=shape.image_hidden,
            dim=config.dim,
            names_dim=shape.names_dim,
            temperature=shape.temperature,
            scale_known=shape.scale_known,
        )
        self.text_head = TextHead(shape.text.dim, config.dim, shape.text_hidden)
        self._frozen = FrozenFeatures(self.image_tower, self.text_tower, config.image.size)
        self.register_buffer("device_place", torch.empty(0), persistent=False)

    # --- as any family

    @property
    def capabilities(self) -> Capabilities:
        """The kinds, dimensions and limits of this model."""
        return self.processor.capabilities(trainable=True)

    @property
    def device(self) -> str:
        """As torch names it."""
        return str(self.device_place.device)

    @property
    def dtype(self) -> str:
        """Of the weights."""
        return "float32"

    def states(self) -> Sequence[object]:
        """As of the same model run by ONNX Runtime, with the weights' file."""
        return states_of_towers(self.config, [self.folder / WEIGHTS_FILE, self.folder / self.config.text.tokenizer])

    def prepare(self, item: Item, ask: Ask = Ask(), *, decoder: Decoder = media) -> TowersInput:
        """As `TowersProcessor.prepare`."""
        return self.processor.prepare(item, ask, decoder=decoder)

    def weigh(self, item: Item, *, decoder: Decoder = media) -> int:
        """As `TowersProcessor.weigh`."""
        return self.processor.weigh(item, decoder=decoder)

    def pack(self, prepared: Sequence[TowersInput]) -> TowersPack:
        """Pictures and chunks of all items laid together."""
        return TowersPack.of(prepared)

    def encode(self, packs: Iterable[TowersPack], output: Output) -> Iterator[list[Vectors]]:
        """A vector [D] for each input of each pack.

        Raises:
            ModelError: vectors of tokens are asked for.
        """
        if output == "tokens":
            raise ModelError("a model of two towers has no vectors of tokens")
        for pack in packs:
            with torch.inference_mode():
                yield list(self(pack.to(self.device_place.device)).pooled.float().cpu().numpy())

    # --- as a family that is trained

    def parameter_parts(self) -> Mapping[str, nn.Module]:
        """Both towers and both heads."""
        names = ("image_tower", "text_tower", "image_head", "text_head")
        return {name: self.get_submodule(name) for name in names}

    def frozen_features(self, batch: TowersPack) -> Tensor | None:
        """Both towers' features of a pack, one behind the other, without graph; None if a tower is trained.

        On a CPU those of equal pictures and chunks are made once.
        """
        towers = (self.image_tower, self.text_tower)
        if any(parameter.requires_grad for tower in towers for parameter in tower.parameters()):
            return None
        if self.device_place.device.type == "cpu":
            lengths = batch.mask.sum(1).tolist()
            chunks = [row[:length] for row, length in zip(batch.ids.numpy(), lengths, strict=True)]
            found = self._frozen.of(batch.pixels.numpy(), chunks)
            return torch.from_numpy(np.concatenate([part.ravel() for part in found]))
        with torch.no_grad():
            return torch.cat([part.flatten() for part in self._features(batch)])

    def train(self, mode: bool = True) -> TrainableTowers:
        """Heads are trained with noise and dropout; towers have none, and their batch norms stay as they are."""
        super().train(mode)
        self.image_tower.eval()
        return self

    def forward(self, batch: TowersPack, features: Tensor | None = None) -> TowersVectors:
        """Vectors of the items of a pack.

        Args:
            features: of this pack by `frozen_features`.
        """
        if features is None:
            looks, words = self._features(batch)
        else:
            num_looks, num_words = self.shape.image.num_features, self.shape.text.dim
            first, second = features.split([len(batch.pixels) * num_looks, len(batch.ids) * num_words])
            looks, words = first.view(-1, num_looks), second.view(-1, num_words)
        image_UD = self.image_head(looks, self.image_tower.classes(looks))
        text_CD = self.text_head(words)
        return TowersVectors(self._pooled(batch, image_UD, text_CD))

    def _features(self, batch: TowersPack) -> tuple[Tensor, Tensor]:
        """[U, F] of the pictures and [C, D] of the chunks."""
        num_looks, num_words = self.shape.image.num_features, self.shape.text.dim
        place = self.device_place
        looks = self.image_tower(batch.pixels)[0] if len(batch.pixels) else place.new_empty(0, num_looks)
        words = self.text_tower(batch.ids, batch.mask) if len(batch.ids) else place.new_empty(0, num_words)
        return looks, words

    def _pooled(self, batch: TowersPack, image_UD: Tensor, text_CD: Tensor) -> Tensor:
        """[N, D]; by the rules of `towers_inputs`."""
        seen = read = 0
        pooled: list[Tensor] = []
        lengths = batch.mask.sum(1).to(text_CD.dtype)
        for parts in batch.items:
            vectors: list[Tensor] = []
            for is_looks, count in parts:
                if is_looks:
                    vectors.append(self._pooled_frames(image_UD[seen : seen + count]))
                    seen += count
                else:
                    weights = lengths[read : read + count]
                    vectors.append(_weighted_mean(text_CD[read : read + count], weights))
                    read += count
            together = torch.stack(vectors)
            pooled.append(together[0] if len(vectors) == 1 else F.normalize(together, dim=-1).mean(0))
        return torch.stack(pooled)

    def _pooled_frames(self, vectors_UD: Tensor) -> Tensor:
        if len(vectors_UD) == 1:
            return vectors_UD[0]
        scaled = F.normalize(vectors_UD, dim=-1)
        return scaled.amax(0) if self.config.video.pool == "max" else scaled.mean(0)

    # --- files

    @staticmethod
    def processor_of(folders: Folders, wanted: Settings) -> TowersProcessorInTraining:
        """The processor of a folder, without the weights.

        Raises:
            ModelError, InputError: as `load_trainable`.
        """
        return TowersProcessorInTraining(folders.base, with_wanted(read_towers_config(folders.base), wanted))

    def stored_weights(self) -> Mapping[str, Tensor]:
        """Those of all four parts."""
        return self.state_dict()

    def save(self, folder: Path) -> None:
        """Write all that a model of this family consists of: for training, and exported for `towers`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.write(folder, self.stored_weights())

    def write(self, folder: Path, weights: Mapping[str, Tensor] | None) -> None:
        """Weights in float32, shapes, tokenizer, `vlm2vec.json`, and both towers exported."""
        if weights is None:
            raise ModelError("a model of two towers takes no adapter")
        save_file({name: value.contiguous() for name, value in weights.items()}, folder / WEIGHTS_FILE)
        shape = {"model_type": "towers", **asdict(self.shape)}
        (folder / "config.json").write_text(json.dumps(shape, indent=1) + "\n", "utf-8")
        (folder / SETTINGS_FILE).write_text(self.config.model_dump_json(indent=1) + "\n", "utf-8")
        name = self.config.text.tokenizer
        if folder.resolve() != self.folder.resolve():
            shutil.copyfile(self.folder / name, folder / name)
        image, text = (self.image_tower, self.image_head), (self.text_tower, self.text_head)
        export(folder, image, text, self.config)


def load_trainable(folders: Folders, wanted: Settings) -> TrainableTowers:
    """The model of a folder that `TrainableTowers.save` has written, on the CPU in float32.

    Raises:
        ModelError: the folder lacks what training starts from, or is damaged.
        InputError: pixel limits are asked for, or the number of frames makes no sense.
    """
    folder = folders.base
    config = with_wanted(read_towers_config(folder), wanted)
    values = {name: value for name, value in read_json(folder / "config.json").items() if name != "model_type"}
    try:
        shape = TypeAdapter(TowersShape).validate_python(values)
    except ValidationError as error:
        raise ModelError(f"{folder / 'config.json'}: {'; '.join(problems(error))}") from None
    model = TrainableTowers(config, shape, folder)
    path = folder / WEIGHTS_FILE
    try:
        model.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"the weights of {path} cannot be loaded: {error}") from None
    return model


def _units_of(part: ChunkedText | Looks) -> tuple[bool, int]:
    return (True, len(part.frames)) if isinstance(part, Looks) else (False, len(part.chunks))


def _weighted_mean(vectors_CD: Tensor, weights_C: Tensor) -> Tensor:
    if len(vectors_CD) == 1:
        return vectors_CD[0]
    return (weights_C @ F.normalize(vectors_CD, dim=-1)) / weights_C.sum()
