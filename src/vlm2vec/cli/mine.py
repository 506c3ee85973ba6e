"""`vlm2vec mine`: find hard negatives for training pairs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm2vec.cli.output import note, print_json, progress, stoppable

if TYPE_CHECKING:
    from vlm2vec.training.mining import MiningReport


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
    note(_as_text(report))
    print(out)


def _as_text(report: MiningReport) -> str:
    """The report in three lines."""
    similarity = f"mean similarity to positives {report.positive_similarity:.3f}"
    if report.negative_similarity is not None:
        similarity += f", to negatives {report.negative_similarity:.3f}"
    return (
        f"{report.rows} rows, {report.candidates} different positives: {report.negatives} negatives found, "
        f"{report.short_rows} rows got fewer than wanted\n"
        f"left out: {report.dropped_by_label} of the same label or query, "
        f"{report.dropped_by_margin} too close to the positive\n{similarity}"
    )
