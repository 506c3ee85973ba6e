"""What does it save to keep vectors by content? Four tasks over the same pictures, as benchmarks share them.

    python benchmarks/speed/mixed.py      writes benchmarks/results/mixed.json   (five minutes)

Tasks: pictures against pictures, texts against pictures, pictures against texts, and the first again. Each is embedded
by a store in turn, then all again with the store warm; beside it, every item of every task through the padded way.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from statistics import median
from typing import Any

from machine import describe
from models import build_model
from size import sized, write_results
from ways import padded
from workloads import MAX_PIXELS, images, texts

from vlm2vec import Embedder, Item
from vlm2vec.model.backbone import Ask
from vlm2vec.vectors.job import EmbedJob, Work
from vlm2vec.vectors.keys import item_key
from vlm2vec.vectors.store import VectorStore

TURNS = sized(3, 1)


class Counting:
    """A model that remembers how many items went through it."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.dim, self.fingerprint = embedder.dim, embedder.fingerprint
        self.num_embedded = 0

    def stream(self, items: Iterable[Item], ask: Ask = Ask(), **options: Any) -> Generator[Any, None, None]:
        for one in self._embedder.stream(items, ask, **options):
            self.num_embedded += 1
            yield one


def main() -> None:
    """Measure and write."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        build_model("small", folder / "small")
        pictures, sentences = images(folder), texts(sized(64, 2))
        tasks = [pictures + pictures, sentences + pictures, pictures + sentences, pictures + pictures]
        everything = [item for task in tasks for item in task]
        model = Counting(Embedder.load(folder / "small", max_pixels=MAX_PIXELS["images"], device="cpu"))
        other = padded(folder / "small", "float32", "images", pictures)
        of_texts = padded(folder / "small", "float32", "texts", sentences)
        turns: dict[str, list[float]] = {"cold": [], "warm": [], "padded": []}
        embedded = {}
        for turn in range(TURNS):
            for name in ("cold", "warm"):
                store = VectorStore.open(folder / f"store_{turn}", model.dim)
                model.num_embedded = 0
                start = time.perf_counter()
                for task in tasks:
                    EmbedJob(model, store).run(
                        Work(item_key(item, fingerprint=model.fingerprint), item, "") for item in task
                    )
                turns[name].append(time.perf_counter() - start)
                embedded[name] = model.num_embedded
            start = time.perf_counter()
            for task in tasks:
                for part in (task[: len(task) // 2], task[len(task) // 2 :]):
                    (of_texts if part == sentences else other).embed()
            turns["padded"].append(time.perf_counter() - start)
    document = {
        "command": "python benchmarks/speed/mixed.py",
        "machine": describe(),
        "model": "small, float32",
        "items": len(everything),
        "different_items": len(pictures) + len(sentences),
        "embedded": embedded,
        "median_s": {name: round(median(times), 3) for name, times in turns.items()},
    }
    print(json.dumps(document, indent=1))
    write_results("mixed", document)


if __name__ == "__main__":
    main()
