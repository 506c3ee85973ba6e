"""What do pixels and the two teachers alone score on the held-out rows?

    python recipes/bundled/yardsticks.py     writes benchmarks/results/bundled_yardsticks.json   (some ten minutes)

Rows and candidates are those of measure.py. Each is measured on those files whose queries and candidates it can take,
so that nothing is said of questions about a picture or a clip whose answers are texts:

- pixels: twelve by twelve of them, in colour, of a picture or of the mean of a clip's frames, as in mmeb-mini; a
  query's words are not read.
- pictures: EfficientNet-Lite0's features less their mean over training rows, likewise.
- words: MiniLM-L6, between texts.
- both: a linear map takes EfficientNet's features to MiniLM's vectors of names, so that texts and pictures meet. It is
  fitted to 5,000 training rows, by ridge regression: what the teachers know without a network of ours between them.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Sequence

import numpy as np
from fetch import RECIPE
from measure import WORK, heldout, rank_rows, summary
from numpy.typing import NDArray
from PIL import Image as PILImage
from teachers import look_at, read

from vlm2vec.data.records import Pair, read_pairs
from vlm2vec.items import Item
from vlm2vec.media import load_frames

ROOT = RECIPE.parents[1]
sys.path.insert(0, str(ROOT / "recipes" / "mmeb_mini"))
from baselines import Pixels  # noqa: E402  # A script of recipes/mmeb_mini.

RESULTS = ROOT / "benchmarks" / "results" / "bundled_yardsticks.json"
FITTED_ROWS = 5000
RIDGE = 0.1
"""Times the mean variance of a feature; not tuned."""

Vectors = NDArray[np.float32]


class Yardstick:
    """As much of an embedder as `rank_rows` asks for."""

    def __init__(self, see: Callable[[Item], Vectors]) -> None:
        self.see = see

    def encode_query(self, items: Sequence[Item], *, target: object = None) -> Vectors:
        """A vector an item."""
        return np.stack([self.see(item) for item in items])

    encode_document = encode_query

    def similarity(self, a: Vectors, b: Vectors) -> Vectors:
        """Cosines, rounded: the same frames in another order are the same, whatever the order of a sum."""
        a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6) for x in (a, b))
        scores: Vectors = (a @ b.T).round(5)
        return scores


def main() -> None:
    """Measure and write."""
    teachers = Teachers()
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name, pairs, candidates in heldout():
        query, document = pairs[0].query, pairs[0].positive
        seen: dict[str, Callable[[Item], Vectors]] = {}
        if query.media and document.media:
            seen = {"pixels": pixels, "pictures": teachers.picture}
        elif not query.media and not document.media:
            seen = {"words": teachers.words}
        elif not (query.media and query.text):
            # A question about a picture has no vector in either.
            seen = {"both": teachers.joined}
        for yardstick, see in seen.items():
            results.setdefault(name, {})[yardstick] = summary(*rank_rows(Yardstick(see), pairs, candidates))
        print(name, results.get(name), flush=True)
    found = {"command": "python recipes/bundled/yardsticks.py", "results": results}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def pixels(item: Item) -> Vectors:
    """Colours of a medium twelve pixels wide, less their mean."""
    [(_, vector)] = Pixels().stream([item])
    assert isinstance(vector, np.ndarray)
    return vector


class Teachers:
    """Both teachers, and the map between them."""

    def __init__(self) -> None:
        rows = read_pairs(WORK / "corpus" / "caption_to_image.jsonl")
        drawn = [rows[number] for number in random.Random(0).sample(range(len(rows)), FITTED_ROWS)]
        features = np.concatenate([look_at([_frames(row.positive)[0] for row in part]) for part in _parts(drawn)])
        names = np.concatenate([read([row.label or "" for row in part]) for part in _parts(drawn)])
        self.mean, self.name_mean = features.mean(0), names.mean(0)
        centred = features - self.mean
        square = centred.T @ centred
        ridge = RIDGE * np.trace(square) / len(square)
        self.map = np.linalg.solve(square + ridge * np.eye(len(square)), centred.T @ (names - self.name_mean))

    def picture(self, item: Item) -> Vectors:
        """EfficientNet's features of a medium, [1280]."""
        vector: Vectors = look_at(_frames(item)).mean(0) - self.mean
        return vector

    def words(self, item: Item) -> Vectors:
        """MiniLM's vector of the words, [384]."""
        return read([item.text])[0]

    def joined(self, item: Item) -> Vectors:
        """Either as MiniLM's, [384]."""
        if not item.media:
            return self.words(item) - self.name_mean
        vector: Vectors = (self.picture(item) @ self.map).astype(np.float32)
        return vector


def _frames(item: Item) -> Sequence[PILImage.Image]:
    return load_frames(item.media[0], num_frames=8).images


def _parts(rows: Sequence[Pair]) -> list[Sequence[Pair]]:
    return [rows[start : start + 64] for start in range(0, len(rows), 64)]


if __name__ == "__main__":
    main()
