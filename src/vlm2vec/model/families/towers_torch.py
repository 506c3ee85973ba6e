"""The two towers as modules of torch, and the heads that put both into one space: to train them and to export them.

Images: EfficientNet-Lite (arXiv 1905.11946; without squeeze-and-excitation, with ReLU6). Texts: BERT's encoder (arXiv
1810.04805), mean pooled, as sentence-transformers uses MiniLM. Published weights of both are loaded by their names.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from vlm2vec.errors import ModelError

Tower = TypeVar("Tower", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class ImageShape:
    """The shape of an image tower.

    Args:
        stem: channels behind the first convolution.
        stages: for each its number of blocks, kernel, stride of the first block, expansion and channels.
        num_features: channels behind the last convolution.
        num_classes: that it was trained to tell apart.
    """

    stem: int
    stages: tuple[tuple[int, int, int, int, int], ...]
    num_features: int
    num_classes: int


@dataclass(frozen=True, slots=True)
class TextShape:
    """The shape of a text tower.

    Args:
        num_tokens: of the vocabulary.
        num_positions: the longest sequence.
        dim: of a token's state, and of a vector.
        num_layers, num_heads, hidden: of the encoder.
    """

    num_tokens: int
    num_positions: int
    dim: int
    num_layers: int
    num_heads: int
    hidden: int


LITE0 = ImageShape(
    stem=32,
    stages=(
        *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
        *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
    ),
    num_features=1280,
    num_classes=1000,
)
MINILM = TextShape(num_tokens=30_522, num_positions=512, dim=384, num_layers=6, num_heads=12, hidden=1536)

PIXEL_MEAN, PIXEL_SPREAD = 127.0, 128.0
"""Of a pixel from 0 to 255, as EfficientNet-Lite was trained."""
BATCH_NORM_EPS = 1e-3
LAYER_NORM_EPS = 1e-12


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and behind a row of `size` pixels, as TensorFlow's "SAME": the larger half comes behind."""
    whole = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return whole // 2, whole - whole // 2


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm and, if it is `active`, ReLU6."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, *, groups: int = 1, active: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out, eps=BATCH_NORM_EPS, momentum=0.01)
        self.active = active

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Padded by `same_padding`."""
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        rows, columns = (same_padding(size, kernel, stride) for size in x_NCHW.shape[2:])
        y: Tensor = self.norm(self.conv(F.pad(x_NCHW, [*columns, *rows])))
        return F.relu6(y) if self.active else y


class MobileBlock(nn.Module):
    """Expansion, depthwise convolution, projection; with the input added where shapes allow it."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand = ConvNorm(channels, wide, 1) if expansion != 1 else None
        self.depthwise = ConvNorm(wide, wide, kernel, stride, groups=wide)
        self.project = ConvNorm(wide, out, 1, active=False)
        self.is_residual = stride == 1 and channels == out

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The block's output, of its own number of channels."""
        wide = x_NCHW if self.expand is None else self.expand(x_NCHW)
        y: Tensor = self.project(self.depthwise(wide))
        return x_NCHW + y if self.is_residual else y


class ImageTower(nn.Module):
    """EfficientNet-Lite with its class head."""

    def __init__(self, shape: ImageShape = LITE0) -> None:
        super().__init__()
        self.shape = shape
        self.stem = ConvNorm(3, shape.stem, 3, 2)
        blocks: list[MobileBlock] = []
        channels = shape.stem
        for count, kernel, stride, expansion, out in shape.stages:
            for index in range(count):
                blocks.append(MobileBlock(channels, out, kernel, stride if index == 0 else 1, expansion))
                channels = out
        self.blocks = nn.ModuleList(blocks)
        self.last = ConvNorm(channels, shape.num_features, 1)
        self.classes = nn.Linear(shape.num_features, shape.num_classes)

    def forward(self, pixels_N3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, F] and logits of the classes [N, C] of uint8 pixels."""
        x = self.stem((pixels_N3HW.float() - PIXEL_MEAN) / PIXEL_SPREAD)
        for block in self.blocks:
            x = block(x)
        features = self.last(x).mean((2, 3))
        return features, self.classes(features)


class EncoderLayer(nn.Module):
    """One layer of BERT's encoder: attention, then a feed-forward net, each with its norm behind it."""

    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        self.num_heads = shape.num_heads
        self.query, self.key, self.value, self.output = (nn.Linear(shape.dim, shape.dim) for _ in range(4))
        self.attention_norm = nn.LayerNorm(shape.dim, eps=LAYER_NORM_EPS)
        self.up, self.down = nn.Linear(shape.dim, shape.hidden), nn.Linear(shape.hidden, shape.dim)
        self.norm = nn.LayerNorm(shape.dim, eps=LAYER_NORM_EPS)

    def forward(self, x_NTD: Tensor, mask_NT: Tensor) -> Tensor:
        """States of the tokens; those that the mask leaves out are seen by no other."""
        parts = (part(x_NTD).unflatten(-1, (self.num_heads, -1)) for part in (self.query, self.key, self.value))
        q, k, v = (part.transpose(1, 2) for part in parts)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_NT.bool()[:, None, None])
        x_NTD = self.attention_norm(x_NTD + self.output(attended.transpose(1, 2).flatten(2)))
        y: Tensor = self.norm(x_NTD + self.down(F.gelu(self.up(x_NTD))))
        return y


class TextTower(nn.Module):
    """BERT's encoder, mean pooled."""

    def __init__(self, shape: TextShape = MINILM) -> None:
        super().__init__()
        self.shape = shape
        self.tokens = nn.Embedding(shape.num_tokens, shape.dim)
        self.positions = nn.Embedding(shape.num_positions, shape.dim)
        # Of the first and only segment.
        self.segment = nn.Embedding(1, shape.dim)
        self.norm = nn.LayerNorm(shape.dim, eps=LAYER_NORM_EPS)
        self.layers = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.num_layers))

    def forward(self, ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """The mean state [N, D] of the tokens whose mask is 1; not scaled."""
        x = self.tokens(ids_NT) + self.positions.weight[: ids_NT.shape[1]] + self.segment.weight
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, mask_NT)
        weights = mask_NT[..., None].to(x.dtype)
        mean: Tensor = (x * weights).sum(1) / weights.sum(1)
        return mean


class ImageHead(nn.Module):
    """From the image tower's features and classes to a vector.

    Two halves, each scaled to length one, go through one last map. The first is the mean of the vectors of class names,
    weighted by the classes' probabilities (ConSE, arXiv 1312.5650): it carries over what the tower knows of
    photographs. The second is learned from features: it knows the rest.

    Args:
        num_features, num_classes: of the tower.
        hidden: units of the second half.
        dim: of a vector.
        names_dim: of the vectors of class names, which `names.weight` [names_dim, num_classes] holds as its columns.
        temperature: that logits are divided by.
        scale_known: whether the first half is scaled as the second is; else it is the shorter, the less sure the
            classes are.
        noise: in training, added to features; a share of each feature's size in the batch.
        dropout: in training, of features and of hidden units.
    """

    def __init__(
        self,
        num_features: int = 1280,
        num_classes: int = 1000,
        hidden: int = 1024,
        dim: int = 384,
        names_dim: int = 384,
        temperature: float = 1.5,
        scale_known: bool = True,
        noise: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.temperature, self.scale_known = temperature, scale_known
        self.noise, self.dropout = noise, nn.Dropout(dropout)
        self.names = nn.Linear(num_classes, names_dim, bias=False)
        self.up = nn.Linear(num_features, hidden)
        self.down = nn.Linear(hidden, names_dim)
        self.joined = nn.Linear(2 * names_dim, dim)

    def forward(self, features_NF: Tensor, logits_NC: Tensor) -> Tensor:
        """Vectors [N, D], not scaled."""
        known = self.names(F.softmax(logits_NC / self.temperature, dim=-1))
        if self.scale_known:
            known = F.normalize(known, dim=-1)
        if self.training and self.noise:
            features_NF = features_NF + self.noise * features_NF.std(0, correction=0) * torch.randn_like(features_NF)
        hidden = self.dropout(F.gelu(self.up(self.dropout(features_NF))))
        learned = F.normalize(self.down(hidden), dim=-1)
        vectors: Tensor = self.joined(torch.cat([known, learned], dim=-1))
        return vectors


class TextHead(nn.Module):
    """From the text tower's vector, scaled to length one, to one of the common space.

    Args:
        num_features: of the tower.
        dim: of a vector.
        hidden: units of a correction that is added to a linear map; 0: there is none.
    """

    def __init__(self, num_features: int = 384, dim: int = 384, hidden: int = 0) -> None:
        super().__init__()
        self.linear = nn.Linear(num_features, dim)
        self.up = nn.Linear(num_features, hidden) if hidden else None
        self.down = nn.Linear(hidden, dim) if hidden else None

    def forward(self, features_NF: Tensor) -> Tensor:
        """Vectors [N, D], not scaled."""
        x = F.normalize(features_NF, dim=-1)
        vectors: Tensor = self.linear(x)
        if self.up is not None and self.down is not None:
            vectors = vectors + self.down(F.gelu(self.up(x)))
        return vectors


def load_image_tower(path: Path, shape: ImageShape = LITE0) -> ImageTower:
    """An image tower with the weights of a `.pth` file as the package efficientnet-lite-pytorch names them.

    Raises:
        ModelError: the file cannot be read, or does not fit the shape.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise ModelError(f"{path} cannot be read as weights of torch: {error}") from None
    return _filled(ImageTower(shape), {_image_name(name): value for name, value in stored.items()}, path)


def load_text_tower(path: Path, shape: TextShape = MINILM) -> TextTower:
    """A text tower with the weights of a `.safetensors` file as transformers' BertModel names them.

    Raises:
        ModelError: the file cannot be read, or does not fit the shape.
    """
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read as weights: {error}") from None
    kept = {_text_name(name): value for name, value in stored.items() if not _IDLE.match(name)}
    if "segment.weight" in kept:
        kept["segment.weight"] = kept["segment.weight"][:1]
    return _filled(TextTower(shape), kept, path)


_IDLE = re.compile(r"pooler\.|embeddings\.position_ids$")
_IMAGE_NAMES = {"conv_stem": "stem.conv", "bn0": "stem.norm", "conv_head": "last.conv", "bn1": "last.norm"}
_BLOCK_NAMES = {
    "expand_conv": "expand.conv", "bn0": "expand.norm", "depthwise_conv": "depthwise.conv",
    "bn1": "depthwise.norm", "project_conv": "project.conv", "bn2": "project.norm",
}  # fmt: skip
_EMBEDDING_NAMES = {
    "word_embeddings": "tokens", "position_embeddings": "positions", "token_type_embeddings": "segment",
    "LayerNorm": "norm",
}  # fmt: skip
_LAYER_NAMES = {
    "attention.self.query": "query", "attention.self.key": "key", "attention.self.value": "value",
    "attention.output.dense": "output", "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "up", "output.dense": "down", "output.LayerNorm": "norm",
}  # fmt: skip


def _image_name(name: str) -> str:
    if found := re.fullmatch(r"_blocks\.(\d+)\._(\w+)\.(\w+)", name):
        return f"blocks.{found[1]}.{_BLOCK_NAMES.get(found[2], found[2])}.{found[3]}"
    first, _, last = name.removeprefix("_").partition(".")
    return f"{'classes' if first == 'fc' else _IMAGE_NAMES.get(first, first)}.{last}"


def _text_name(name: str) -> str:
    if found := re.fullmatch(r"embeddings\.(\w+)\.(\w+)", name):
        return f"{_EMBEDDING_NAMES.get(found[1], found[1])}.{found[2]}"
    if found := re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)\.(\w+)", name):
        return f"layers.{found[1]}.{_LAYER_NAMES.get(found[2], found[2])}.{found[3]}"
    return name


def _filled(module: Tower, weights: Mapping[str, Tensor], path: Path) -> Tower:
    try:
        module.load_state_dict({name: value.float() for name, value in weights.items()})
    except RuntimeError as error:
        raise ModelError(f"the weights of {path} do not fit the tower: {error}") from None
    return module.eval()
