"""`vlm2vec report`: compare models on a benchmark by their score files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlm2vec.cli.output import note, write_file


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
