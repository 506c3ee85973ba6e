"""The Qwen2-VL backbone: transformers' modules and weights, run over packs instead of padded batches."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import QuickGELUActivation, SiLUActivation

from vlm2vec import media
from vlm2vec.errors import ModelError
from vlm2vec.items import Item, Kind
from vlm2vec.model.adapters import Naming, load_adapter
from vlm2vec.model.attention import Segments
from vlm2vec.model.backbone import Ask, Capabilities, Output, Vectors
from vlm2vec.model.checkpoint import Folders, Settings, read_json
from vlm2vec.model.families.qwen_inputs import (
    MERGE,
    PATCH_PX,
    PATCH_VALUES,
    TEMPORAL,
    Grid,
    PackedBatch,
    QwenVLInput,
    QwenVLProcessor,
)
from vlm2vec.model.families.trainable import TrainableModule
from vlm2vec.model.fingerprint import states_of_files
from vlm2vec.model.loading import choose_device, load_token_head, load_weights, no_progress_bar
from vlm2vec.model.similarity import normalize

if TYPE_CHECKING:
    from transformers import Qwen2VLModel

    from vlm2vec.media.sandbox import Decoder

# Raised when an item would get another vector, so that stored ones are not mistaken for new ones.
_PREPROCESSING = 2

# How the names of weights began in checkpoints and adapters of Transformers 4, and begin in those of whole models of 5.
_OLD_NAMES = {
    "model.language_model.": "language_model.",
    "model.visual.": "visual.",
    "model.layers.": "language_model.layers.",
    "model.norm.": "language_model.norm.",
    "model.embed_tokens.": "language_model.embed_tokens.",
}
_NAMINGS = (
    # Of the generation class of Transformers 5 (since 4.52), of that of 4, and of `Qwen2VLModel` alone.
    Naming({"model": ""}, has_head=True),
    Naming({"visual": "visual", "model": "language_model"}, has_head=True),
    Naming({"visual": "visual", "language_model": "language_model"}, has_head=False),
)

# Of the inner values of an MLP that are made at once, so that they stay in the cache. Beyond 32 MiB the C library asks
# the system for fresh pages each time, which costs more than the activation itself.
_PIECE_BYTES = 8 << 20
# A matrix product of fewer rows is slow.
_LEAST_ROWS = 128

# OpenAI CLIP's channel statistics, as in Qwen2-VL's preprocessor configuration.
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
_STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


def load(folders: Folders, wanted: Settings, *, device: str | None, dtype: str) -> QwenVLBackbone:
    """The model in evaluation mode on its device, with the settings that hold: wanted, else its own, else published.

    An adapter is folded into the weights in float32. In half precision it stays beside them, as published: merged
    weights would be rounded to about the size of the adapter's own change.

    Raises:
        ModelError: the checkpoint is of an unknown kind or incomplete, or there is no such device or dtype.
        InputError: pixel limits or number of frames make no sense.
    """
    on, precision = choose_device(device, dtype)
    settings = folders.settled(wanted)
    processor = QwenVLProcessor.of(folders, settings)
    _check_config(folders.base)
    from transformers import Qwen2VLModel

    model = load_weights(Qwen2VLModel, folders.base, precision, _OLD_NAMES)
    if folders.adapter is not None:
        exact = precision == torch.float32
        model = load_adapter(model, folders.adapter, _NAMINGS, _OLD_NAMES, merged=exact)
        if not exact:
            # `model.to` would round rotary frequencies too: half a radian at a distance of 400 tokens.
            for parameter in model.parameters():
                parameter.data = parameter.data.to(precision)
    backbone = QwenVLBackbone(model, processor, settings, folders)
    weight_ED = load_token_head(folders, backbone.dim)
    if weight_ED is not None:
        backbone.add_token_head(len(weight_ED)).weight.data = weight_ED.to(precision)
    return backbone.to(on).eval().requires_grad_(False)


class _Encoded(NamedTuple):
    """The output for a pack of N inputs and T tokens.

    Args:
        pooled: one vector an input, [N, D], not normalised.
        tokens: one vector of length one a token, [T, E], of a model with a token head; else None.
    """

    pooled: Tensor
    tokens: Tensor | None


class QwenVLBackbone(TrainableModule):
    """Qwen2-VL without language-model head, cache or padding: a `Backbone` too.

    The modules are called in an order of our own, so that adapters that wrap them work as usual. In the last decoder
    layer only the pooled token is computed when pooling takes the last token and there is no token head.

    Args:
        settings: that hold, all of them.
        folders: that it was loaded from, if it was.

    Attributes:
        token_head: gives every token a vector too, for late interaction (as ColBERT, arXiv 2004.12832); None: not.
    """

    processor: QwenVLProcessor
    pixel_table: Tensor

    def __init__(
        self, model: Qwen2VLModel, processor: QwenVLProcessor, settings: Settings, folders: Folders | None = None
    ) -> None:
        super().__init__()
        vision = model.config.vision_config
        shape = (vision.patch_size, vision.temporal_patch_size, vision.spatial_merge_size)
        if shape != (PATCH_PX, TEMPORAL, MERGE):
            raise ModelError(
                f"patch size, temporal patch, merge are {shape}: only {PATCH_PX, TEMPORAL, MERGE} is known"
            )
        self.model = model
        self.processor = processor
        self.settings = settings
        if settings.pooling not in ("last", "mean"):
            raise ModelError(f"pooling {settings.pooling!r} is unknown; use one of last, mean")
        self.pooling = settings.pooling
        self.dim: int = model.config.text_config.hidden_size
        self.token_head = None
        self._folders = folders
        self.register_buffer("pixel_table", torch.from_numpy(_normalization_table()), persistent=False)

    def add_token_head(self, token_dim: int) -> nn.Linear:
        """Give every token a vector of so many dimensions too; drawn at random until it is trained or loaded."""
        self.token_head = nn.Linear(self.dim, token_dim, bias=False, device=self.pixel_table.device)
        return self.token_head

    # --- as any family

    @property
    def capabilities(self) -> Capabilities:
        """The kinds, dimensions and limits of this checkpoint."""
        token_dim = None if self.token_head is None else self.token_head.out_features
        limit = self.processor.tokenizer.max_tokens
        return Capabilities(self.dim, token_dim, frozenset(get_args(Kind)), trainable=True, max_tokens=limit)

    @property
    def device(self) -> str:
        """As torch names it."""
        return str(self.pixel_table.device)

    @property
    def dtype(self) -> str:
        """Of the weights."""
        return str(self.model.dtype).removeprefix("torch.")

    def states(self) -> Sequence[object]:
        """Settings, the style's strings, dtype, limit of tokens, configurations, and the hashes of all files."""
        tokenizer, style = self.processor.tokenizer, self.processor.style.strings()
        files = [] if self._folders is None else states_of_files(self._folders, tokenizer.path)
        return [[_PREPROCESSING, self.settings.said(), style, f"torch.{self.dtype}", tokenizer.max_tokens], *files]

    def prepare(self, item: Item, ask: Ask = Ask(), *, decoder: Decoder = media) -> QwenVLInput:
        """As `QwenVLProcessor.prepare`."""
        return self.processor.prepare(item, ask, decoder=decoder)

    def pack(self, prepared: Sequence[QwenVLInput]) -> PackedBatch:
        """Lay prepared inputs end to end."""
        return PackedBatch.of(prepared)

    def encode(self, packs: Iterable[PackedBatch], output: Output) -> Iterator[list[Vectors]]:
        """Vectors as float32 arrays, for each pack those of each input."""
        device = self.pixel_table.device
        launched: list[tuple[_Encoded, tuple[int, ...]]] = []
        for batch in packs:
            with torch.inference_mode():
                launched.append((self(batch.to(device)), batch.segments.lengths))
            # To read vectors is to wait for a GPU: first it gets the next pack.
            if device.type == "cpu" or len(launched) == 2:
                yield _arrays(*launched.pop(0), output)
        for last in launched:
            yield _arrays(*last, output)

    # --- as a family that is trained

    def parameter_parts(self) -> Mapping[str, nn.Module]:
        """The vision tower, the decoder and, within it, the embeddings of tokens."""
        language = self.model.language_model
        return {"visual": self.model.visual, "language_model": language, "embed_tokens": language.embed_tokens}

    def stored_weights(self) -> Mapping[str, Tensor]:
        """Those of transformers' module, by its names."""
        weights: dict[str, Tensor] = self.model.state_dict()
        return weights

    def write(self, folder: Path, weights: Mapping[str, Tensor] | None) -> None:
        """Weights in float16, tokenizer and `vlm2vec.json`."""
        if weights is not None:
            halves = {name: x.to(torch.float16) for name, x in weights.items()}
            with no_progress_bar():
                self.model.save_pretrained(str(folder), state_dict=halves)
            values = read_json(folder / "config.json") | {"dtype": "float16"}
            (folder / "config.json").write_text(json.dumps(values, indent=1) + "\n", "utf-8")
        self.processor.tokenizer.copy_to(folder)
        self.settings.write(folder)

    def frozen_features(self, batch: PackedBatch) -> Tensor | None:
        """`visual_features` of a pack, without graph, if it holds media and no parameter of the tower is trained."""
        if not batch.grids or any(parameter.requires_grad for parameter in self.model.visual.parameters()):
            return None
        with torch.no_grad():
            return self.visual_features(batch.patches, batch.grids)

    def forward(self, batch: PackedBatch, features_VD: Tensor | None = None) -> _Encoded:
        """Pooled states of the final norm, and token vectors if there is a head for them.

        Args:
            features_VD: of this pack by `visual_features`, to save computing them again.
        """
        x_TD = self.model.language_model.embed_tokens(batch.input_ids)
        if batch.grids:
            if features_VD is None:
                features_VD = self.visual_features(batch.patches, batch.grids)
            x_TD = x_TD.index_copy(0, batch.visual_at, features_VD.to(x_TD.dtype))
        return self.decode(x_TD, batch.positions, batch.segments)

    def visual_features(self, patches: Tensor, grids: Sequence[Grid]) -> Tensor:
        """Features of all media of a pack, [V, D], from uint8 patches [P, 1176]."""
        visual = self.model.visual
        heads = self.model.config.vision_config.num_heads
        x_PD = self._embed_patches(patches)
        rotation = self._vision_rotation(grids, x_PD.device)
        # Attention stays inside one time step of one medium, as in Qwen2-VL.
        segments = Segments(tuple(grid.h * grid.w for grid in grids for _ in range(grid.t)))
        for block in visual.blocks:
            qkv = block.attn.qkv(block.norm1(x_PD)).unflatten(-1, (3, heads, -1))
            q, k, v = qkv.unbind(1)
            # Rotated in float32, as transformers does for vision.
            q, k = (_rotate(x.float(), *rotation).to(x.dtype) for x in (q, k))
            x_PD = x_PD + block.attn.proj(segments.attend(q, k, v, causal=False).flatten(1))
            x_PD = x_PD + _feed_forward(block.mlp, block.norm2(x_PD))
        merged: Tensor = visual.merger(x_PD)
        return merged

    def decode(self, x_TD: Tensor, positions: Tensor, segments: Segments) -> _Encoded:
        """Run the decoder over token embeddings [T, D] and pool."""
        language = self.model.language_model
        config = self.model.config.text_config
        head_dim = config.hidden_size // config.num_attention_heads
        rotation = self._text_rotation(positions, x_TD.dtype)
        only_last = self.pooling == "last" and self.token_head is None
        for index, layer in enumerate(language.layers):
            attention = layer.self_attn
            normed = layer.input_layernorm(x_TD)
            v = attention.v_proj(normed).unflatten(-1, (-1, head_dim))
            # Under autocast the states are float32 and so is the rotated key; attention takes the projections' dtype.
            k = _rotate(attention.k_proj(normed).unflatten(-1, (-1, head_dim)), *rotation).to(v.dtype)
            is_end = index == len(language.layers) - 1 and only_last
            if is_end:
                # Nothing reads the other tokens' states any more: one query a sequence is enough.
                x_TD, normed, *rotation = (segments.last(t) for t in (x_TD, normed, *rotation))
            q = _rotate(attention.q_proj(normed).unflatten(-1, (-1, head_dim)), *rotation).to(v.dtype)
            attended = segments.attend_last(q, k, v) if is_end else segments.attend(q, k, v, causal=True)
            x_TD = x_TD + attention.o_proj(attended.flatten(1))
            x_TD = x_TD + _feed_forward(layer.mlp, layer.post_attention_layernorm(x_TD))
        states = language.norm(x_TD)
        if only_last:
            return _Encoded(states, None)
        pooled = segments.last(states) if self.pooling == "last" else segments.mean(states)
        return _Encoded(pooled, None if self.token_head is None else normalize(self.token_head(states)))

    def _embed_patches(self, patches: Tensor) -> Tensor:
        projection = self.model.visual.patch_embed.proj
        pixels = _normalize_patches(patches, self.pixel_table).to(projection.weight.dtype)
        if type(projection) is not nn.Conv3d:
            # Wrapped by an adapter, which acts in its own forward.
            embedded: Tensor = projection(pixels.view(-1, 3, TEMPORAL, PATCH_PX, PATCH_PX)).flatten(1)
            return embedded
        # The convolution's stride is its kernel, so it is a linear layer; as Conv3d it is far slower on some devices.
        return nn.functional.linear(pixels, projection.weight.view(-1, PATCH_VALUES))

    def _vision_rotation(self, grids: Sequence[Grid], device: torch.device) -> tuple[Tensor, Tensor]:
        inv_freq = self.model.visual.rotary_pos_emb.inv_freq.float()
        rows_columns = torch.from_numpy(np.concatenate([_patch_places(grid) for grid in grids], axis=1)).to(device)
        angles = rows_columns[..., None].float() * inv_freq
        return _rotation(torch.cat([angles[0], angles[1]], dim=-1))

    def _text_rotation(self, positions: Tensor, dtype: torch.dtype) -> list[Tensor]:
        rotary = self.model.language_model.rotary_emb
        sections = self.model.config.text_config.rope_parameters["mrope_section"]
        angles = positions[..., None].float() * rotary.inv_freq.float()
        # Each frequency belongs to one of time, row and column.
        parts = angles.split(sections, dim=-1)
        angles = torch.cat([part[axis % 3] for axis, part in enumerate(parts)], dim=-1)
        return [factor.to(dtype) for factor in _rotation(angles, rotary.attention_scaling)]


def _normalization_table() -> NDArray[np.float32]:
    """Normalised value of every uint8 value, [3 channels, 256].

    Scaling goes through float64 and the rest through float32, which gives the published pixels to the bit.
    """
    scaled = (np.arange(256, dtype=np.float64) * (1 / 255)).astype(np.float32)
    table: NDArray[np.float32] = (scaled[None, :] - _MEAN[:, None]) / _STD[:, None]
    return table


def _normalize_patches(patches: Tensor, table: Tensor) -> Tensor:
    """float32 pixels [P, 1176] of uint8 patches, by the table [3, 256] of `_normalization_table`."""
    values = patches.to(torch.int32).unflatten(-1, (3, -1))
    return torch.stack([table[channel][values[:, channel]] for channel in range(3)], dim=1).flatten(1)


def _rotation(angles_TD: Tensor, scaling: float = 1.0) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines for `_rotate`, [T, 1, D] each, of angles [T, D / 2]."""
    cos, sin = angles_TD.cos() * scaling, angles_TD.sin() * scaling
    return torch.cat([cos, cos], dim=-1).unsqueeze(1), torch.cat([-sin, sin], dim=-1).unsqueeze(1)


def _rotate(x_THD: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Rotary positions: each pair (x[i], x[i + D / 2]) is turned by its angle."""
    # The sign lies in the sine, which saves two passes over memory.
    return torch.addcmul(x_THD * cos, x_THD.roll(x_THD.shape[-1] // 2, dims=-1), signed_sin)


def _patch_places(grid: Grid) -> NDArray[np.int64]:
    """Row and column of every patch in patch order (2 x 2 blocks), int64 [2, patches]."""
    places = np.indices((grid.h, grid.w)).reshape(2, grid.h // MERGE, MERGE, grid.w // MERGE, MERGE)
    return np.tile(places.transpose(0, 1, 3, 2, 4).reshape(2, -1), grid.t)


def _feed_forward(mlp: Any, x_TD: Tensor, piece_bytes: int = _PIECE_BYTES) -> Tensor:
    """The output of Qwen2-VL's vision MLP, or of Qwen2's gated one."""
    if x_TD.device.type != "cpu" or not torch.is_inference_mode_enabled():
        # A gradient needs the inner values whole; a GPU waits for no page.
        whole: Tensor = mlp(x_TD)
        return whole
    gated = hasattr(mlp, "gate_proj")
    width = (mlp.gate_proj if gated else mlp.fc1).out_features
    pieces = x_TD.split(max(_LEAST_ROWS, piece_bytes // (width * x_TD.element_size())))
    if gated:
        inner = (_activate(mlp.act_fn, mlp.gate_proj(piece)).mul_(mlp.up_proj(piece)) for piece in pieces)
        return torch.cat([mlp.down_proj(values) for values in inner])
    return torch.cat([mlp.fc2(_activate(mlp.act, mlp.fc1(piece))) for piece in pieces])


def _activate(activation: nn.Module, x: Tensor) -> Tensor:
    """The activation, written over its input where that is known how; equal to the bit."""
    if type(activation) is SiLUActivation:
        return F.silu(x, inplace=True)
    if type(activation) is QuickGELUActivation:
        return x.mul_((1.702 * x).sigmoid_())
    activated: Tensor = activation(x)
    return activated


def _arrays(encoded: _Encoded, lengths: Sequence[int], output: Output) -> list[Vectors]:
    """The vectors of each input of a pack."""
    if output == "pooled":
        return list(encoded.pooled.float().cpu().numpy())
    if encoded.tokens is None:
        raise ModelError("the model has no token head; train one with loss.token_dim")
    return [tokens.numpy() for tokens in encoded.tokens.float().cpu().split(list(lengths))]


def _check_config(folder: Path) -> None:
    config = read_json(folder / "config.json")
    text = config.get("text_config", config)
    if not isinstance(config.get("vision_config"), dict) or not isinstance(text, dict) or "hidden_size" not in text:
        # transformers would fill in the shape of the 7B model.
        raise ModelError(
            f"{folder / 'config.json'} lacks 'hidden_size' or 'vision_config': it is no whole configuration"
        )
    if text.get("use_sliding_window"):
        raise ModelError(f"{folder} uses sliding-window attention, which is not supported: its vectors would be wrong")
