"""What do the models of the package score on mmeb-mini, and the default one in fewer dimensions or eight bits?

    python benchmarks/mini.py     writes benchmarks/results/mini.json   (five minutes)

All it needs is in the repository. A test holds the default model to this file.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from vlm2vec import Embedder
from vlm2vec.cli.output import quiet_datasets
from vlm2vec.evaluation.runner import SmallerVectors, evaluate
from vlm2vec.evaluation.scores import ModelScores, read_scores
from vlm2vec.tasks.registry import get_tasks, packaged_root
from vlm2vec.vectors.job import NamedEncoder

sys.path.insert(0, str(Path(__file__).resolve().parent / "speed"))

from size import sized, write_results

TASKS = sized(get_tasks("mmeb-mini"), get_tasks("mmeb-mini")[:1])


def main() -> None:
    """Measure and write."""
    quiet_datasets()
    embedder = Embedder.load()
    ways: dict[str, NamedEncoder] = {
        "bundled": embedder,
        "256 dimensions": SmallerVectors(embedder, dim=256),
        "128 dimensions": SmallerVectors(embedder, dim=128),
        "int8": SmallerVectors(embedder, precision="int8"),
        "tiny": Embedder.load("tiny"),
    }
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for name, encoder in ways.items():
            found = evaluate(encoder, TASKS, out=Path(work) / name)
            assert not found.failures, found.failures
            rows.append(_row(name, found.scores))
            print(json.dumps(rows[-1]), flush=True)
    root = packaged_root("mmeb-mini")
    assert root is not None
    rows += [_row(path.stem, read_scores(path)) for path in sorted((root / "baselines").glob("*.json"))]
    document = {"command": "python benchmarks/mini.py", "rows": rows}
    write_results("mini", document)


def _row(name: str, scores: ModelScores) -> dict[str, object]:
    """Means and scores of a hundred, where there are any: pixels say nothing of texts."""
    by_task = {task.name: scores.score(task) for task in TASKS}
    averages = {key: mean.score for key, mean in scores.means(TASKS).items() if not mean.missing}
    return {
        "what": name,
        "means": {key: round(score, 2) for key, score in averages.items() if score is not None},
        "tasks": {key: round(score, 2) for key, score in by_task.items() if score is not None},
    }


if __name__ == "__main__":
    main()
