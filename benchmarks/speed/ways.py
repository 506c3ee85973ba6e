"""Who embeds? This package, transformers padded as published, and sentence-transformers, on the same weights.

A way is made of (model folder, dtype, workload, items) and gives, for one run over the items, the vectors and how many
seconds went into preparing the inputs and into the forward passes. sentence-transformers tells no such parts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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
from vlm2vec.model.prompts import prompt_style
from vlm2vec.model.vision import MAX_PIXELS as PUBLISHED_MAX_PIXELS

BATCH = 16
"""Of the padded way, in input order."""


class Run(NamedTuple):
    """One pass over all items. `slots` counts the tokens that the language model computed, padding included."""

    vectors: NDArray[np.float32]
    prepare_s: float | None
    forward_s: float | None
    total_s: float
    slots: int | None


Way = Callable[[], Run]


def packed(folder: Path, dtype: str, workload: str, items: Sequence[Item]) -> Way:
    """`Embedder.encode`, with threads that prepare while the model computes."""
    embedder = Embedder.load(folder, dtype=dtype, max_pixels=MAX_PIXELS.get(workload), device="cpu")

    def run() -> Run:
        start = time.perf_counter()
        vectors = embedder.encode(items)
        total = time.perf_counter() - start
        prepare = embedder.backbone.processor.prepare
        start = time.perf_counter()
        prepared = [prepare(item) for item in items]
        prepare_s = time.perf_counter() - start
        return Run(vectors, prepare_s, None, total, sum(one.length for one in prepared))

    return run


def padded(folder: Path, dtype: str, workload: str, items: Sequence[Item], *, lm_head: bool = False) -> Way:
    """transformers' processor and model class; batches of 16 in input order, padded left, one-dimensional positions.

    Args:
        lm_head: as the published code ran it: scores of all words at all positions, every hidden state and a cache.
    """
    from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel

    limit = MAX_PIXELS.get(workload, PUBLISHED_MAX_PIXELS)
    images = Qwen2VLImageProcessorPil(min_pixels=4 * 28 * 28, max_pixels=limit)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any
    if lm_head:
        whole = Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=getattr(torch, dtype))
        whole.model.load_state_dict(Qwen2VLModel.from_pretrained(folder, dtype=getattr(torch, dtype)).state_dict())
        model = whole
    else:
        model = Qwen2VLModel.from_pretrained(folder, dtype=getattr(torch, dtype))
    config, style = model.config, prompt_style("vlm2vec")

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

    def run() -> Run:
        prepare_s = forward_s = 0.0
        vectors, slots = [], 0
        for start in range(0, len(items), BATCH):
            begun = time.perf_counter()
            inputs = prepare(items[start : start + BATCH])
            ready = time.perf_counter()
            with torch.inference_mode():
                if lm_head:
                    states = model(**inputs, output_hidden_states=True, use_cache=True).hidden_states[-1]
                else:
                    states = model(**inputs, use_cache=False).last_hidden_state
                vectors.append(_unit(states[:, -1]))
            forward_s += time.perf_counter() - ready
            prepare_s += ready - begun
            slots += inputs["input_ids"].numel()
        return Run(torch.cat(vectors).numpy(), prepare_s, forward_s, prepare_s + forward_s, slots)

    return run


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

    def run() -> Run:
        start = time.perf_counter()
        vectors = model.encode(texts, show_progress_bar=False)
        return Run(np.asarray(vectors, dtype=np.float32), None, None, time.perf_counter() - start, None)

    return run


WAYS: dict[str, Callable[[Path, str, str, Sequence[Item]], Way]] = {
    "packed": packed,
    "padded": padded,
    "published": published,
    "sentence-transformers": sentence_transformers,
}


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
