"""`vlm2vec train`: train a model from a YAML configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm2vec.cli.output import note, progress
from vlm2vec.text import aligned

if TYPE_CHECKING:
    from vlm2vec.training.config import TrainConfig


def train(
    config: Annotated[Path, typer.Argument(help="A YAML file; docs/training.md lists its fields.")],
    out: Annotated[Path | None, typer.Option(help="Where the model goes; by default as the file says.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only print what would be read from each source.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run that lies in OUT.")] = False,
) -> None:
    """Train a model from a YAML configuration.

    Writes the model, ready for `--model`, with a model card, curves, and log.jsonl with a line for every step. With
    `processes: N` in the file, or under torchrun, N processes share every batch.
    """
    from vlm2vec.training.config import read_config

    settings = read_config(config)
    if out is not None:
        settings = settings.model_copy(update={"out": out.resolve()})
    if plan:
        _print_plan(settings)
        return
    from vlm2vec.processes import among_processes, launched

    options = ["--out", str(settings.out), *(["--resume"] if resume else [])]
    if launched(["train", str(config), *options], settings.processes):
        return
    with among_processes() as first:
        _run(settings, resume=resume)
    if first:
        print(settings.out)


def _run(settings: TrainConfig, *, resume: bool) -> None:
    from vlm2vec.training.loop import Announcement, StepReport
    from vlm2vec.training.loop import train as run

    note_every = max(1, settings.steps // 20)
    with progress("training") as show:

        def on_start(announcement: Announcement) -> None:
            total = sum(announcement.trained.values())
            note(f"{total:,} parameters are trained:")
            for name, number in announcement.trained.items():
                note(f"  {number:>13,}  {name}")
            if announcement.unread:
                note(
                    f"never read in {settings.steps:,} steps: {', '.join(announcement.unread)}; give more weight or "
                    "steps, or a smaller sub_batch"
                )
            if announcement.first_step:
                note(f"continuing after step {announcement.first_step}")

        def on_step(report: StepReport) -> None:
            show(report.step + 1, settings.steps)
            if (report.step + 1) % note_every == 0 or report.step == 0:
                note(
                    f"step {report.step + 1}: loss {report.loss:.3f}, accuracy in the batch {report.accuracy:.3f}, "
                    f"{report.tokens_per_s:.0f} tokens/s"
                )

        run(settings, resume=resume, on_start=on_start, on_step=on_step)


def _print_plan(settings: TrainConfig) -> None:
    from vlm2vec.training.plan import plan_run

    rows = plan_run(settings)
    table = [["source", "rows", "share", "pairs", "epochs", "tokens (estimate)"]]
    for row in rows:
        tokens = "unreadable" if row.tokens is None else f"{row.tokens:,}"
        table.append([row.name, f"{row.rows:,}", f"{row.share:.2%}", f"{row.pairs:,}", f"{row.epochs:.2f}", tokens])
    num_rows, num_pairs = sum(row.rows for row in rows), sum(row.pairs for row in rows)
    num_tokens = sum(row.tokens or 0 for row in rows)
    table.append(["all", f"{num_rows:,}", "100%", f"{num_pairs:,}", "", f"{num_tokens:,}"])
    print(f"{settings.steps:,} steps of {settings.batch_size:,} pairs\n\n{aligned(table)}")
