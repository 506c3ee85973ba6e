"""Measure a model on the held-out rows of the corpus: does the right candidate come first?

    python recipes/bundled/measure.py src/vlm2vec/bundled        prints a table, writes work/measure.json   (a minute)

For every held-out file 200 rows of different labels are drawn by seed. Each query is ranked against all 200 positives;
the right one is its own. Chance is 0.5 % for hit@1 and 2.5 % for hit@5 with 200 rows.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vlm2vec.data.records import Pair, read_pairs
from vlm2vec.model.embedder import Embedder

WORK = Path(__file__).parent / "work"
ROWS = 200
SEED = 0


def main(model: str) -> None:
    """Measure and print."""
    embedder = Embedder.load(model)
    results = {}
    for path in sorted((WORK / "corpus").glob("*_heldout.jsonl")):
        pairs = _drawn(read_pairs(path))
        queries = embedder.encode_query([pair.query for pair in pairs], target=pairs[0].target)
        positives = embedder.encode_document([pair.positive for pair in pairs])
        scores = embedder.similarity(queries, positives)
        # Rank of the own positive; a tie counts against it.
        ranks = (scores >= np.diag(scores)[:, None]).sum(1)
        name = path.name.removesuffix("_heldout.jsonl")
        results[name] = {
            "rows": len(pairs),
            "hit@1": round(float((ranks <= 1).mean()), 4),
            "hit@5": round(float((ranks <= 5).mean()), 4),
        }
        print(f"{name:45} {len(pairs):4} rows  hit@1 {results[name]['hit@1']:.3f}  hit@5 {results[name]['hit@5']:.3f}")
    (WORK / "measure.json").write_text(json.dumps({"model": model, "results": results}, indent=1) + "\n", "utf-8")


def _drawn(pairs: Sequence[Pair]) -> list[Pair]:
    """Up to ROWS pairs whose labels differ, in seeded order."""
    order = random.Random(SEED).sample(pairs, len(pairs))
    by_label: dict[str, Pair] = {}
    for pair in order:
        by_label.setdefault(pair.label or pair.origin, pair)
    return list(by_label.values())[:ROWS]


if __name__ == "__main__":
    main(sys.argv[1])
