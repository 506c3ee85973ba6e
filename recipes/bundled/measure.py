"""Measure a model on the held-out rows of corpus.py and tasks.py: does the right candidate come first?

    python recipes/bundled/measure.py src/vlm2vec/bundled [OUT.json]       prints a table

Of every held-out file rows are drawn by seed. Each query is ranked against its own positive, its hard negatives and
then, up to the number of candidates in `CANDIDATES`, the positives of other rows of other labels; a tie counts against
the own one. Instructions and wordings of tasks.py's held-out files are held out too.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from captions import OPPOSITES
from holdouts import is_held_wording
from numpy.typing import NDArray
from wordings import read_words

from vlm2vec.data.records import Pair, read_pairs
from vlm2vec.items import Item, Video
from vlm2vec.model.backbone import Vectors
from vlm2vec.model.embedder import Embedder
from vlm2vec.model.prompts import Target

MOTION_LABELS = read_words("clips")["motion_labels"]

WORK = Path(__file__).parent / "work"
ROWS = 200
SEED = 0
OWN = 1
"""Candidates are the own positive and its hard negatives alone."""

CANDIDATES = {
    "scene_crop": OWN,
    "film_to_shot": OWN,
    "clip_question": OWN,
    "order_to_clip": OWN,
    "scene_question": 20,
    "chart_question": 20,
}
"""Of a query; 200 in any other file, or as many labels as there are."""


def main(model: str, out: str | None) -> None:
    """Measure and print."""
    embedder = Embedder.load(model)
    results = {}
    print(f"{'held-out rows':45} rows candidates chance   hit@1   hit@5  nDCG@5")
    for name, pairs, candidates in heldout():
        found = results[name] = summary(*rank_rows(embedder, pairs, candidates))
        numbers = "".join(f"{found[key]:8.3f}" for key in ("chance", "hit@1", "hit@5", "ndcg@5"))
        print(f"{name:45} {found['rows']:4} {found['candidates']:10.1f}{numbers}", flush=True)
    if out is not None:
        document = {"command": f"python recipes/bundled/measure.py {model} {out}", "results": results}
        Path(out).write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def summary(ranks: NDArray[np.int64], sizes: NDArray[np.int64]) -> dict[str, float]:
    """What a table says of ranks among so many candidates."""
    return {
        "rows": len(ranks),
        "candidates": round(float(sizes.mean()), 1),
        "chance": round(float((1 / sizes).mean()), 4),
        "hit@1": round(float((ranks == 1).mean()), 4),
        "hit@5": round(float((ranks <= 5).mean()), 4),
        "ndcg@5": round(float(np.where(ranks <= 5, 1 / np.log2(1 + ranks), 0).mean()), 4),
    }


def heldout() -> Iterator[tuple[str, Sequence[Pair], int]]:
    """Name, rows and number of candidates of all that is measured."""
    for folder in (WORK / "corpus", WORK / "corpus_tasks"):
        for path in sorted(folder.glob("*_heldout.jsonl")):
            name = path.name.removesuffix("_heldout.jsonl")
            yield name, read_pairs(path), CANDIDATES.get(name, ROWS)
    pages = read_pairs(WORK / "corpus" / "text_to_page_heldout.jsonl")
    for kind, prefix in (("slides", "slide"), ("manuals", "manual")):
        yield f"text_to_page: {kind}", [pair for pair in pages if _file(pair.positive).startswith(prefix)], ROWS
    # A clip's hard negative names the motion of its reverse, which holds the same frames.
    clips = read_pairs(WORK / "corpus_tasks" / "clip_to_motion_heldout.jsonl")
    yield "clip_to_motion: in words that are trained", [_in_trained_words(pair) for pair in clips], ROWS
    yield "clip_to_motion: it or its reverse", clips, OWN
    yield "clip_to_motion: the same, frames shuffled", [_shuffled(pair) for pair in clips], OWN
    for pair in OPPOSITES:
        some = [_shuffled(clip) for clip in clips if _motion(clip) in pair]
        yield f"clip_to_motion: the same, {pair[0]} or {pair[1]}", some, OWN
    # The instruction alone says which of two true answers is wanted.
    things = {pair.query.media: pair for pair in read_pairs(WORK / "corpus_tasks" / "clip_to_thing_heldout.jsonl")}
    both = [(clip, things[clip.query.media]) for clip in clips if clip.query.media in things]
    yield "clip_to_motion: or the name of what moves", [_or_else(clip, thing) for clip, thing in both], OWN
    yield "clip_to_thing: or how it moves", [_or_else(thing, clip) for clip, thing in both], OWN


def _file(item: Item) -> str:
    [medium] = item.media
    assert isinstance(medium.source, Path)
    return medium.source.name


def _motion(pair: Pair) -> str:
    assert pair.label is not None
    return pair.label.removeprefix("motion ")


def _or_else(pair: Pair, other: Pair) -> Pair:
    """The pair, with the other's answer as its only wrong one."""
    return replace(pair, negatives=(other.positive,))


def _in_trained_words(pair: Pair) -> Pair:
    """The motion by the first of its names that training rows have; alone, since others name its reverse."""
    name = next(w for w in MOTION_LABELS[_motion(pair)] if not is_held_wording(w))
    return replace(pair, positive=replace(pair.positive, text=name), negatives=())


def _shuffled(pair: Pair) -> Pair:
    [clip] = pair.query.media
    assert isinstance(clip.source, Path)
    frames = sorted(clip.source.iterdir())
    random.Random(f"{SEED}/{clip.source.name}").shuffle(frames)
    return replace(pair, query=replace(pair.query, media=(Video(tuple(frames)),)))


class Ranking(Protocol):
    """As much of an embedder as ranking needs."""

    def encode_query(self, items: Sequence[Item], *, target: Target | None = None) -> Vectors: ...
    def encode_document(self, items: Sequence[Item]) -> Vectors: ...
    def similarity(self, a: Vectors, b: Vectors) -> Vectors: ...


def rank_rows(embedder: Ranking, pairs: Sequence[Pair], candidates: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rank of each drawn row's own positive, counted from 1, and the number of candidates it is among."""
    labels = {pair.label or pair.origin for pair in pairs}
    # Of few labels several rows each; else labels differ.
    drawn = _drawn(pairs, each=1 if len(labels) >= ROWS // 2 else ROWS)
    documents: dict[object, int] = {}
    items = []

    def place(item: object, key: object) -> int:
        if key not in documents:
            documents[key] = len(items)
            items.append(item)
        return documents[key]

    own = [place(pair.positive, (pair.label or pair.origin, pair.positive)) for pair in drawn]
    one_of = {pair.label or pair.origin: own[number] for number, pair in reversed(list(enumerate(drawn)))}
    pools = []
    for number, pair in enumerate(drawn):
        pool = [place(negative, (pair.origin, negative)) for negative in pair.negatives]
        others = [document for label, document in one_of.items() if label != (pair.label or pair.origin)]
        rng = random.Random(f"{SEED}/{number}")
        pool += rng.sample(others, max(0, min(len(others), candidates - 1 - len(pool))))
        pools.append(pool)
    queries = embedder.encode_query([pair.query for pair in drawn], target=drawn[0].target)
    scores = embedder.similarity(queries, embedder.encode_document(items))
    ranks = [1 + int((row[pool] >= row[mine]).sum()) for row, pool, mine in zip(scores, pools, own, strict=True)]
    return np.array(ranks), np.array([1 + len(pool) for pool in pools])


def _drawn(pairs: Sequence[Pair], *, each: int) -> list[Pair]:
    """Up to ROWS pairs in seeded order, no more than so many of a label."""
    counts: dict[str, int] = {}
    found = []
    for pair in random.Random(SEED).sample(pairs, len(pairs)):
        label = pair.label or pair.origin
        if counts.get(label, 0) < each:
            counts[label] = counts.get(label, 0) + 1
            found.append(pair)
    return found[:ROWS]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
