"""`vlm2vec evaluate` and `vlm2vec report`: measure a model on a benchmark, and compare models by their scores."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vlm2vec.cli.options import AllowOutside, TaskNames, task_names
from vlm2vec.cli.output import fail, nested_progress, note, quiet_datasets, told, write_file
from vlm2vec.errors import ConfigError
from vlm2vec.extras import require
from vlm2vec.processes import Launch, Processes, among_processes
from vlm2vec.tasks.registry import get_tasks

if TYPE_CHECKING:
    from vlm2vec.evaluation.runner import Evaluation, TaskScore

_PAGE = "report.html"


def evaluate(
    model: Annotated[str, typer.Option(help="Name or folder of the model, or of an adapter.")] = "bundled",
    benchmark: Annotated[str, typer.Option(help="mmeb-mini comes with this package.")] = "mmeb-mini",
    tasks: TaskNames = None,
    modality: Annotated[str | None, typer.Option(help="Only image, video or visdoc.")] = None,
    data: Annotated[Path | None, typer.Option(help="Where annotations and media lie: docs/benchmark_data.md.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where all goes; by default evaluations/BENCHMARK/MODEL.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many queries of each task.")] = None,
    base: Annotated[str | None, typer.Option(help="Base model of an adapter.")] = None,
    prompt_style: Annotated[
        str | None, typer.Option(help="How items are written down; by default the model's own.")
    ] = None,
    max_pixels: Annotated[int | None, typer.Option(help="Of a picture or frame; by default the model's own.")] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], typer.Option(help="Of the numbers it computes with.")
    ] = "auto",
    dim: Annotated[int | None, typer.Option(min=1, help="Only the vectors' first so many dimensions.")] = None,
    precision: Annotated[Literal["float32", "int8"], typer.Option(help="Of the vectors' numbers.")] = "float32",
    late_interaction: Annotated[
        bool, typer.Option("--late-interaction", help="Rank by a vector for every token; of a model with a token head.")
    ] = False,
    download: Annotated[bool, typer.Option("--download", help="Ask the hub for missing annotations.")] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Fail a task with a damaged frame, which is otherwise left out, as published."),
    ] = False,
    allow_outside: AllowOutside = False,
) -> None:
    """Measure a model on a benchmark.

    Without arguments it measures the default model on mmeb-mini, offline. Vectors are kept in OUT, so that a killed run
    continues where it was, and a second one embeds nothing. Under torchrun the processes share the work.

    Prints the averages and every dataset; writes OUT/scores.json for 'vlm2vec report', and OUT/report.html. A task that
    fails is named at the end, the others are measured, and the command exits with 1.
    """
    chosen = get_tasks(benchmark, names=task_names(tasks), modality=modality)
    smaller = dim is not None or precision != "float32"
    if smaller and late_interaction:
        raise ConfigError("--dim and --precision are of single vectors; leave them out, or --late-interaction")
    place = out or Path("evaluations") / benchmark / _folder_name(model, dim, precision, late_interaction, limit)
    require("evaluate", "datasets", "pyarrow")
    quiet_datasets()
    from vlm2vec.evaluation.runner import SmallerVectors, data_place
    from vlm2vec.evaluation.runner import evaluate as run
    from vlm2vec.model.embedder import Embedder

    # Before the model is loaded.
    data_place(chosen, data, limit=limit, download=download)
    numbers = count(1)
    with among_processes() as first, nested_progress("evaluate", len(chosen), shown=first) as show:
        processes = Processes.joined()
        embedder = Embedder.load(
            model,
            base=base,
            prompt_style=prompt_style,
            max_pixels=max_pixels,
            dtype=dtype,
            device=_device(processes),
        )
        if first and not late_interaction and embedder.capabilities.token_dim is not None:
            note(
                f"{model} has a token head; its single vectors are ranked, with --late-interaction those of its tokens"
            )
        found = run(
            SmallerVectors(embedder, dim=dim, precision=precision) if smaller else embedder,
            chosen,
            out=place,
            root=data,
            limit=limit,
            download=download,
            late_interaction=late_interaction,
            strict=strict,
            allow_outside=allow_outside,
            processes=processes,
            on_progress=lambda at: show(at.tasks_done, at.task.name, at.items_done, at.num_items),
            on_score=lambda score: _note_score(score, f"{next(numbers)}/{len(chosen)}"),
        )
    if first:
        # The others say nothing; torchrun takes an exit code above 0 for a crash.
        _print_results(found, len(chosen), place)


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="DIR_OR_FILE...", help="Score files, or folders of them."),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            metavar="published[:VERSION]", help="Add the published models, newest scores or v2.0.0, v2.0.1, v2.1."
        ),
    ] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the tables in Markdown.")] = None,
    submission: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the scores for submission; a list if there are several."),
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with plots.")] = None,
) -> None:
    """Compare models on a benchmark: overall, by modality and by group.

    Scores are times 100. A star marks a mean from which datasets are missing; they are named below the table.
    The page's plots show the first model beside the others, and it holds the best and worst queries of the first
    evaluation among the folders that has kept some.
    """
    from vlm2vec.evaluation.rendering import as_markdown, as_text, report_page
    from vlm2vec.evaluation.report import build_report, first_examples, published_entries, read_entries
    from vlm2vec.evaluation.scores import as_json

    given = read_entries(paths)
    whole = build_report([*given, *(published_entries(against) if against else [])])
    print(as_text(whole))
    if against == "published":
        note("published: v2.1, with ViDoSeek-doc and MMLongBench-doc, which it lacks, from v2.0.1")
    if markdown is not None:
        write_file(markdown, as_markdown(whole))
    if submission is not None:
        write_file(submission, as_json([entry.scores for entry in given]))
    if html is not None:
        place, examples = first_examples(given)
        write_file(html, report_page(whole, examples, examples_of=place))


def _note_score(score: TaskScore, number: str) -> None:
    task, metric = score.task, score.task.metric
    note(
        f"{number} {task.name}: {metric} {100 * score.scores.metrics[metric]:.1f} (chance {100 * score.chance:.1f}), "
        f"{score.scores.num_queries} queries, {score.num_candidates} candidates"
    )
    for warning in score.warnings:
        note(f"  as published: {warning}")


def _print_results(found: Evaluation, num_tasks: int, out: Path) -> None:
    """Print the report and write its page; fails if a task has failed."""
    try:
        if any(found.scores.datasets.values()):
            _print_report(found, out)
        else:
            # The page of an earlier run would show scores that do not hold any more.
            (out / _PAGE).unlink(missing_ok=True)
    finally:
        # These are written down nowhere else.
        for name, error in found.failures.items():
            fail(f"{name}: {told(error)}")
    if found.failures:
        fail(f"{len(found.failures)} of {num_tasks} tasks failed and have no score")
        raise typer.Exit(1)


def _print_report(found: Evaluation, out: Path) -> None:
    from vlm2vec.evaluation.rendering import as_text, report_page
    from vlm2vec.evaluation.report import run_report
    from vlm2vec.evaluation.run_folder import read_examples
    from vlm2vec.evaluation.scores import SCORES

    report = run_report(found.scores, out)
    print(as_text(report, with_datasets=True))
    note(f"wrote {out / SCORES}")
    write_file(out / _PAGE, report_page(report, read_examples(out)))


def _folder_name(model: str, dim: int | None, precision: str, late_interaction: bool, limit: int | None) -> str:
    """The model's name as the name of one folder, and the options that change its scores.

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
    if processes.size == 1:
        return None
    import torch

    return None if not torch.cuda.is_available() else f"cuda:{Launch.own().local_rank}"
