"""`vlm2vec ablate`: the same training run with sub-batches of several sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlm2vec.cli.output import note, progress


def ablate(
    config: Annotated[Path, typer.Argument(help="A YAML file as for 'vlm2vec train', with validation.")],
    sub_batches: Annotated[str, typer.Option(help="Sizes, with commas between; 0 draws every row for itself.")],
    seeds: Annotated[str, typer.Option(help="Seeds, with commas between; each size is run with each.")] = "1",
    out: Annotated[
        Path | None,
        typer.Option(help="Where runs, table and plot go; by default as the file says."),
    ] = None,
) -> None:
    """Train once for each size of the sub-batches and compare held-out recall.

    Writes ablation.md, ablation.json and ablation.png into OUT and prints the table. Started again, it continues where
    it was stopped.
    """
    from vlm2vec.processes import among_processes, launched
    from vlm2vec.training.ablation import ablate_sub_batch
    from vlm2vec.training.config import read_config
    from vlm2vec.training.loop import StepReport

    settings = read_config(config)
    if out is not None:
        settings = settings.model_copy(update={"out": out.resolve()})
    options = ["--sub-batches", sub_batches, "--seeds", seeds, "--out", str(settings.out)]
    if launched(["ablate", str(config), *options], settings.processes):
        return
    with progress("training") as show, among_processes() as first:

        def on_run(done: int, total: int, name: str) -> None:
            if first:
                note(f"run {done + 1} of {total}: {name}")

        def on_step(report: StepReport) -> None:
            show(report.step + 1, settings.steps)

        ablate_sub_batch(settings, _numbers(sub_batches), _numbers(seeds), on_run, on_step)
    if first:
        print((settings.out / "ablation.md").read_text("utf-8"), end="")


def _numbers(text: str) -> list[int]:
    try:
        return list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of whole numbers such as 0,32,64") from None
