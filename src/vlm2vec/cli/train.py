"""`vlm2vec train`: train a model from a YAML configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlm2vec.cli.output import note, progress


def train(
    config: Annotated[Path, typer.Argument(help="A YAML file; docs/training.md lists its fields.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Where the model goes; else as the file says.", show_default=False)
    ] = None,
) -> None:
    """Train a model from a YAML configuration.

    Writes the model, ready for `--model`, and log.jsonl with a line for every step.
    """
    from vlm2vec.training.config import read_config
    from vlm2vec.training.loop import StepReport
    from vlm2vec.training.loop import train as run

    settings = read_config(config)
    if out is not None:
        settings = settings.model_copy(update={"out": out.resolve()})
    note_every = max(1, settings.steps // 20)
    with progress("training") as show:

        def on_step(report: StepReport) -> None:
            show(report.step + 1, settings.steps)
            if (report.step + 1) % note_every == 0 or report.step == 0:
                note(
                    f"step {report.step + 1}: loss {report.loss:.3f}, accuracy in the batch {report.accuracy:.3f}, "
                    f"{report.tokens_per_s:.0f} tokens/s"
                )

        run(settings, on_step)
    print(settings.out)
