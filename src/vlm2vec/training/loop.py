"""The training run, from configuration to checkpoint, read top-down."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from vlm2vec.data.collate import PairBatch
from vlm2vec.data.mixture import Schedule
from vlm2vec.errors import ConfigError
from vlm2vec.model.packing import PackedBatch
from vlm2vec.model.qwen_vl import QwenVLBackbone
from vlm2vec.training.batches import batches_from
from vlm2vec.training.checkpoint import (
    Progress,
    alone,
    check_out,
    full_weights,
    resume_checkpoint,
    save_checkpoint,
    tidy,
    write_model,
    writing_to,
)
from vlm2vec.training.config import TrainConfig
from vlm2vec.training.distillation import Distillation, TeacherVectors
from vlm2vec.training.distributed import (
    check_world,
    clip_gradients,
    gathered_messages,
    same_everywhere,
    shard,
    sum_gradients,
    total,
)
from vlm2vec.training.encoder import Encoder
from vlm2vec.training.gradcache import cached_step
from vlm2vec.training.objective import Objective, Outcome, Side
from vlm2vec.training.plan import build_schedule, open_rows
from vlm2vec.training.report import RunLog, check_trackers, write_card
from vlm2vec.training.seeds import step_seed
from vlm2vec.training.trainee import build_trainee, trained_counts
from vlm2vec.training.validation import Validator

_FEW_ROWS = 1000
"""Rows below which the share of bad ones says nothing yet."""

_TAUGHT_WITHIN = 100
"""Steps of the last stage after which a teacher that knew no item is taken to be a mistake."""


class StepReport(NamedTuple):
    """What one step did, over all processes.

    Args:
        step: counted from 0.
        loss: value of the objective.
        source_losses: mean loss of each source's queries in this batch, query to document.
        teacher_losses: what each teacher adds to the loss.
        teacher_known: of how many items each teacher says something, as a share.
        accuracy: share of queries whose own positive scored best in the batch.
        temperature: as it stands.
        learning_rate, grad_norm: of this step; the norm before clipping.
        tokens_per_s: of what the model computed.
        bad_rows: rows replaced so far because they could not be read.
    """

    step: int
    loss: float
    source_losses: dict[str, float]
    teacher_losses: dict[str, float]
    teacher_known: dict[str, float]
    accuracy: float
    temperature: float
    learning_rate: float
    grad_norm: float
    tokens_per_s: float
    bad_rows: int


class Announcement(NamedTuple):
    """What is known before the first step.

    Args:
        trained: see `trained_counts`.
        first_step: 0, or where a resumed run goes on.
        unread: sources of which no row comes in the whole run, as where their share comes to less than a sub-batch.
    """

    trained: dict[str, int]
    first_step: int
    unread: tuple[str, ...]


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    on_start: Callable[[Announcement], None] = lambda announcement: None,
    on_step: Callable[[StepReport], None] = lambda report: None,
) -> None:
    """Train a model and save it under `config.out`, with a log of every step, a plot and a model card beside it.

    Under torchrun or accelerate every process calls it; the callbacks are called in the first one only.

    Raises:
        ConfigError: data or configuration do not fit, too many rows cannot be read, the number of processes is not the
            one asked for, a tracker is not installed, another run works in the folder or it cannot be written, or the
            loss or its gradient is no number (then the weights before that step are saved as a checkpoint).
    """
    check_trackers(config.trackers)
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(), log_with=list(config.trackers) or None, project_dir=config.out
    )
    first, world = accelerator.is_main_process, accelerator.num_processes
    check_world(config.processes, world, config.batch_size)
    check_out(config.out, resume=resume)
    with alone(config.out, first):
        _run(config, accelerator, resume, on_start, on_step)


def _run(
    config: TrainConfig,
    accelerator: Accelerator,
    resume: bool,
    on_start: Callable[[Announcement], None],
    on_step: Callable[[StepReport], None],
) -> None:
    first, world, device = accelerator.is_main_process, accelerator.num_processes, accelerator.device
    rows = open_rows(config)
    schedule = build_schedule(config, rows)

    teachers = [TeacherVectors(teacher.vectors) for teacher in config.teachers.values()]

    torch.manual_seed(config.seed)
    trainee = build_trainee(config)
    backbone = trainee.backbone.to(device).train()
    objective = _objective(config, schedule, teachers, backbone.dim).to(device)
    same_everywhere(backbone.parameters())
    synchronised = shard(backbone, world) if config.parallel == "fsdp" else None
    trained = [p for p in (*backbone.parameters(), *objective.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(parameter_groups(backbone, objective, config.weight_decay), lr=config.learning_rate)
    progress = Progress(sizes={name: len(source) for name, source in rows.items()})
    if resume:
        progress = resume_checkpoint(config.out, trainee, objective, optimizer, config, progress.sizes)
    validator = Validator(config.validation, trainee) if config.validation else None
    if first:
        unread = tuple(name for name, number in schedule.counts().items() if not number)
        on_start(Announcement(trained_counts(backbone), progress.step, unread))

    # Later stages may have sources of their own.
    taught_by = min(max((0, *config.stage_starts)) + _TAUGHT_WITHIN, config.steps)
    with RunLog(config, accelerator, progress.step) as log:
        batches = batches_from(
            progress.step,
            config,
            schedule,
            rows,
            backbone.processor,
            teachers,
            rank=accelerator.process_index,
            world=world,
        )
        if validator and progress.step == 0:
            # What the model could do before is what training is measured against.
            _validate(validator, log, 0, device, config)
        started_s = time.perf_counter()
        for step, batch in zip(range(progress.step, config.steps), batches, strict=True):
            # Random numbers depend on the place in the run alone, so that a resumed run draws the same ones.
            torch.manual_seed(step_seed(config.seed, step, accelerator.process_index))
            replaced = gathered_messages(batch.replaced, device)
            log.bad_rows(step, replaced)
            rate = learning_rate(step, config)
            for group in optimizer.param_groups:
                group["lr"] = rate

            optimizer.zero_grad(set_to_none=True)
            outcome, sides = _forward_backward(backbone, objective, batch, config, synchronised, device)
            if synchronised is None:
                sum_gradients(backbone.parameters())
            # Every process has the whole gradient of temperature and maps; rounding must not let them drift apart.
            same_everywhere(parameter.grad for parameter in objective.parameters())
            grad_norm = clip_gradients(trained, config.max_grad_norm)
            if not (torch.isfinite(outcome.loss) and math.isfinite(grad_norm)):
                folder = save_checkpoint(config.out, trainee, objective, optimizer, progress, config)
                raise ConfigError(_not_a_number(step, outcome, grad_norm, sides, batch, folder.name))
            count_bad_rows(progress, replaced, config)
            optimizer.step()
            progress.step = step + 1
            heard = {name for name, share in zip(config.teachers, outcome.known, strict=True) if share}
            progress.heard = sorted(heard.union(progress.heard))
            if progress.step == taught_by and (unheard := config.teachers.keys() - progress.heard):
                raise ConfigError(_unheard(sorted(unheard), taught_by, config))

            tokens = total(sum(pack.num_tokens for pack in (*batch.queries, *batch.documents)), device)
            report = StepReport(
                step=step,
                loss=outcome.loss.item(),
                source_losses=_by_source(outcome, schedule),
                teacher_losses=dict(zip(config.teachers, outcome.teachers, strict=True)),
                teacher_known=dict(zip(config.teachers, outcome.known, strict=True)),
                accuracy=float(outcome.hits.float().mean()),
                temperature=objective.temperature(),
                learning_rate=rate,
                grad_norm=grad_norm,
                tokens_per_s=tokens / (time.perf_counter() - started_s),
                bad_rows=len(progress.bad_rows),
            )
            if first:
                on_step(report)
            log.step(report)
            is_last = progress.step == config.steps
            due = config.save_every is not None and progress.step % config.save_every == 0
            if validator and (progress.step % validator.every == 0 or is_last):
                scores = _validate(validator, log, progress.step, device, config)
                if progress.best is None or scores["recall@1"] > progress.best[1]:
                    progress.best = (f"checkpoint-{progress.step}", scores["recall@1"])
                    due = due or config.save_every is not None
            if due and not is_last:
                save_checkpoint(config.out, trainee, objective, optimizer, progress, config)
                if first:
                    tidy(config.out, config.keep, progress.best and progress.best[0])
            # Neither validation nor a checkpoint is the next step's.
            started_s = time.perf_counter()

        # Before the log is closed: a tracker or a plot that fails must not cost the model.
        weights = full_weights(trainee)
        if first:
            with writing_to(config.out):
                write_model(config.out, trainee, weights, config)
                write_card(config, trainee, schedule, rows)
        accelerator.wait_for_everyone()


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then down to nothing behind the last step: in a line (as published), or half a cosine."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * (1 - done if config.decay == "linear" else (1 + math.cos(math.pi * done)) / 2)


def _unheard(names: Sequence[str], steps: int, config: TrainConfig) -> str:
    listed = "; ".join(f"{name} ({config.teachers[name].vectors})" for name in names)
    return (
        f"teachers that know none of the items of {steps} steps: {listed}. Vectors are found by the content of texts "
        "and files: make them for these sources ('vlm2vec teach' does), or start anew without this teacher"
    )


def parameter_groups(backbone: nn.Module, objective: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """The model's matrices with weight decay; its norms, biases and embeddings, and all of the objective, without."""
    decayed: list[nn.Parameter] = []
    plain = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    for name, parameter in backbone.named_parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 and "embed_tokens" not in name else plain).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def count_bad_rows(progress: Progress, replaced: Sequence[str], config: TrainConfig) -> None:
    """Add up what the loaders of all processes replaced, told by a message each.

    Raises:
        ConfigError: it is more than the share that the configuration allows; the message lists the rows.
    """
    progress.rows += config.batch_size
    progress.bad_rows += replaced
    if len(progress.bad_rows) > config.max_bad_rows * max(progress.rows, _FEW_ROWS):
        listed = "\n".join(f"  {message}" for message in progress.bad_rows[-20:])
        raise ConfigError(
            f"{len(progress.bad_rows)} of {progress.rows} rows could not be read, more than max_bad_rows="
            f"{config.max_bad_rows} allows. The latest:\n{listed}"
        )


def _objective(config: TrainConfig, schedule: Schedule, teachers: Sequence[TeacherVectors], dim: int) -> Objective:
    return Objective(
        config.loss,
        [config.data[name].temperature for name in schedule.sources],
        [Distillation(said, dim, known.dim) for said, known in zip(config.teachers.values(), teachers, strict=True)],
    )


def _forward_backward(
    backbone: QwenVLBackbone,
    objective: Objective,
    batch: PairBatch[PackedBatch],
    config: TrainConfig,
    synchronised: Callable[[bool], None] | None,
    device: torch.device,
) -> tuple[Outcome, tuple[Tensor, Tensor]]:
    """Add the gradient of a step to the parameters. Returns its outcome and the vectors of this process."""
    outcomes: list[Outcome] = []
    encode = Encoder(backbone, device, config.precision)

    def loss(queries: tuple[Tensor, ...], documents: tuple[Tensor, ...]) -> Tensor:
        sides = (
            _in_row_order(queries, batch.queries, batch.query_order),
            _in_row_order(documents, batch.documents, batch.document_order),
        )
        outcomes.append(objective(*sides, batch))
        return outcomes[0].loss

    if synchronised is not None:
        synchronised(False)
    step = cached_step(
        encode,
        batch.queries,
        batch.documents,
        loss,
        token_budget=config.token_budget,
        before_last=lambda: synchronised(True) if synchronised is not None else None,
    )
    return outcomes[0], (step.queries[0], step.documents[0])


def _in_row_order(parts: tuple[Tensor, ...], packs: tuple[PackedBatch, ...], order: Tensor) -> Side:
    """Encoded packs as the rows of the step."""
    lengths = [length for chunk in packs for length in chunk.segments.lengths]
    pooled = parts[0][order.to(parts[0].device)]
    tokens = None
    if len(parts) > 1:
        sequences = parts[1].split(lengths)
        tokens = torch.cat([sequences[i] for i in order.tolist()])
    return Side(pooled, tokens, tuple(lengths[i] for i in order.tolist()))


def _validate(
    validator: Validator, log: RunLog, step: int, device: torch.device, config: TrainConfig
) -> dict[str, float]:
    scores = validator.measure(device, config.precision)
    if isinstance(validator.backbone, FSDPModule):
        # Only the parts of this process are what the optimiser knows and a checkpoint stores.
        validator.backbone.reshard()
    log.validation(step, scores)
    return scores


def _by_source(outcome: Outcome, schedule: Schedule) -> dict[str, float]:
    return {
        schedule.sources[source]: float(outcome.per_row[outcome.sources == source].mean())
        for source in outcome.sources.unique().tolist()
    }


def _not_a_number(
    step: int,
    outcome: Outcome,
    grad_norm: float,
    sides: tuple[Tensor, Tensor],
    batch: PairBatch[PackedBatch],
    checkpoint: str,
) -> str:
    rows = len(batch.origins)
    bad_queries, bad_documents = (
        (~torch.isfinite(side).all(1)).cpu()[order]
        for side, order in zip(sides, (batch.query_order, batch.document_order), strict=True)
    )
    bad_rows = bad_queries | bad_documents[:rows]
    named = [origin for origin, is_bad in zip(batch.origins, bad_rows.tolist(), strict=True) if is_bad]
    others = int(bad_documents[rows:].sum())
    if named or others:
        whose = f"vectors of {len(named)} row(s) and {others} hard negative(s) are no numbers: {', '.join(named[:10])}"
    else:
        whose = f"all vectors of this process are numbers; its rows were {', '.join(batch.origins[:10])}"
    return (
        f"the loss of step {step} is {outcome.loss.item()}, its gradient's norm {grad_norm}; {whose}. The weights "
        f"before this step are in {checkpoint}: mend these rows and --resume, or start another run with a lower "
        "learning_rate or a higher loss.temperature, whose 'init' may be that checkpoint"
    )
