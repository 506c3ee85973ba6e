"""The training run, from configuration to checkpoint, read top-down."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from vlm2vec.data.collate import PairBatch
from vlm2vec.errors import ConfigError, DataError, Hint, MissingError
from vlm2vec.extras import require
from vlm2vec.model.families.trainable import TrainingPack
from vlm2vec.training.batches import RunRows
from vlm2vec.training.checkpoint import Checkpoints, TrainingFolder
from vlm2vec.training.config import TrainConfig
from vlm2vec.training.distributed import TrainingGroup
from vlm2vec.training.gradcache import GradientCache
from vlm2vec.training.log import RunLog
from vlm2vec.training.objective import Objective, StepOutcome
from vlm2vec.training.teachers import TeacherVectors
from vlm2vec.training.trainee import Trainee
from vlm2vec.training.validation import Validator

if TYPE_CHECKING:
    from accelerate import Accelerator

_FEW_ROWS = 1000
"""Rows below which the share of bad ones says nothing yet."""


class StepReport(NamedTuple):
    """One step, over all processes.

    Args:
        step: counted from 0.
        source_losses: mean loss of each source's queries in this batch, query to document.
        teacher_losses: the part of each teacher in the loss.
        teacher_known: share of the items that each teacher knows.
        accuracy: share of queries whose own positive scored best in the batch.
        temperature: as it stands.
        learning_rate, grad_norm: of this step; the norm before clipping.
        tokens_per_s: that the model computed.
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
    """Facts that are known before the first step.

    Args:
        trained: see `Trainee.trained_counts`.
        first_step: 0, or where a resumed run continues.
        unread: sources of which no row comes in the whole run, for example because their share comes to less than a
            sub-batch.
    """

    trained: dict[str, int]
    first_step: int
    unread: tuple[str, ...]


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    taught_within: int = 100,
    on_start: Callable[[Announcement], None] = lambda announcement: None,
    on_step: Callable[[StepReport], None] = lambda report: None,
) -> None:
    """Train a model and save it under `config.out`, with a log of every step, a plot and a model card beside it.

    Under torchrun or accelerate every process calls it; the callbacks are called in the first one only.

    Args:
        resume: continue from the last checkpoint in `config.out`.
        taught_within: steps of the last stage after which a teacher that knew no item so far counts as a mistake.

    Raises:
        ConfigError: the configuration does not fit the data, the machine, the number of processes or what lies in
            `config.out`, or the loss or its gradient is no number (then the weights before that step are saved as a
            checkpoint).
        DataError: too many rows cannot be read, a teacher knows nothing, or a checkpoint is damaged.
        ModelError: the checkpoint that training starts from cannot be loaded.
        BusyError: another run works in `config.out`.
        StorageError: it cannot be written.
        MissingError: a package of the extra `train`, or a tracker, is not installed.
    """
    # Now, not when the curves are drawn at the end.
    require("train", "accelerate", "datasets", "matplotlib", "pyarrow")
    for name in config.trackers:
        if find_spec(name) is None:
            raise MissingError(f"trackers: {name} is not installed; 'pip install {name}', or leave it out")
    from accelerate import Accelerator

    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(), log_with=list(config.trackers) or None, project_dir=config.out
    )
    first = accelerator.is_main_process
    _check_world(config, accelerator.num_processes)
    folder = TrainingFolder(config.out)
    folder.check(resume=resume)
    with folder.alone(first):
        run = _TrainingRun(config, accelerator, resume=resume, taught_within=taught_within)
        if first:
            on_start(run.announcement())
        with RunLog(config, accelerator, run.state.step) as log:
            if run.state.step == 0:
                # The scores after training are compared with those before it.
                run.validate(log)
            for batch in run.batches():
                report = run.step(batch, log)
                if first:
                    on_step(report)
                log.step(report)
                run.keep(log)
            # Before the log is closed: a tracker or a plot that fails must not cost the model.
            run.finish(log)


def _check_world(config: TrainConfig, world: int) -> None:
    if config.batch_size % world:
        raise ConfigError(
            f"batch_size={config.batch_size} cannot be shared by {world} processes; use a multiple of {world}"
        )
    # Some launchers silently start a single process on CPU.
    if (asked := config.processes) is not None and world != asked:
        raise ConfigError(
            f"{world} process(es) take part, but processes={asked} was asked for", Hint("processes", str(asked))
        )


def _learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then down to nothing behind the last step: in a line (as published), or half a cosine."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * (1 - done if config.decay == "linear" else (1 + math.cos(math.pi * done)) / 2)


class _TrainingRun:
    """All that one process of a run holds."""

    def __init__(self, config: TrainConfig, accelerator: Accelerator, *, resume: bool, taught_within: int) -> None:
        self.config, self.accelerator = config, accelerator
        self.rows = RunRows(config)
        self.teachers = [TeacherVectors(teacher.vectors) for teacher in config.teachers.values()]
        # Later stages may have sources of their own.
        self.taught_by = min(max((0, *config.stage_starts)) + taught_within, config.steps)

        torch.manual_seed(config.seed)
        self.trainee = Trainee.build(config)
        self.backbone = self.trainee.backbone.to(accelerator.device).train()
        self.objective = Objective(
            config.loss,
            [config.data[name].temperature for name in self.rows.schedule.sources],
            self.backbone.dim,
            [(one, known.dim) for one, known in zip(config.teachers.values(), self.teachers, strict=True)],
        ).to(accelerator.device)
        self.group = TrainingGroup(self.backbone, self.objective, config.parallel, accelerator.device)
        self.cache = GradientCache(
            self.backbone, accelerator.device, config.precision, token_budget=config.token_budget
        )
        groups = _parameter_groups(self.backbone, self.objective, config.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        self.checkpoints = Checkpoints(self.trainee, self.objective, self.optimizer, config, self.rows.sizes)
        if resume:
            self.checkpoints.resume()
        self.state = self.checkpoints.state
        self.validator = Validator(config.validation, self.trainee) if config.validation else None
        self.started_s = time.perf_counter()

    def announcement(self) -> Announcement:
        unread = tuple(name for name, number in self.rows.counts.items() if not number)
        return Announcement(self.trainee.trained_counts(), self.state.step, unread)

    def batches(self) -> Iterator[PairBatch[TrainingPack]]:
        self.started_s = time.perf_counter()
        return self.rows.batches(
            self.state.step,
            self.backbone.processor,
            self.teachers,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
        )

    def step(self, batch: PairBatch[TrainingPack], log: RunLog) -> StepReport:
        """Move the weights by one batch."""
        config, step = self.config, self.state.step
        torch.manual_seed(_step_seed(config.seed, step, self.accelerator.process_index))
        replaced = self.group.messages(batch.replaced)
        log.bad_rows(step, replaced)
        rate = _learning_rate(step, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

        self.optimizer.zero_grad(set_to_none=True)
        outcome, sides = self._forward_backward(batch)
        grad_norm = self.group.add_gradients(config.max_grad_norm)
        if not (torch.isfinite(outcome.loss) and math.isfinite(grad_norm)):
            raise ConfigError(
                f"the loss of step {step} is {outcome.loss.item()}, its gradient's norm {grad_norm}; "
                f"{_not_numbers(sides, batch)}. The weights before this step are in {self.checkpoints.save().name}: "
                "start another run from it with a lower learning_rate or a higher loss.temperature, or mend these rows",
                "resume",
            )
        self._count_rows(replaced)
        self.optimizer.step()
        self.state.step = step + 1
        self._check_teachers(outcome)

        tokens = self.group.total(sum(pack.num_tokens for pack in (*batch.queries, *batch.documents)))
        return StepReport(
            step=step,
            loss=outcome.loss.item(),
            source_losses=self._by_source(outcome),
            teacher_losses=dict(zip(config.teachers, outcome.teachers, strict=True)),
            teacher_known=dict(zip(config.teachers, outcome.known, strict=True)),
            accuracy=float(outcome.hits.float().mean()),
            temperature=self.objective.temperature(),
            learning_rate=rate,
            grad_norm=grad_norm,
            tokens_per_s=tokens / (time.perf_counter() - self.started_s),
            bad_rows=len(self.state.bad_rows),
        )

    def _forward_backward(self, batch: PairBatch[TrainingPack]) -> tuple[StepOutcome, tuple[Tensor, Tensor]]:
        """Add the gradient of a step to the parameters. Returns its outcome and the vectors of this process."""
        told: list[tuple[StepOutcome, tuple[Tensor, Tensor]]] = []

        def loss(queries: tuple[Tensor, ...], documents: tuple[Tensor, ...]) -> Tensor:
            outcome: StepOutcome = self.objective(queries, documents, batch)
            told.append((outcome, (queries[0].detach(), documents[0].detach())))
            return outcome.loss

        self.group.begin_step()
        self.cache.step(batch.queries, batch.documents, loss, before_last=self.group.before_last_backward)
        return told[0]

    def _count_rows(self, replaced: Sequence[str]) -> None:
        """Add up the rows that the loaders of all processes replaced, told by a message each."""
        state, allowed = self.state, self.config.max_bad_rows
        state.rows += self.config.batch_size
        state.bad_rows += replaced
        if len(state.bad_rows) > allowed * max(state.rows, _FEW_ROWS):
            listed = "\n".join(f"  {message}" for message in state.bad_rows[-20:])
            raise DataError(
                f"{len(state.bad_rows)} of {state.rows} rows could not be read, more than max_bad_rows={allowed} "
                f"allows. The latest:\n{listed}"
            )

    def _check_teachers(self, outcome: StepOutcome) -> None:
        teachers, state = self.config.teachers, self.state
        heard = {name for name, share in zip(teachers, outcome.known, strict=True) if share}
        state.heard = sorted(heard.union(state.heard))
        if state.step == self.taught_by and (unheard := sorted(teachers.keys() - state.heard)):
            listed = "; ".join(f"{name} ({teachers[name].vectors})" for name in unheard)
            raise DataError(
                f"teachers that know none of the items of {state.step} steps: {listed}. Vectors are found by the "
                "content of texts and files: start anew without this teacher, or with vectors for these sources",
                "teach",
            )

    def _by_source(self, outcome: StepOutcome) -> dict[str, float]:
        return {
            self.rows.schedule.sources[source]: float(outcome.per_row[outcome.sources == source].mean())
            for source in outcome.sources.unique().tolist()
        }

    def keep(self, log: RunLog) -> None:
        """Validate and save a checkpoint, each where it is due."""
        config, state = self.config, self.state
        is_last = state.step == config.steps
        due = config.save_every is not None and state.step % config.save_every == 0
        if self.validator and (state.step % self.validator.every == 0 or is_last):
            recall = self.validate(log)["recall@1"]
            if state.best is None or recall > state.best[1]:
                state.best = (f"checkpoint-{state.step}", recall)
                due = config.save_every is not None
        if due and not is_last:
            self.checkpoints.save()
            if self.accelerator.is_main_process:
                self.checkpoints.folder.tidy(config.keep, state.best and state.best[0])
        # Neither validation nor a checkpoint is the next step's.
        self.started_s = time.perf_counter()

    def validate(self, log: RunLog) -> dict[str, float]:
        """Rank the held-out pairs, if there are any."""
        if self.validator is None:
            return {}
        scores = self.validator.measure(self.accelerator.device, self.config.precision)
        self.group.divide()
        log.validation(self.state.step, scores)
        return scores

    def finish(self, log: RunLog) -> None:
        """Write the model and its card."""
        self.checkpoints.write_model()
        log.card(self.trainee, self.rows)
        self.accelerator.wait_for_everyone()


def _parameter_groups(backbone: nn.Module, objective: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """The model's matrices with weight decay; its norms, biases and embeddings, and all of the objective, without."""
    decayed: list[nn.Parameter] = []
    plain = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    for name, parameter in backbone.named_parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 and "embed_tokens" not in name else plain).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def _not_numbers(sides: tuple[Tensor, Tensor], batch: PairBatch[TrainingPack]) -> str:
    """Which vectors of a step are no numbers."""
    rows = len(batch.origins)
    bad_queries, bad_documents = (
        (~torch.isfinite(side).all(1)).cpu()[order]
        for side, order in zip(sides, (batch.query_order, batch.document_order), strict=True)
    )
    bad_rows = bad_queries | bad_documents[:rows]
    named = [origin for origin, is_bad in zip(batch.origins, bad_rows.tolist(), strict=True) if is_bad]
    others = int(bad_documents[rows:].sum())
    if named or others:
        return f"vectors of {len(named)} row(s) and {others} hard negative(s) are no numbers: {', '.join(named[:10])}"
    return f"all vectors of this process are numbers; its rows were {', '.join(batch.origins[:10])}"


_PRIME_1, _PRIME_2, _PRIME_5 = 11400714785074694791, 14029467366897019727, 2870177450012600261
_WORD = 1 << 64
# CPython takes integers modulo this prime.
_MODULUS = (1 << 61) - 1


def _step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of a process in a step: it depends on the place in the run alone, so a checkpoint stores no generator.

    The numbers are mixed by the rounds of xxHash64, as CPython 3.8 to 3.14 hashes the tuple of them: runs that were
    seeded by `hash` continue as they began.

    Returns:
        a signed integer of 64 bits.
    """
    mixed = _PRIME_5
    for number in (seed, step, rank):
        mixed = (mixed + number % _MODULUS * _PRIME_2) % _WORD
        mixed = (mixed << 31 | mixed >> 33) % _WORD * _PRIME_1 % _WORD
    # The length of a tuple comes last. The sum -1, which CPython replaces, comes once in 2^64.
    mixed = (mixed + (3 ^ _PRIME_5 ^ 3527539)) % _WORD
    return mixed - _WORD if mixed >= _WORD // 2 else mixed
