"""What does the size of the sub-batches do? The same run several times, a table and a plot."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from vlm2vec.errors import ConfigError
from vlm2vec.processes import own_rank
from vlm2vec.training.checkpoint import check_same_run, checkpoints, is_finished
from vlm2vec.training.config import TrainConfig
from vlm2vec.training.loop import StepReport, train
from vlm2vec.training.report import VALIDATION, read_log

METRICS = ("recall@1", "recall@5", "recall@10")


class Trial(NamedTuple):
    """One run of an ablation and its held-out scores at the end."""

    sub_batch: int
    seed: int
    scores: dict[str, float]


def ablate_sub_batch(
    config: TrainConfig,
    sub_batches: Sequence[int],
    seeds: Sequence[int],
    on_run: Callable[[int, int, str], None] = lambda done, total, name: None,
    on_step: Callable[[StepReport], None] = lambda report: None,
) -> list[Trial]:
    """Train once for each sub-batch and seed, all else equal (an ablation of arXiv 2507.04590), and write the results.

    Runs lie under `config.out`, each in a folder of its own; those that are finished are not done again, and one that
    was stopped goes on. `ablation.json`, `ablation.md` and `ablation.png` beside them hold the held-out recalls.

    Raises:
        ConfigError: the configuration has no `validation`, a sub-batch does not divide the batch, or a finished run
            is of another configuration.
    """
    if config.validation is None:
        raise ConfigError("an ablation compares held-out recall; add 'validation' to the configuration")
    for sub_batch in sub_batches:
        if config.batch_size % (sub_batch or 1):
            raise ConfigError(f"sub-batch {sub_batch} does not divide batch_size={config.batch_size}")
    plan = [(sub_batch, seed) for sub_batch in sub_batches for seed in seeds]
    trials = []
    for number, (sub_batch, seed) in enumerate(plan):
        out = config.out / f"sub_batch_{sub_batch}_seed_{seed}"
        on_run(number, len(plan), out.name)
        run = config.model_copy(update={"out": out, "sub_batch": sub_batch, "seed": seed})
        if is_finished(out):
            check_same_run(out, run)
        else:
            train(run, resume=bool(checkpoints(out)), on_step=on_step)
        last = read_log(out / VALIDATION)[-1]
        trials.append(Trial(sub_batch, seed, {metric: last[metric] for metric in METRICS}))
    if own_rank() == 0:
        write_results(config.out, trials, config.batch_size)
    return trials


def write_results(out: Path, trials: Sequence[Trial], batch_size: int) -> None:
    """Write the table as JSON and Markdown, and the plot."""
    rows = [{"sub_batch": trial.sub_batch, "seed": trial.seed, **trial.scores} for trial in trials]
    (out / "ablation.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    sub_batches = list(dict.fromkeys(trial.sub_batch for trial in trials))
    lines = ["| sub-batch | seeds | " + " | ".join(METRICS) + " |", "|---|---|" + "---|" * len(METRICS)]
    for sub_batch in sub_batches:
        scores = {metric: [t.scores[metric] for t in trials if t.sub_batch == sub_batch] for metric in METRICS}
        cells = [f"{mean(v):.3f}" + (f" ± {stdev(v):.3f}" if len(v) > 1 else "") for v in scores.values()]
        lines.append(f"| {_name(sub_batch, batch_size)} | {len(scores[METRICS[0]])} | {' | '.join(cells)} |")
    (out / "ablation.md").write_text("\n".join(lines) + "\n", "utf-8")
    _draw(out / "ablation.png", trials, sub_batches, batch_size)


def _draw(path: Path, trials: Sequence[Trial], sub_batches: Sequence[int], batch_size: int) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    places = range(len(sub_batches))
    for metric in METRICS:
        values = [[t.scores[metric] for t in trials if t.sub_batch == sub_batch] for sub_batch in sub_batches]
        [line] = axes.plot(places, [mean(v) for v in values], marker="o", label=metric)
        for place, points in zip(places, values, strict=True):
            axes.plot([place] * len(points), points, ".", color=line.get_color(), alpha=0.4)
    axes.set_xticks(places, [_name(sub_batch, batch_size) for sub_batch in sub_batches])
    axes.set(xlabel="sub-batch", ylabel="held-out recall", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=120)


def _name(sub_batch: int, batch_size: int) -> str:
    return f"{sub_batch} (whole)" if sub_batch == batch_size else str(sub_batch)
