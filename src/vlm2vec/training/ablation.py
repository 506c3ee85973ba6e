"""Which size of sub-batches is best? The same run several times, a table and a plot."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from vlm2vec.errors import ConfigError
from vlm2vec.extras import require
from vlm2vec.processes import Launch
from vlm2vec.text import markdown
from vlm2vec.training.checkpoint import TrainingFolder
from vlm2vec.training.config import TrainConfig
from vlm2vec.training.log import VALIDATION
from vlm2vec.training.loop import StepReport, train

_METRICS = ("recall@1", "recall@5", "recall@10")


def ablate_sub_batch(
    config: TrainConfig,
    sub_batches: Sequence[int],
    seeds: Sequence[int],
    on_run: Callable[[int, int, str], None] = lambda done, total, name: None,
    on_step: Callable[[StepReport], None] = lambda report: None,
) -> None:
    """Train once for each sub-batch and seed, all else equal (an ablation of arXiv 2507.04590), and write the results.

    Runs lie under `config.out`, each in a folder of its own; a finished one is not done again, a stopped one continues.
    `ablation.json`, `ablation.md` and `ablation.png` beside them hold the held-out recalls.

    Raises:
        ConfigError: the configuration has no `validation`, a sub-batch does not divide the batch, or a finished run
            is of another configuration.
    """
    require("train", "matplotlib")
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
        folder = TrainingFolder(out)
        if folder.is_finished:
            folder.check_same_run(run)
        else:
            train(run, resume=bool(folder.checkpoints), on_step=on_step)
        last = folder.read_log(VALIDATION)[-1]
        trials.append({"sub_batch": sub_batch, "seed": seed} | {metric: last[metric] for metric in _METRICS})
    if Launch.own().rank == 0:
        _write_results(config.out, trials, config.batch_size)


def _write_results(out: Path, trials: Sequence[Mapping[str, float]], batch_size: int) -> None:
    """Write the table as JSON and Markdown, and the plot."""
    (out / "ablation.json").write_text(json.dumps(trials, indent=1) + "\n", "utf-8")
    # A column of recalls for each metric.
    columns = {
        size: [[trial[metric] for trial in trials if trial["sub_batch"] == size] for metric in _METRICS]
        for size in dict.fromkeys(trial["sub_batch"] for trial in trials)
    }
    names = [f"{size} (whole)" if size == batch_size else str(size) for size in columns]
    table = [["sub-batch", "seeds", *_METRICS]]
    for name, column in zip(names, columns.values(), strict=True):
        cells = [f"{mean(v):.3f}" + (f" ± {stdev(v):.3f}" if len(v) > 1 else "") for v in column]
        table.append([name, str(len(column[0])), *cells])
    (out / "ablation.md").write_text(markdown(table) + "\n", "utf-8")
    _draw(out / "ablation.png", names, list(columns.values()))


def _draw(path: Path, names: Sequence[str], columns: Sequence[Sequence[Sequence[float]]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for number, metric in enumerate(_METRICS):
        [line] = axes.plot([mean(column[number]) for column in columns], marker="o", label=metric)
        for place, column in enumerate(columns):
            recalls = column[number]
            axes.plot([place] * len(recalls), recalls, ".", color=line.get_color(), alpha=0.4)
    axes.set_xticks(range(len(names)), names)
    axes.set(xlabel="sub-batch", ylabel="held-out recall", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=120)
