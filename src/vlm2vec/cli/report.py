"""`vlm2vec report`: compare models on a benchmark by their score files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm2vec.cli.output import note
from vlm2vec.errors import ConfigError

if TYPE_CHECKING:
    from vlm2vec.evaluation.examples import Example


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="DIR_OR_FILE...", help="Score files, or folders of them.", show_default=False),
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
    from vlm2vec.evaluation.report import (
        SHOWN_METRICS,
        as_markdown,
        as_text,
        build_report,
        datasets_text,
        published_entries,
        read_entries,
    )
    from vlm2vec.evaluation.scores import as_json

    by_path = [read_entries([path]) for path in paths]
    given = [entry for entries in by_path for entry in entries]
    published = published_entries(against) if against else []
    whole = build_report([*given, *published])
    print(as_text(whole))
    if whole.benchmark in SHOWN_METRICS:
        # The means above are of the main metric only.
        print(f"\n{datasets_text(whole)}")
    if against == "published":
        note("published: v2.1, with ViDoSeek-doc and MMLongBench-doc, which it lacks, from v2.0.1")
    if markdown is not None:
        write_text(markdown, as_markdown(whole))
    if submission is not None:
        write_text(submission, as_json([entry.scores for entry in given]))
    if html is not None:
        from vlm2vec.evaluation.page import report_page

        place, examples = _examples(paths, [len(entries) for entries in by_path])
        write_text(html, report_page(whole, examples, examples_of=place))


def _examples(paths: list[Path], counts: list[int]) -> tuple[int, dict[str, list[Example]]]:
    """The examples of the first evaluation that has some, and which model it is; `counts` is of each path's models."""
    from vlm2vec.evaluation.examples import EXAMPLES, read_examples
    from vlm2vec.evaluation.scores import SCORES

    for place, path in enumerate(paths):
        scores = path / SCORES if path.is_dir() else path
        # Beside score files of other names there may be examples of any model.
        if scores.name == SCORES and scores.is_file() and (found := read_examples(scores.parent / EXAMPLES)):
            return sum(counts[:place]), found
    return 0, {}


def write_text(path: Path, text: str) -> None:
    """Write a file and say so.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; give another path") from error
    note(f"wrote {path}")
