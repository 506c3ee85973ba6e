"""What does the default model reach? Everything that its card and docs/models.md say of it, measured by one command.

    python benchmarks/default_model.py             all parts, some twenty minutes on two quiet cores
    python benchmarks/default_model.py cold speed  only these
    python benchmarks/speed/tables.py              makes the tables of the card and of docs/models.md from the results

| part | question | result under benchmarks/results/ |
|---|---|---|
| scores | hit@1 and hit@5 beside the yardsticks, in 384, 256 and 128 dimensions and in int8 | default_model.json |
| drafts | does a JPEG that is decoded small get the same answers? | default_model_drafts.json |
| films | mean or largest numbers of frames, and how many frames? | default_model_films.json |
| texts | how is a text of 500 words read best? | default_model_texts.json |
| exact | how far is it from torch, and does a vector depend on its company? | default_model_exact.json |
| speed | milliseconds a picture, photographs a second and core | default_model_speed.json |
| cold | from a question to its hits on 10,000 pictures, by a new process and a running one | default_model_cold.json |

scores, drafts, exact and speed need the packages that `python recipes/default/fetch.py` fetches; scores also what
`python recipes/default/features.py` makes of them. speed and cold need a machine on which nothing else runs.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "default"), str(HERE / "speed")]

from machine import describe  # noqa: E402
from size import RESULTS, TOY, write_results  # noqa: E402

MEASURE = HERE.parent / "recipes" / "default" / "measure.py"
PARTS = ("scores", "drafts", "films", "texts", "exact", "speed", "cold")
TIMED = ("speed", "cold")
"""Their numbers depend on the machine, so that the result says which it was."""


def main(parts: list[str]) -> None:
    """Measure and write."""
    if unknown := [part for part in parts if part not in PARTS]:
        sys.exit(f"no part is called {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    for part in parts or PARTS:
        if part == "scores":
            _scores()
            continue
        document = {"command": f"python benchmarks/default_model.py {part}"}
        document |= {"machine": describe()} if part in TIMED else {}
        write_results(f"default_model_{part}", document | importlib.import_module(part).measure())


def _scores() -> None:
    """By the recipe's own script, which writes the result itself."""
    if TOY:
        print("toy size: the recipe's measure.py is not run, since it needs the recipe's packages")
        return
    out = RESULTS / "default_model.json"
    subprocess.run([sys.executable, MEASURE, out, "bundled", "tiny", "pixels", "untrained"], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
