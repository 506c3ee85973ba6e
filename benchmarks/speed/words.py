"""What do words and meanings cost in each store: to write, to index and to find?

    python benchmarks/speed/words.py     prints the table of docs/search.md   (a minute and a half)

100,000 pictures with 100 words and a passage each. Words are drawn with the frequencies of a language (Zipf): word n of
20,000 is drawn in proportion to 1 / n.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from typing import get_args

import numpy as np
from size import sized

from vlm2vec.search.store import Background, FileRows, IndexInfo, Look, Store, StoredUnit, Vector, Wanted, Words
from vlm2vec.search.stores import StoreKind, create_store
from vlm2vec.text import markdown

UNITS, DIM, COMMIT, TIMES = sized((100_000, 384, 5000, 5), (500, 16, 100, 1))
VOCABULARY = np.array([f"w{number}" for number in range(1, 20_001)])
ASKED = {
    "word of 1 in 100 units": Wanted(("w1000",)),
    "word of every unit": Wanted(("w1",)),
    "five words": Wanted(("w10", "w100", "w1000", "w2000", "w5000")),
    "phrase": Wanted(phrases=("w5 w6",)),
    "name": Wanted(("IMG_2031",)),
}


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as work:
        columns = {kind: measure(Path(work) / kind, kind) for kind in get_args(StoreKind)}
    rows = [[name, *(f"{column[name]:,.4g}" for column in columns.values())] for name in next(iter(columns.values()))]
    print(markdown([[f"of {UNITS:,} units", *columns], *rows]))


def measure(place: Path, kind: StoreKind) -> dict[str, float]:
    """Write a store and search it; seconds of processor to write, milliseconds by the clock to search."""
    rng = np.random.default_rng(0)
    info, background = IndexInfo("m", "f", DIM, "float32", ".."), Background(_vectors(rng, 400))
    store = create_store(place, info, kind=kind, background=background)
    write_s = 0.0
    with store.writing():
        for first in range(0, UNITS, COMMIT):
            files = _files(rng, first)
            start_s = time.process_time()
            store.commit([], files)
            write_s += time.process_time() - start_s
        start_s = time.process_time()
        store.tidy(lambda _: nullcontext())
        tidy_s = time.process_time() - start_s
    return {"write, s": write_s, "merge and index, s": tidy_s, **_searches(store, _vectors(rng, 1)[0])}


def _searches(store: Store, query: Vector) -> dict[str, float]:
    times = {f"{name}, ms": _ms(partial(store.matching, wanted, 100)) for name, wanted in ASKED.items()}
    times["meaning, ms"] = _ms(lambda: store.nearest(query, 100, of="words"))
    times["look, calibrated, ms"] = _ms(lambda: store.nearest(query, 100, calibrated=True))
    return times


def _ms(ask: Callable[[], object]) -> float:
    ask()
    times_s = []
    for _ in range(TIMES):
        start_s = time.perf_counter()
        ask()
        times_s.append(time.perf_counter() - start_s)
    return 1000 * median(times_s)


def _vectors(rng: np.random.Generator, num: int) -> Vector:
    vectors: Vector = rng.standard_normal((num, DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _files(rng: np.random.Generator, first: int) -> list[FileRows]:
    looks, passages = _vectors(rng, COMMIT), _vectors(rng, COMMIT)
    frequencies = 1 / np.arange(1, len(VOCABULARY) + 1)
    texts = map(" ".join, rng.choice(VOCABULARY, (COMMIT, 100), p=frequencies / frequencies.sum()))
    return [
        FileRows(
            f"photos/{number // 50}/IMG_{number}.jpg",
            Look(1, 2, 3, 4),
            f"{number:032x}",
            1,
            (StoredUnit("image", None, None, look, Words(text, "a title"), (passage,)),),
        )
        for number, look, passage, text in zip(range(first, first + COMMIT), looks, passages, texts, strict=True)
    ]


if __name__ == "__main__":
    main()
