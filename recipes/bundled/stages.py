"""What did each stage of the bundled model bring? Collects the scores of stages, which lie in the repository's history.

    python recipes/bundled/stages.py     writes benchmarks/results/stages.json, for docs/ablation.md

Nothing is measured here: `benchmarks/bundled.py` and `measure.py` wrote these scores when the stages were made. Means
are taken anew from those of the tasks, for the ones written before the thirteenth stage count the control too.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from vlm2vec.evaluation.aggregate import OVERALL, groups, modalities
from vlm2vec.tasks.registry import get_tasks

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
STAGES = {"6": "912be27", "7": "a54a318", "9": "ed45a65", "12": "d5ea843", "13": "3740423", "14": ""}
"""Stage -> the commit that has its scores; "" for scores as they lie here. The eighth, tenth and eleventh ended
in the middle."""


def main() -> None:
    """Collect and write."""
    scores = {stage: _scores(commit) for stage, commit in STAGES.items()}
    # What all stages have, in the order of the last.
    common = [key for key in list(scores.values())[-1] if all(key in found for found in scores.values())]
    rows = [
        {"scores": kind, "what": what, "of": {stage: found[kind, what] for stage, found in scores.items()}}
        for kind, what in common
    ]
    document = {"command": "python recipes/bundled/stages.py", "commits": STAGES, "rows": rows}
    (RESULTS / "stages.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def _scores(commit: str) -> dict[tuple[str, str], float]:
    """mmeb-mini's means, of 100, and hit@1 on held-out rows, in percent."""
    mini, *_ = _read("bundled.json", commit)["rows"]
    found = {("mmeb-mini", name): score for name, score in _means(mini["tasks"]).items()}
    held = _read("bundled_heldout.json", commit)["results"]
    return found | {("held-out rows", name): round(100 * row["hit@1"], 1) for name, row in held.items()}


def _means(by_task: Mapping[str, float]) -> dict[str, float]:
    tasks = [task for task in get_tasks("mmeb-mini") if not task.control]
    names = [OVERALL, *modalities(tasks), *groups(tasks)]
    members = {
        name: [by_task[task.name] for task in tasks if name in (OVERALL, task.modality, task.group)] for name in names
    }
    return {name: round(fmean(scores), 2) for name, scores in members.items()}


def _read(name: str, commit: str) -> dict[str, Any]:
    path = RESULTS / name
    if not commit:
        text = path.read_text("utf-8")
    else:
        shown = f"{commit}:{path.relative_to(ROOT).as_posix()}"
        text = subprocess.run(["git", "show", shown], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    document: dict[str, Any] = json.loads(text)
    return document


if __name__ == "__main__":
    main()
