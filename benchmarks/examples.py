"""How much should an example of what is not wanted count, against one of what is?

    python benchmarks/examples.py     prints the table in docs/search.md   (half a minute)

The pictures of samples/ in three groups, with the default model. Of each pair of groups, 30 times by a fixed seed:

- wanted: like one picture of the first group and one of the second, unlike another of the second. Right is the first.
- kept: like one picture of a group, unlike another of the same. Right is that group still.

Both are mean average precisions over all pictures but the examples.
"""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlm2vec import Embedder
from vlm2vec.search.examples import combined
from vlm2vec.text import markdown

GROUPS = ("photos", "drawings", "objects")
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
ROUNDS = 30


def main() -> None:
    """Measure and print."""
    samples = Path(__file__).resolve().parents[1] / "samples"
    files = [(group, path) for group in GROUPS for path in sorted((samples / group).iterdir())]
    groups = np.array([group for group, _ in files])
    vectors = Embedder.load().encode_document([path for _, path in files], normalize_embeddings=True)
    rows = [["share", "wanted", "kept"]]
    for share in SHARES:
        draw, wanted, kept = np.random.default_rng(0), [], []
        for first, second in permutations(GROUPS, 2):
            ours, others = np.flatnonzero(groups == first), np.flatnonzero(groups == second)
            for _ in range(ROUNDS):
                (a, b), (c, d) = draw.choice(ours, 2, replace=False), draw.choice(others, 2, replace=False)
                query = combined(vectors[[a, c]], vectors[[d]], share)
                wanted.append(_average_precision(vectors @ query, groups == first, [a, c, d]))
                query = combined(vectors[[a]], vectors[[b]], share)
                kept.append(_average_precision(vectors @ query, groups == first, [a, b]))
        rows.append([f"{share:g}", f"{np.mean(wanted):.3f}", f"{np.mean(kept):.3f}"])
    print(markdown(rows))


def _average_precision(scores: NDArray[np.float32], right: NDArray[np.bool_], examples: list[int]) -> float:
    order = [place for place in np.argsort(-scores, kind="stable") if place not in examples]
    (ranks,) = np.nonzero(right[order])
    return float(np.mean(np.arange(1, len(ranks) + 1) / (ranks + 1)))


if __name__ == "__main__":
    main()
