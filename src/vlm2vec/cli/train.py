"""`vlm2vec train`, `ablate`, `teach` and `mine`: train a model, and make what its training reads."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm2vec.cli.output import fail, note, print_json, progress, stoppable
from vlm2vec.extras import require
from vlm2vec.processes import among_processes, launched
from vlm2vec.text import aligned

if TYPE_CHECKING:
    from vlm2vec.training.config import TrainConfig
    from vlm2vec.training.mining import MiningReport


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
    settings = _read(config, out)
    if plan:
        _print_plan(settings)
        return
    options = ["--out", str(settings.out), *(["--resume"] if resume else [])]
    if launched(["train", str(config), *options], settings.processes):
        return
    with among_processes() as first:
        _run(settings, resume=resume)
    if first:
        print(settings.out)


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
    from vlm2vec.training.ablation import ablate_sub_batch
    from vlm2vec.training.loop import StepReport

    settings = _read(config, out)
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


def teach(
    config: Annotated[Path, typer.Argument(help="Configuration of the run to be taught.")],
    model: Annotated[str, typer.Option(help="Name or folder of the teacher.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where its vectors go.")],
) -> None:
    """Embed all that the sources of a configuration hold with a larger model, for `teachers` of that configuration.

    Vectors are kept by content: what has one is not embedded again, and a run that is stopped continues. What cannot be
    read or embedded is told, and the command exits with 1; the trainer replaces rows that it cannot read.
    """
    # Before torch and the model are loaded.
    settings = _read(config)
    from vlm2vec.model.embedder import Embedder
    from vlm2vec.training.teachers import teach as run

    teacher = Embedder.load(model)
    with stoppable(f"the vectors in {out} are kept"), progress("embedding") as show:
        report = run(settings, teacher, out, show)
    known = f"{report.missing:,} had no vector yet and {report.embedded:,} have now"
    note(f"{report.items:,} different items, of which {known}")
    for message in report.bad[:10]:
        note(f"not embedded: {message}")
    print(out)
    if report.bad:
        fail(f"{len(report.bad)} rows or items have no vector")
        raise typer.Exit(1)


def mine(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS.jsonl", help="Training pairs.")],
    out: Annotated[Path, typer.Option(metavar="MINED.jsonl", help="Where the rows go.")],
    model: Annotated[str, typer.Option(help="Name or folder of the model that searches.")] = "bundled",
    negatives: Annotated[int, typer.Option(min=1, help="How many to find for each row.")] = 4,
    margin: Annotated[
        float, typer.Option(help="Leave out what scores above the row's own positive less this cosine.")
    ] = 0.05,
    pool: Annotated[int, typer.Option(min=1, help="How many ranks to look at.")] = 100,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where vectors are kept; by default MINED.jsonl.vectors.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Find hard negatives for training pairs: positives of other rows that look like an answer and are none.

    Writes the same rows with `negatives` added. Vectors are kept, so a run that is stopped continues where it was, and
    another margin or number takes seconds.
    """
    from vlm2vec.training.mining import check_output, mine_file

    # Before torch and the model are loaded.
    check_output(pairs, out)
    from vlm2vec.model.embedder import Embedder

    vectors = cache or out.with_name(f"{out.name}.vectors")
    embedder = Embedder.load(model)
    with stoppable(f"the vectors in {vectors} are kept"), progress("embedding") as show:
        report = mine_file(
            pairs,
            out,
            embedder,
            vectors=vectors,
            num_negatives=negatives,
            margin=margin,
            pool=pool,
            on_progress=show,
        )
    if as_json:
        print_json(asdict(report) | {"out": str(out)})
        return
    note(_mined(report))
    print(out)


def _read(config: Path, out: Path | None = None) -> TrainConfig:
    # What follows imports it at once.
    require("train", "torch")
    from vlm2vec.training.config import read_config

    settings = read_config(config)
    return settings if out is None else settings.model_copy(update={"out": out.resolve()})


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
    from vlm2vec.training.batches import RunRows

    rows = RunRows(settings).plan()
    table = [["source", "rows", "share", "pairs", "epochs", "tokens (estimate)"]]
    for row in rows:
        tokens = "unreadable" if row.tokens is None else f"{row.tokens:,}"
        table.append([row.name, f"{row.rows:,}", f"{row.share:.2%}", f"{row.pairs:,}", f"{row.epochs:.2f}", tokens])
    num_rows, num_pairs = sum(row.rows for row in rows), sum(row.pairs for row in rows)
    num_tokens = sum(row.tokens or 0 for row in rows)
    table.append(["all", f"{num_rows:,}", "100%", f"{num_pairs:,}", "", f"{num_tokens:,}"])
    print(f"{settings.steps:,} steps of {settings.batch_size:,} pairs\n\n{aligned(table)}")


def _mined(report: MiningReport) -> str:
    """The report of `mine` in three lines."""
    similarity = f"mean similarity to positives {report.positive_similarity:.3f}"
    if report.negative_similarity is not None:
        similarity += f", to negatives {report.negative_similarity:.3f}"
    return (
        f"{report.rows} rows, {report.candidates} different positives: {report.negatives} negatives found, "
        f"{report.short_rows} rows got fewer than wanted\n"
        f"left out: {report.dropped_by_label} of the same label or query, "
        f"{report.dropped_by_margin} too close to the positive\n{similarity}"
    )


def _numbers(text: str) -> list[int]:
    try:
        return list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of whole numbers such as 0,32,64") from None
