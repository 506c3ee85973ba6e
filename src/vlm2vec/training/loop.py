"""The training run, from configuration to checkpoint, read top-down."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vlm2vec.data.collate import PairBatch, PairSteps
from vlm2vec.data.mixture import Mixture
from vlm2vec.data.records import Pair, read_pairs
from vlm2vec.errors import ConfigError
from vlm2vec.media import media_kind
from vlm2vec.model.packing import PackedBatch, pack
from vlm2vec.model.pooling import normalize
from vlm2vec.model.processor import Prepared, QwenVLProcessor
from vlm2vec.model.qwen_vl import QwenVLBackbone
from vlm2vec.training.checkpoint import initial_backbone, save_checkpoint
from vlm2vec.training.config import TrainConfig
from vlm2vec.training.losses import info_nce


class StepReport(NamedTuple):
    """What one step did. `accuracy`: share of queries whose own positive scored best in the batch."""

    step: int
    loss: float
    accuracy: float
    learning_rate: float
    grad_norm: float
    tokens_per_s: float


def train(config: TrainConfig, on_step: Callable[[StepReport], None] = lambda report: None) -> None:
    """Train a model and save it under `config.out`, with a JSONL log of every step beside it.

    Raises:
        ConfigError: data or configuration do not fit, or the loss is no longer a number.
    """
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone, settings = initial_backbone(config)
    backbone.to(device).train()
    optimizer = torch.optim.AdamW(parameter_groups(backbone, config.weight_decay), lr=config.learning_rate)
    steps = _steps(config, backbone.processor)

    config.out.mkdir(parents=True, exist_ok=True)
    with (config.out / "log.jsonl").open("w", encoding="utf-8") as log:
        for step, batch in enumerate(steps):
            started_s = time.perf_counter()
            rate = learning_rate(step, config)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
                q_BD, d_BD = _embed(backbone, batch, device, center=config.center)
            mask = batch.same_label.to(device) if config.mask_same_label else None
            loss = info_nce(q_BD, d_BD, temperature=config.temperature, mask_BB=mask, symmetric=config.symmetric)
            if not torch.isfinite(loss):
                raise ConfigError(f"the loss of step {step} is {loss.item()}; lower learning_rate or raise temperature")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            grad_norm = nn.utils.clip_grad_norm_(backbone.parameters(), config.max_grad_norm)
            optimizer.step()

            tokens = len(batch.queries.input_ids) + len(batch.positives.input_ids)
            report = StepReport(
                step=step,
                loss=loss.item(),
                accuracy=_accuracy(q_BD, d_BD, mask),
                learning_rate=rate,
                grad_norm=float(grad_norm),
                tokens_per_s=tokens / (time.perf_counter() - started_s),
            )
            log.write(json.dumps(report._asdict()) + "\n")
            log.flush()
            on_step(report)
            if config.save_every and (step + 1) % config.save_every == 0 and step + 1 < config.steps:
                save_checkpoint(config.out / f"checkpoint-{step + 1}", backbone, settings, config)
    save_checkpoint(config.out, backbone, settings, config)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine down to a hundredth of the peak at the last step."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices with weight decay; norms, biases and embeddings without."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 and "embed_tokens" not in name else plain).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def _steps(config: TrainConfig, processor: QwenVLProcessor) -> Iterator[PairBatch[PackedBatch]]:
    pairs = {name: read_pairs(source.path) for name, source in config.data.items()}
    mixture = Mixture(
        sizes={name: len(rows) for name, rows in pairs.items()},
        weights={name: source.weight for name, source in config.data.items()},
        batch_size=config.batch_size,
        sub_batch=config.sub_batch,
        seed=config.seed,
    )
    dataset: PairSteps[Prepared, PackedBatch] = PairSteps(
        mixture.schedule(config.steps), pairs, partial(_query, processor), partial(_positive, processor), pack
    )
    loader: DataLoader[PairBatch[PackedBatch] | ConfigError] = DataLoader(
        dataset,
        sampler=range(config.steps),
        batch_size=None,
        num_workers=config.loader_workers,
        prefetch_factor=4 if config.loader_workers else None,
        worker_init_fn=_one_thread,
    )
    for batch in loader:
        if isinstance(batch, ConfigError):
            raise batch
        yield batch


def _query(processor: QwenVLProcessor, pair: Pair) -> Prepared:
    target = media_kind(pair.positive.media[0]) if pair.positive.media else None
    return processor.prepare(pair.query, role="query", target=target)


def _positive(processor: QwenVLProcessor, pair: Pair) -> Prepared:
    return processor.prepare(pair.positive, role="document")


def _one_thread(worker: int) -> None:
    # Two processes with several threads each on few cores take turns at slowing each other down.
    torch.set_num_threads(1)


def _embed(
    backbone: QwenVLBackbone, batch: PairBatch[PackedBatch], device: torch.device, *, center: bool
) -> tuple[Tensor, Tensor]:
    sides = []
    for packed, order in ((batch.queries, batch.query_order), (batch.positives, batch.positive_order)):
        pooled = backbone(packed.to(device)).float()
        if center:
            # Vectors that all point the same way are the first thing that a random model learns, because that lowers
            # the loss of guessing; without their mean they cannot.
            pooled = pooled - pooled.mean(0)
        sides.append(normalize(pooled)[order.to(device)])
    return sides[0], sides[1]


def _accuracy(q_BD: Tensor, d_BD: Tensor, mask: Tensor | None) -> float:
    with torch.no_grad():
        scores = q_BD @ d_BD.T
        if mask is not None:
            scores = scores.masked_fill(mask, -torch.inf)
        best = scores.argmax(1)
        return float((best == torch.arange(len(best), device=best.device)).float().mean())
