"""How does a run tell its story? A line a step, curves, and a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from vlm2vec.extras import require
from vlm2vec.sources.forms import SourceConfig
from vlm2vec.text import markdown
from vlm2vec.training.batches import RunRows
from vlm2vec.training.checkpoint import CARD, TrainingFolder
from vlm2vec.training.config import TrainConfig
from vlm2vec.training.trainee import Trainee

if TYPE_CHECKING:
    from accelerate import Accelerator

VALIDATION = "validation.jsonl"
_LOG = "log.jsonl"
_BAD_ROWS = "bad_rows.jsonl"
_CURVES = "curves.png"


class RunLog:
    """Writes `log.jsonl`, `validation.jsonl` and `bad_rows.jsonl` beside the model, and tells the trackers.

    Only in the first process. Lines of steps that a resumed run does again are cut off first.
    """

    def __init__(self, config: TrainConfig, accelerator: Accelerator, first_step: int) -> None:
        self.config = config
        self.folder = TrainingFolder(config.out)
        self.accelerator = accelerator
        self.active = accelerator.is_main_process
        if self.active:
            for name in (_LOG, _BAD_ROWS):
                self.folder.cut_log(name, first_step - 1)
            # Before the first step a run is validated anew.
            self.folder.cut_log(VALIDATION, first_step or -1)
        if config.trackers:
            accelerator.init_trackers(config.out.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # Not `Accelerator.end_training`, which parts the processes too: they may have another run to do.
        for tracker in self.accelerator.trackers if self.config.trackers else ():
            tracker.finish()
        if self.active:
            with self.folder.writing():
                _draw_curves(self.folder)

    def step(self, report: NamedTuple) -> None:
        """Log a step."""
        self._append(_LOG, report._asdict())

    def validation(self, step: int, scores: Mapping[str, float]) -> None:
        """Log scores after so many steps."""
        self._append(VALIDATION, {"step": step, **scores})

    def bad_rows(self, step: int, messages: Sequence[str]) -> None:
        """Log rows that could not be read and were replaced, into `bad_rows.jsonl`."""
        if self.active:
            for message in messages:
                self.folder.add_to_log(_BAD_ROWS, {"step": step, "row": message})

    def card(self, trainee: Trainee, run: RunRows) -> None:
        """Write the model card, `README.md`: what the model is, how to load it, what it was trained on."""
        if self.active:
            with self.folder.writing():
                (self.folder.path / CARD).write_text(_card(self.config, self.folder, trainee, run), "utf-8")

    def _append(self, name: str, row: dict[str, Any]) -> None:
        if self.active:
            self.folder.add_to_log(name, row)
        if self.config.trackers:
            self.accelerator.log(_flat(row), step=row["step"])


def _draw_curves(folder: TrainingFolder) -> None:
    """Draw loss, in-batch accuracy, learning rate and held-out recall over the steps into `curves.png`."""
    steps = folder.read_log(_LOG)
    if not steps:
        return
    require("train", "matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    loss, accuracy, rate, recall = figure.subplots(2, 2).flat
    window = max(1, len(steps) // 50)
    for source in sorted({name for row in steps for name in row["source_losses"]}):
        seen = [(row["step"], row["source_losses"][source]) for row in steps if source in row["source_losses"]]
        loss.plot(*_smoothed(seen, window), linewidth=0.8, label=source)
    loss.plot(*_smoothed([(row["step"], row["loss"]) for row in steps], window), "k", label="all")
    loss.set(title="loss", xlabel="step")
    if len(loss.lines) < 12:
        loss.legend(fontsize=7)
    accuracy.plot(*_smoothed([(row["step"], row["accuracy"]) for row in steps], window), "k")
    accuracy.set(title="accuracy in the batch", xlabel="step", ylim=(0, 1))
    rate.plot([row["step"] for row in steps], [row["learning_rate"] for row in steps], "k")
    rate.set(title="learning rate", xlabel="step")
    held = folder.read_log(VALIDATION)
    for name in ("recall@1", "recall@10"):
        recall.plot([row["step"] for row in held], [row[name] for row in held], marker=".", label=name)
    recall.set(title="held-out pairs", xlabel="step", ylim=(0, 1))
    recall.legend(fontsize=7)
    figure.savefig(folder.path / _CURVES, dpi=110)


def _card(config: TrainConfig, folder: TrainingFolder, trainee: Trainee, run: RunRows) -> str:
    total = sum(run.counts.values())
    trained = sum(trainee.trained_counts().values())
    adapter = f" ({'DoRA' if config.adapter.dora else 'LoRA'} of rank {config.adapter.rank})" if config.adapter else ""
    table = [("source", "from", "rows", "share", "drawn", "epochs")]
    for name in run.schedule.sources:
        size, count = run.sizes[name], run.counts[name]
        cells = (f"{size:,}", f"{count / total:.1%}", f"{count:,}", f"{count / size:.2f}")
        table.append((name, _origin(config.data[name]), *cells))
    text = f"""# {config.out.name}

Trained with vlm2vec {version("vlm2vec")} from {config.init or "random weights"}: {config.steps} steps of \
{config.batch_size} pairs, {trained:,} trained parameters{adapter}.

```python
from vlm2vec import Embedder

embedder = Embedder.load("{config.out}")
```

`train_config.json` holds the whole configuration, `log.jsonl` every step.

![curves]({_CURVES})

{markdown(table)}
"""
    if config.validation and (held := folder.read_log(VALIDATION)):
        last = held[-1]
        text += (
            f"\nHeld-out pairs ({config.validation.path.name}), pool of {last['pool']:.0f}: recall at 1 "
            f"{last['recall@1']:.3f}, at 10 {last['recall@10']:.3f}.\n"
        )
    return text


def _origin(source: SourceConfig) -> str:
    if source.dataset is not None:
        return " ".join(part for part in (source.dataset, source.config, source.split) if part)
    return str((source.path or source.annotation_file or Path()).name)


def _smoothed(points: list[tuple[int, float]], window: int) -> tuple[list[float], ...]:
    """Means of `window` neighbours, of either coordinate."""
    starts = range(0, len(points), window)
    return tuple([fmean(values[i : i + window]) for i in starts] for values in zip(*points, strict=True))


def _flat(row: Mapping[str, Any]) -> dict[str, float]:
    """Numbers by name, those of a source or teacher as `source_losses/image`; without the step."""
    flat = {key: value for key, value in row.items() if key != "step" and not isinstance(value, dict)}
    for key, values in row.items():
        if isinstance(values, dict):
            flat |= {f"{key}/{name}": value for name, value in values.items()}
    return flat
