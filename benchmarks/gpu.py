"""How fast is a Qwen2-VL of the 2B shape on this GPU, packed and as transformers pads it, forward and in training?

    python benchmarks/gpu.py            writes benchmarks/results/gpu_<device>.json   (about eight minutes on an H100)
    python benchmarks/gpu.py --toy      a model of two layers on the CPU, to try the script; writes nothing

Needs torch, transformers, peft, numpy and pillow alone. Weights are random (seed 0), in bfloat16. Operations are those
of matrix products without padding; their share of the card's rate is against the best of three large products, measured
in the same run.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image as PILImage
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "src"), str(HERE / "speed")]

from operations import operations  # noqa: E402
from size import TOY, write_results  # noqa: E402

from vlm2vec.model.backbone import plan_packs  # noqa: E402
from vlm2vec.model.checkpoint import PUBLISHED  # noqa: E402
from vlm2vec.model.families.qwen_inputs import (  # noqa: E402
    PackedBatch,
    QwenVLInput,
    _image_patches,
    _video_patches,
)
from vlm2vec.model.families.qwen_vl import QwenVLBackbone, _normalize_patches  # noqa: E402
from vlm2vec.training.gradcache import GradientCache  # noqa: E402
from vlm2vec.training.objective import info_nce  # noqa: E402

MIN_PIXELS, MAX_PIXELS = PUBLISHED.min_pixels, PUBLISHED.max_pixels

IMAGE, VIDEO = 151_655, 151_656
BATCH = 16
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"]
"""Of the paper's adapter (arXiv 2507.04590; its published target list)."""


def main() -> None:
    """Measure everything and write it down."""
    device = torch.device("cpu" if TOY else "cuda")
    name = "cpu" if TOY else torch.cuda.get_device_name()
    rate = matrix_rate(device, 64 if TOY else 8192)
    print(f"{name}: {rate / 1e12:.1f} TFLOP/s in large bfloat16 products")
    model = build(device)
    document: dict[str, Any] = {
        "command": "python benchmarks/gpu.py",
        "device": name,
        "torch": torch.__version__,
        "attention": {"packed": packed_kernel(), "padded": model.config._attn_implementation},
        "matrix_tflops": round(rate / 1e12, 1),
        "forward": [measure_forward(model, workload, rate) for workload in ("texts", "images", "pages", "videos")],
        "training": measure_training(model),
    }
    write_results(f"gpu_{name.lower().replace(' ', '_')}", document)


def matrix_rate(device: torch.device, size: int) -> float:
    """Operations a second of the best of three square products."""
    best = 0.0
    for side in (size, size // 2, size * 3 // 4):
        a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
        best = max(best, 2 * side**3 / timed(lambda a=a, b=b: a @ b, device, repeats=10))
    return best


def build(device: torch.device) -> Any:
    """Qwen2-VL with the shape of Qwen/Qwen2-VL-2B-Instruct, or with two layers of it made narrow."""
    from transformers import Qwen2VLConfig
    from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel

    hidden, layers, heads, kv, mlp = (128, 2, 4, 2, 256) if TOY else (1536, 28, 12, 2, 8960)
    sections = [4, 6, 6] if TOY else [16, 24, 24]
    width, depth, vision_heads = (64, 2, 2) if TOY else (1280, 32, 16)
    config = Qwen2VLConfig(
        text_config={
            "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": kv, "intermediate_size": mlp, "vocab_size": 151_936, "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections},
        },
        vision_config={
            "embed_dim": width, "depth": depth, "num_heads": vision_heads, "hidden_size": hidden, "mlp_ratio": 4,
        },
        image_token_id=IMAGE, video_token_id=VIDEO,
    )  # fmt: skip
    config._attn_implementation = "flash_attention_2" if _installed("flash_attn") and not TOY else "sdpa"
    torch.manual_seed(0)
    with torch.device(device):
        return Qwen2VLModel(config).to(torch.bfloat16).eval()


def inputs(workload: str) -> list[QwenVLInput]:
    """Texts of 5 to 200 tokens; pictures of 120 to 1600 px; pages of 1240 tokens; videos of 8 frames of 480 x 360."""
    random = np.random.default_rng(0)
    if workload == "texts":
        return [
            _prepared(random, int(length), [])
            for length in random.permutation(np.linspace(5, *((40, 4) if TOY else (200, 2048))))
        ]
    made = []
    for _ in range(2 if TOY else {"images": 256, "pages": 64, "videos": 32}[workload]):
        side = int(np.exp(random.uniform(np.log(120), np.log(1600))))
        size = {"images": (side, int(side * random.uniform(0.5, 1))), "pages": (1700, 2200), "videos": (480, 360)}[
            workload
        ]
        limit = 4 * 28 * 28 if TOY else MAX_PIXELS
        if workload == "videos":
            medium = _video_patches([_noise(random, size) for _ in range(8)], MIN_PIXELS, limit)
        else:
            medium = _image_patches(_noise(random, size), MIN_PIXELS, limit)
        made.append(_prepared(random, 10, [medium]))
    return made


def measure_forward(model: Any, workload: str, rate: float) -> dict[str, Any]:
    """Packed against padded; both see the same inputs and must give the same vectors."""
    device = next(model.parameters()).device
    prepared = inputs(workload)
    backbone = QwenVLBackbone(model, None, PUBLISHED).to(device)  # type: ignore[arg-type]
    packs = [
        (members, PackedBatch.of([prepared[i] for i in members]))
        for members in plan_packs([p.cost for p in prepared], 32_768)
    ]
    batches = [padded_batch(prepared[start : start + BATCH], device) for start in range(0, len(prepared), BATCH)]

    @torch.inference_mode()
    def packed() -> Tensor:
        found = [backbone(batch.to(device)).pooled for _, batch in packs]
        order = torch.tensor([i for members, _ in packs for i in members], device=device).argsort()
        return torch.cat(found)[order]

    @torch.inference_mode()
    def padded() -> Tensor:
        return torch.cat([model(**batch, use_cache=False).last_hidden_state[:, -1] for batch in batches])

    ours, theirs = (torch.nn.functional.normalize(way().float(), dim=-1) for way in (packed, padded))
    cosine = float((ours * theirs).sum(-1).min())
    assert cosine > 0.95, f"{workload}: the two ways differ, cosine {cosine}"
    # In turns, since a card's clock drifts.
    turns = [(timed(packed, device), timed(padded, device)) for _ in range(1 if TOY else 5)]
    seconds = median(turn[0] for turn in turns)
    needed = sum(operations(model.config, prepared).values())
    slots = sum(batch["input_ids"].numel() for batch in batches)
    row = {
        "workload": workload,
        "items": len(prepared),
        "tokens": sum(one.cost for one in prepared),
        "items_per_s": round(len(prepared) / seconds, 1),
        "seconds": round(seconds, 4),
        "padded_over_packed": round(median(other / own for own, other in turns), 3),
        "share_of_matrix_rate": round(needed / seconds / rate, 3),
        "padding_share": round(1 - sum(one.cost for one in prepared) / slots, 3),
        "least_cosine": round(cosine, 5),
    }
    print(json.dumps(row), flush=True)
    return row


def measure_training(model: Any) -> list[dict[str, Any]]:
    """Steps of the paper's recipe, LoRA r 16 with gradient cache, on pairs of a question and a picture."""
    from peft import LoraConfig, get_peft_model

    device = next(model.parameters()).device
    torch.manual_seed(1)
    attached = get_peft_model(
        model.requires_grad_(False),
        LoraConfig(
            r=16, lora_alpha=64, lora_dropout=0.1, use_dora=True, init_lora_weights="gaussian", target_modules=TARGETS
        ),
    ).train()
    backbone = QwenVLBackbone(model, None, PUBLISHED).to(device)  # type: ignore[arg-type]
    trained = [p for p in attached.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-5)
    rows = []
    for pairs in (2,) if TOY else (64, 128, 256):
        random = np.random.default_rng(2)
        limit = 4 * 28 * 28 if TOY else MAX_PIXELS
        texts = [_prepared(random, int(random.integers(10, 60)), []) for _ in range(pairs)]
        side = 200 if TOY else 640
        pictures = [
            _prepared(
                random,
                10,
                [_image_patches(_noise(random, (side, int(side * random.uniform(0.6, 1)))), MIN_PIXELS, limit)],
            )
            for _ in range(pairs)
        ]

        def ours(texts: Sequence[QwenVLInput] = texts, pictures: Sequence[QwenVLInput] = pictures) -> float:
            queries, documents = (
                [PackedBatch.of([side[i] for i in members]) for members in plan_packs([p.cost for p in side], 8192)]
                for side in (texts, pictures)
            )
            orders = [_order(side, 8192, device) for side in (texts, pictures)]
            cache = GradientCache(backbone, device, "bfloat16", token_budget=8192)

            def loss(q: tuple[Tensor, ...], d: tuple[Tensor, ...]) -> Tensor:
                q_BD, d_BD = (_unit(x[0][order]) for x, order in zip((q, d), orders, strict=True))
                return info_nce(q_BD @ d_BD.T, temperature=0.02)

            value = cache.step(queries, documents, loss)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return float(value)

        def plain(texts: Sequence[QwenVLInput] = texts, pictures: Sequence[QwenVLInput] = pictures) -> float:
            value = plain_step(model, texts, pictures, device)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return float(value)

        row: dict[str, Any] = {"pairs": pairs}
        for way, step in (("packed", ours), ("plain", plain)):
            gc.collect()
            step()
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            seconds = timed(step, device, repeats=1 if TOY else 3)
            row[f"{way}_pairs_per_s"] = round(pairs / seconds, 2)
            if device.type == "cuda":
                row[f"{way}_peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        row["plain_over_packed"] = round(row["packed_pairs_per_s"] / row["plain_pairs_per_s"], 2)
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def plain_step(
    model: Any, texts: Sequence[QwenVLInput], pictures: Sequence[QwenVLInput], device: torch.device
) -> Tensor:
    """The gradient cache as published: chunks of 8, padded to the longest of the side; vision runs in both passes."""

    def chunks(side: Sequence[QwenVLInput]) -> list[dict[str, Tensor]]:
        longest = max(one.cost for one in side)
        return [padded_batch(side[start : start + 8], device, longest) for start in range(0, len(side), 8)]

    def encode(batch: dict[str, Tensor]) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return _unit(model(**batch, use_cache=False).last_hidden_state[:, -1])

    sides = [chunks(texts), chunks(pictures)]
    with torch.no_grad():
        leaves = [torch.cat([encode(batch) for batch in side]).requires_grad_() for side in sides]
    value = info_nce(leaves[0] @ leaves[1].T, temperature=0.02)
    value.backward()
    for side, leaf in zip(sides, leaves, strict=True):
        assert leaf.grad is not None
        for batch, gradient in zip(side, leaf.grad.split(8), strict=True):
            encode(batch).backward(gradient)
    return value.detach()


def padded_batch(
    prepared: Sequence[QwenVLInput], device: torch.device, longest: int | None = None
) -> dict[str, Tensor]:
    """What transformers' model takes, padded left, with one-dimensional positions; pixels are normalised before."""
    longest = longest or max(one.cost for one in prepared)
    ids = torch.zeros(len(prepared), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, one in enumerate(prepared):
        ids[row, longest - one.cost :] = torch.from_numpy(one.input_ids)
        mask[row, longest - one.cost :] = 1
    batch = {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0).expand(3, -1, -1),
    }
    grids = [grid for one in prepared for grid in one.grids]
    if grids:
        from vlm2vec.model.families.qwen_vl import _normalization_table

        patches = torch.from_numpy(np.concatenate([one.patches for one in prepared]))
        pixels = _normalize_patches(patches, torch.from_numpy(_normalization_table()))
        kind = ("pixel_values_videos", "video_grid_thw") if grids[0].t > 1 else ("pixel_values", "image_grid_thw")
        batch |= {kind[0]: pixels.to(torch.bfloat16), kind[1]: torch.tensor(grids)}
    return {name: value.to(device) for name, value in batch.items()}


def timed(run: Callable[[], object], device: torch.device, repeats: int = 1) -> float:
    """Median seconds of a run, the device's work included."""
    seconds = []
    for _ in range(repeats):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def packed_kernel() -> str:
    """What the packed path attends with."""
    if not torch.cuda.is_available():
        return "sdpa over runs"
    return (
        "flash_attn"
        if _installed("flash_attn")
        else "torch varlen"
        if _installed("torch.nn.attention.varlen")
        else "sdpa"
    )


def _prepared(random: np.random.Generator, words: int, media: Sequence[tuple[Any, Any]]) -> QwenVLInput:
    token = VIDEO if media and media[0][1].t > 1 else IMAGE
    num_visual = sum(grid.num_tokens for _, grid in media)
    ids = np.concatenate([np.full(num_visual, token), random.integers(0, 150_000, words)]).astype(np.int64)
    patches = [values for values, _ in media]
    return QwenVLInput(
        input_ids=ids,
        positions=np.broadcast_to(np.arange(len(ids)), (3, len(ids))),
        visual_at=np.arange(num_visual),
        patches=np.concatenate(patches) if patches else np.empty((0, 1176), dtype=np.uint8),
        grids=tuple(grid for _, grid in media),
    )


def _noise(random: np.random.Generator, size: tuple[int, int]) -> PILImage.Image:
    small = random.integers(0, 256, (size[1] // 12 + 2, size[0] // 12 + 2, 3), dtype=np.uint8)
    return PILImage.fromarray(small).resize(size, PILImage.Resampling.BICUBIC)


def _order(side: Sequence[QwenVLInput], budget: int, device: torch.device) -> Tensor:
    """Where each input lies behind its packs."""
    packs = plan_packs([one.cost for one in side], budget)
    return torch.tensor([i for members in packs for i in members], device=device).argsort()


def _unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x.float(), dim=-1)


def _installed(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
