"""`vlm2vec evaluate`: measure a model on a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vlm2vec.cli.options import task_names
from vlm2vec.cli.output import fail, nested_progress, note, quiet_datasets
from vlm2vec.cli.report import write_text
from vlm2vec.errors import ConfigError
from vlm2vec.extras import require
from vlm2vec.tasks.registry import get_tasks, packaged_root

if TYPE_CHECKING:
    from vlm2vec.evaluation.runner import Evaluation, NamedEncoder, Progress, TaskScore
    from vlm2vec.processes import Processes
    from vlm2vec.tasks.data import TaskSpec

REPORT = "report.html"


def evaluate(
    model: Annotated[str, typer.Option(help="Name or folder of the model, or of an adapter.")] = "bundled",
    benchmark: Annotated[str, typer.Option(help="mmeb-mini comes with this package.")] = "mmeb-mini",
    tasks: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="Only these tasks; else all.", show_default=False)
    ] = None,
    modality: Annotated[str | None, typer.Option(help="Only image, video or visdoc.", show_default=False)] = None,
    data: Annotated[
        Path | None, typer.Option(help="Where annotations and media lie: docs/benchmark_data.md.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where all goes; else evaluations/BENCHMARK/MODEL.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many queries of each task.", show_default=False)
    ] = None,
    base: Annotated[str | None, typer.Option(help="Base model of an adapter.", show_default=False)] = None,
    prompt_style: Annotated[
        str | None, typer.Option(help="How items are written down; else the model's own.", show_default=False)
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(help="Of a picture or frame; else the model's own.", show_default=False)
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or auto.")] = "auto",
    dim: Annotated[
        int | None, typer.Option(min=1, help="Only the vectors' first so many dimensions.", show_default=False)
    ] = None,
    precision: Annotated[Literal["float32", "int8"], typer.Option(help="Of the vectors' numbers.")] = "float32",
    late_interaction: Annotated[
        bool, typer.Option("--late-interaction", help="Rank by a vector for every token; of a model with a token head.")
    ] = False,
    download: Annotated[bool, typer.Option("--download", help="Ask the hub for missing annotations.")] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Fail a task with a damaged frame; else the frame is left out, as published."),
    ] = False,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Let rows name files outside of the data root.")
    ] = False,
) -> None:
    """Measure a model on a benchmark.

    Without arguments it measures the bundled model on mmeb-mini, offline. Vectors are kept in OUT, so that a killed run
    goes on where it was, and a second one embeds nothing. Under torchrun the processes share the work.

    Prints the averages and every dataset; writes OUT/scores.json for 'vlm2vec report', and OUT/report.html. A task that
    fails is named at the end, the others go on, and the command exits with 1.
    """
    chosen = get_tasks(benchmark, names=task_names(tasks), modality=modality)
    smaller = dim is not None or precision != "float32"
    if smaller and late_interaction:
        raise ConfigError("--dim and --precision are of single vectors; leave them out, or --late-interaction")
    place = out or Path("evaluations") / benchmark / _folder_name(model, dim, precision, late_interaction, limit)
    require("evaluate", "datasets", "pyarrow")
    quiet_datasets()
    from vlm2vec.evaluation.runner import data_place
    from vlm2vec.evaluation.smaller import SmallerVectors
    from vlm2vec.model.embedder import Embedder
    from vlm2vec.processes import among_processes, joined_processes

    # Before the model is loaded.
    data_place(chosen, data, limit=limit, download=download)
    with among_processes() as first:
        processes = joined_processes()
        embedder = Embedder.load(
            model,
            base=base,
            prompt_style=prompt_style,
            max_pixels=max_pixels,
            dtype=dtype,  # type: ignore[arg-type]  # load checks it.
            device=_device(processes),
        )
        if first and not late_interaction and embedder.backbone.token_head is not None:
            note(
                f"{model} has a token head; its single vectors are ranked, with --late-interaction those of its tokens"
            )
        encoder = SmallerVectors(embedder, dim=dim, precision=precision) if smaller else embedder
        found = _run(encoder, chosen, place, data, limit, download, late_interaction, strict, allow_outside, processes)
    if not first:
        # The first process has said all; torchrun takes an exit code above 0 for a crash.
        return
    try:
        _print_report(found, place, benchmark)
    finally:
        # These are written down nowhere else.
        for name, reason in found.failures.items():
            fail(f"{name}: {reason}")
    if found.failures:
        fail(f"{len(found.failures)} of {len(chosen)} tasks failed and have no score")
        raise typer.Exit(1)


def _run(
    encoder: NamedEncoder,
    tasks: list[TaskSpec],
    out: Path,
    data: Path | None,
    limit: int | None,
    download: bool,
    late_interaction: bool,
    strict: bool,
    allow_outside: bool,
    processes: Processes,
) -> Evaluation:
    from vlm2vec.evaluation.runner import evaluate as run

    num_done = 0

    def on_score(score: TaskScore) -> None:
        nonlocal num_done
        num_done += 1
        task, metric = score.task, score.task.metric
        note(
            f"{num_done}/{len(tasks)} {task.name}: {metric} {100 * score.scores.metrics[metric]:.1f} (chance "
            f"{100 * score.chance:.1f}), {score.scores.num_queries} queries, {score.num_candidates} candidates"
        )
        for warning in score.warnings:
            note(f"  as published: {warning}")

    with nested_progress("evaluate", len(tasks)) as show:

        def on_progress(where: Progress) -> None:
            if processes.rank == 0:
                show(where.tasks_done, where.task.name, where.items_done, where.num_items)

        return run(
            encoder,
            tasks,
            out=out,
            root=data,
            limit=limit,
            download=download,
            late_interaction=late_interaction,
            strict=strict,
            allow_outside=allow_outside,
            processes=processes,
            on_progress=on_progress,
            on_score=on_score,
        )


def _print_report(found: Evaluation, out: Path, benchmark: str) -> None:
    if not any(found.scores.datasets.values()):
        # The page of an earlier run would show scores that do not hold any more.
        (out / REPORT).unlink(missing_ok=True)
        return
    from vlm2vec.evaluation.examples import EXAMPLES, read_examples
    from vlm2vec.evaluation.page import report_page
    from vlm2vec.evaluation.report import Entry, as_text, build_report, datasets_text, limited_to, read_entries
    from vlm2vec.evaluation.scores import SCORES

    root = packaged_root(benchmark)
    # Where candidates come with the queries, fewer queries have fewer candidates: whole baselines say nothing then.
    baselines = [] if root is None or found.scores.limit is not None else read_entries([root / "baselines"])
    # Means over other datasets than the run's could not be compared with its own.
    report = build_report([Entry(found.scores, str(out)), *(limited_to(one, found.scores) for one in baselines)])
    print(as_text(report))
    print()
    print(datasets_text(report))
    note(f"wrote {out / SCORES}")
    write_text(out / REPORT, report_page(report, read_examples(out / EXAMPLES)))


def _folder_name(model: str, dim: int | None, precision: str, late_interaction: bool, limit: int | None) -> str:
    """The model's name as the name of one folder, and what else the scores are of.

    "VLM2Vec/VLM2Vec-V2.0" with 128 dimensions is VLM2Vec--VLM2Vec-V2.0-128.
    """
    parts = [part for part in Path(model).parts if part not in ("/", ".", "..")]
    others = {
        str(dim): dim is not None,
        precision: precision != "float32",
        "late-interaction": late_interaction,
        f"limit{limit}": limit is not None,
    }
    return "-".join(["--".join(parts[-2:]) or "model", *(name for name, said in others.items() if said)])


def _device(processes: Processes) -> str | None:
    """This process's own device under torchrun; None: the first."""
    import torch

    from vlm2vec.processes import own_local_rank

    if processes.size == 1 or not torch.cuda.is_available():
        return None
    return f"cuda:{own_local_rank()}"
