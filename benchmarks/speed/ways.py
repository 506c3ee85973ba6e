"""Who embeds? This package, transformers padded as published, and sentence-transformers, on the same weights.

A way is made of (model folder, dtype, workload, items). It embeds the items from their files to vectors, and apart from
that tells how long decoding and preparing them take. sentence-transformers tells no such parts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from workloads import MAX_PIXELS

from vlm2vec import Embedder, Item
from vlm2vec.items import Image, Video
from vlm2vec.media import load_frames
from vlm2vec.model.checkpoint import PUBLISHED
from vlm2vec.model.prompts import prompt_style

BATCH = 16
"""Of the padded way, in input order."""


class Run(NamedTuple):
    """One pass over all items. `forward_s` is the time inside the model."""

    vectors: NDArray[np.float32]
    forward_s: float | None
    total_s: float


class Preparation(NamedTuple):
    """What comes before the model, for all items in one thread while nothing else runs.

    Args:
        decode_s: from files to pictures; both ways decode with the same code.
        prepare_s: from pictures in memory, and texts, to the model's inputs.
        slots: tokens that the language model computes, padding included.
    """

    decode_s: float
    prepare_s: float
    slots: int


class Way(NamedTuple):
    """How to embed the items, and how to do only what comes before the model."""

    embed: Callable[[], Run]
    prepare: Callable[[], Preparation] | None


def packed(folder: Path, dtype: str, workload: str, items: Sequence[Item]) -> Way:
    """`Embedder.encode`, with threads that prepare while the model computes."""
    embedder = Embedder.load(folder, dtype=dtype, max_pixels=MAX_PIXELS.get(workload), device="cpu")
    processor, inside = embedder.backbone.processor, _Clock(embedder.backbone)

    def embed() -> Run:
        inside.seconds = 0.0
        start = time.perf_counter()
        vectors = embedder.encode(items)
        return Run(vectors, inside.seconds, time.perf_counter() - start)

    return Way(embed, lambda: _apart(items, lambda decoded: sum(processor.prepare(one).cost for one in decoded)))


def padded(folder: Path, dtype: str, workload: str, items: Sequence[Item], *, lm_head: bool = False) -> Way:
    """transformers' processor and model class; batches of 16 in input order, padded left, one-dimensional positions.

    Args:
        lm_head: as the published code ran it: scores of all words at all positions, every hidden state and a cache.
    """
    from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel

    limit = MAX_PIXELS.get(workload, PUBLISHED.max_pixels)
    images = Qwen2VLImageProcessorPil(min_pixels=4 * 28 * 28, max_pixels=limit)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any
    if lm_head:
        whole = Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=getattr(torch, dtype))
        whole.model.load_state_dict(Qwen2VLModel.from_pretrained(folder, dtype=getattr(torch, dtype)).state_dict())
        model = whole
    else:
        model = Qwen2VLModel.from_pretrained(folder, dtype=getattr(torch, dtype))
    config, style, inside = model.config, prompt_style("vlm2vec"), _Clock(model)

    def prepare(batch: Sequence[Item]) -> dict[str, Any]:
        texts, pixels, grids, is_video = [], [], [], False
        for item in batch:
            text = style.compose(item, item.instruction)
            for medium in item.media:
                frames = load_frames(medium, num_frames=8).images
                is_video = isinstance(medium, Video)
                values, grid = _video(images, frames) if is_video else _picture(images, medium, frames)
                pixels.append(values)
                grids.append(grid)
                token = "<|video_pad|>" if is_video else "<|image_pad|>"
                text = text.replace("<|media|>", token * int(grid.prod() // 4))
            texts.append(text)
        encoded = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt", add_special_tokens=False)
        mask = encoded["attention_mask"]
        positions = (mask.cumsum(-1) - 1).clamp(min=0).expand(3, -1, -1)
        inputs = {"input_ids": encoded["input_ids"], "attention_mask": mask, "position_ids": positions}
        if pixels:
            kind = ("pixel_values_videos", "video_grid_thw") if is_video else ("pixel_values", "image_grid_thw")
            inputs |= {kind[0]: torch.cat(pixels).to(model.dtype), kind[1]: torch.stack(grids)}
        # The bundled tokenizer's placeholders, whichever ids the configuration names.
        assert config.image_token_id == tokenizer.convert_tokens_to_ids("<|image_pad|>")
        return inputs

    def embed() -> Run:
        inside.seconds = 0.0
        start = time.perf_counter()
        vectors = []
        for first in range(0, len(items), BATCH):
            inputs = prepare(items[first : first + BATCH])
            with torch.inference_mode():
                if lm_head:
                    states = model(**inputs, output_hidden_states=True, use_cache=True).hidden_states[-1]
                else:
                    states = model(**inputs, use_cache=False).last_hidden_state
                vectors.append(_unit(states[:, -1]))
        return Run(torch.cat(vectors).numpy(), inside.seconds, time.perf_counter() - start)

    def slots(decoded: Sequence[Item]) -> int:
        batches = (decoded[first : first + BATCH] for first in range(0, len(decoded), BATCH))
        return sum(prepare(batch)["input_ids"].numel() for batch in batches)

    return Way(embed, lambda: _apart(items, slots))


def published(folder: Path, dtype: str, workload: str, items: Sequence[Item]) -> Way:
    """The padded way with everything the published code computes and throws away."""
    return padded(folder, dtype, workload, items, lm_head=True)


def sentence_transformers(folder: Path, dtype: str, workload: str, items: Sequence[Item]) -> Way:
    """The language model alone, by the newest sentence-transformers with its own batch size of 32, sorted by length."""
    from sentence_transformers import SentenceTransformer, models
    from transformers import AutoTokenizer, Qwen2Config, Qwen2Model
    from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel

    alone = folder.with_name(f"{folder.name}_language")
    if not alone.exists():
        language = Qwen2VLModel.from_pretrained(folder).language_model
        known = language.config.to_dict()
        names = (
            *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size"),
            *("vocab_size", "rms_norm_eps", "max_position_embeddings"),
        )
        rope = {"rope_type": "default", "rope_theta": known["rope_parameters"]["rope_theta"]}
        model = Qwen2Model(Qwen2Config(**{name: known[name] for name in names}, rope_parameters=rope))
        model.load_state_dict(language.state_dict())
        model.save_pretrained(alone)
        AutoTokenizer.from_pretrained(folder).save_pretrained(alone)
    inner = models.Transformer(str(alone), model_kwargs={"dtype": getattr(torch, dtype)})
    inner.tokenizer.padding_side = "left"
    pooling = models.Pooling(inner.get_embedding_dimension(), "lasttoken")
    model = SentenceTransformer(modules=[inner, pooling, models.Normalize()], device="cpu")
    texts = [item.text for item in items]

    def embed() -> Run:
        start = time.perf_counter()
        vectors = model.encode(texts, show_progress_bar=False)
        return Run(np.asarray(vectors, dtype=np.float32), None, time.perf_counter() - start)

    return Way(embed, None)


WAYS: dict[str, Callable[[Path, str, str, Sequence[Item]], Way]] = {
    "packed": packed,
    "padded": padded,
    "published": published,
    "sentence-transformers": sentence_transformers,
}


class _Clock:
    """Seconds spent inside a module."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.seconds = 0.0
        self._begun = 0.0
        module.register_forward_pre_hook(self._begin)
        module.register_forward_hook(self._end)

    def _begin(self, *_: object) -> None:
        self._begun = time.perf_counter()

    def _end(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._begun


def _apart(items: Sequence[Item], prepare: Callable[[Sequence[Item]], int]) -> Preparation:
    """Decode all items, then prepare them with a function that tells the slots."""
    start = time.perf_counter()
    decoded = [_decoded(item) for item in items]
    between = time.perf_counter()
    slots = prepare(decoded)
    return Preparation(between - start, time.perf_counter() - between, slots)


def _decoded(item: Item) -> Item:
    """The same with its media as pictures in memory, which both ways take as they are."""
    media: list[Image | Video] = []
    for medium in item.media:
        frames = load_frames(medium, num_frames=8).images
        media.append(Video(frames) if isinstance(medium, Video) else Image(frames[0]))
    return replace(item, media=tuple(media))


def _picture(processor: Any, medium: Image | Video, frames: Sequence[Any]) -> tuple[Tensor, Tensor]:
    done = processor(images=[frames[0].convert("RGB")], return_tensors="pt")
    return done["pixel_values"], done["image_grid_thw"][0]


def _video(processor: Any, frames: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Frames through the picture processor, two to a time step: the video processor wants torchvision."""
    done = processor(images=[frame.convert("RGB") for frame in frames], return_tensors="pt")
    _, rows, columns = done["image_grid_thw"][0].tolist()
    # A patch holds its one frame twice; every second frame's values take the place of the copy.
    values = done["pixel_values"].view(len(frames) // 2, 2, rows * columns, 3, 2, 14 * 14)
    joined = torch.stack([values[:, 0, :, :, 0], values[:, 1, :, :, 0]], dim=3)
    return joined.reshape(-1, 3 * 2 * 14 * 14), torch.tensor([len(frames) // 2, rows, columns])


def _unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x.float(), dim=-1)
