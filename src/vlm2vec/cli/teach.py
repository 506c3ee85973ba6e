"""`vlm2vec teach`: cache what a larger model says of training rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlm2vec.cli.output import fail, note, progress, stoppable


def teach(
    config: Annotated[Path, typer.Argument(help="Configuration of the run to be taught.")],
    model: Annotated[str, typer.Option(help="Name or folder of the teacher.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where its vectors go.")],
) -> None:
    """Embed all that the sources of a configuration hold with a larger model, for `teachers` of that configuration.

    Vectors are kept by content: what has one is not embedded again, and a run that is stopped continues. What cannot be
    read or embedded is told, and the command exits with 1; the trainer replaces rows that it cannot read.
    """
    from vlm2vec.training.config import read_config

    # Before torch and the model are loaded.
    settings = read_config(config)
    from vlm2vec.model.embedder import Embedder
    from vlm2vec.training.teaching import teach as run

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
