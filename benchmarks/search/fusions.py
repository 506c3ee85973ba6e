"""Which way to put words, meaning and look together finds most? Compares some on the questions of `run.py`.

    python benchmarks/search/fusions.py               the half that weights are chosen on
    python benchmarks/search/fusions.py --half odd    the other one

It asks the index that `run.py` has made, with the lists that a search fuses. "good vectors" are those of a model that
does not exist: among all others the right unit has a calibrated score drawn from a normal distribution of mean 6 and
spread 1.5, as the default model has for the texts that it understands. Prints hit@1 / hit@5; writes nothing.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "speed")]

from folder import WORK, build_toy  # noqa: E402
from questions import Asked, draw, read_asked  # noqa: E402
from size import TOY  # noqa: E402

from vlm2vec.model.checkpoint import BUNDLED  # noqa: E402
from vlm2vec.model.embedder import Embedder  # noqa: E402
from vlm2vec.search.fusion import Finds, fuse, weak_line  # noqa: E402
from vlm2vec.search.language import parse_question  # noqa: E402
from vlm2vec.search.library import Library  # noqa: E402
from vlm2vec.search.retrieve import count_wanted, find_words, with_near  # noqa: E402
from vlm2vec.search.store import Near, Store, Unit  # noqa: E402
from vlm2vec.search.stores import open_store  # noqa: E402
from vlm2vec.text import markdown  # noqa: E402

LISTED = 200
SEED = 23
RANK = 60
"""The constant of reciprocal rank fusion, as published."""
SHARE = 8.0
"""Spreads that all words are worth in the calibrated sum."""


class Case(NamedTuple):
    """A question with what the store finds for it."""

    asked: Asked
    num_wanted: int
    finds: Finds

    def is_right(self, unit: Unit) -> bool:
        """Whether a unit answers it."""
        return unit.path == self.asked.path and self.asked.page in (None, unit.page)


Way = Callable[[Case, float], Sequence[Unit]]
"""Units best first; the second argument is the weak line."""


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=("even", "odd"), default="even")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        index = WORK / f"index_{BUNDLED}"
        if TOY:
            folder, index = build_toy(Path(scratch) / "corpus"), Path(scratch) / "index"
            with Library.open(folder, index=index) as library:
                library.sync()
            asked = list(draw(folder, 2))
        else:
            asked = [one for one in read_asked() if one.is_even == (options.half == "even")]
        with closing(open_store(index)) as store:
            print(compare(store, [one for one in asked if not one.kind.startswith("nonsense")]))


def compare(store: Store, asked: Sequence[Asked]) -> str:
    """A table of hit@1 / hit@5 for each way and kind of question."""
    model, line = Embedder.load(BUNDLED), weak_line(store.count())
    cases = [look_up(store, model, one) for one in asked]
    generator = random.Random(SEED)
    good = [with_good_vectors(case, generator) for case in cases]
    kinds = list(dict.fromkeys(one.kind for one in asked))
    rows = [["vectors", "way", *kinds]]
    for name, several in (("default model", cases), ("good vectors", good)):
        for way, order in WAYS.items():
            scores = [hits([case for case in several if case.asked.kind == kind], order, line) for kind in kinds]
            rows.append([name, way, *scores])
    return markdown(rows)


def look_up(store: Store, model: Embedder, asked: Asked) -> Case:
    """The lists for one question."""
    parsed = parse_question(asked.text)
    vector = model.encode_query(parsed.text, prompt="", normalize_embeddings=True)
    finds = with_near(store, find_words(store, parsed, LISTED), parsed, vector, LISTED)
    return Case(asked, count_wanted(parsed), finds)


def with_good_vectors(case: Case, generator: random.Random) -> Case:
    """The same, with a right unit found as by a good model: by its meaning if that is listed, or else by its look."""
    calibrated, finds = generator.gauss(6, 1.5), case.finds
    if any(case.is_right(near.unit) for near in finds.meaning):
        slope = pstdev(near.score for near in finds.meaning) / pstdev(near.calibrated for near in finds.meaning)
        start = fmean(near.score for near in finds.meaning) - slope * fmean(near.calibrated for near in finds.meaning)
        meaning = _with_first_right(case, finds.meaning, start + slope * calibrated, calibrated)
        finds = replace(finds, meaning=sorted(meaning, key=lambda near: -near.score))
    else:
        look = _with_first_right(case, finds.look, calibrated, calibrated)
        finds = replace(finds, look=sorted(look, key=lambda near: -near.calibrated))
    return case._replace(finds=finds)


def _with_first_right(case: Case, nears: Sequence[Near], score: float, calibrated: float) -> list[Near]:
    """The list, with other scores for the first right unit in it."""
    changed = list(nears)
    for place in [place for place, near in enumerate(nears) if case.is_right(near.unit)][:1]:
        changed[place] = Near(nears[place].unit, score, calibrated)
    return changed


def hits(cases: Sequence[Case], order: Way, line: float) -> str:
    """hit@1 / hit@5 in percent."""
    right = [[case.is_right(unit) for unit in order(case, line)[:5]] for case in cases]
    return " / ".join(f"{100 * fmean(any(one[:depth]) for one in right):.1f}" for depth in (1, 5))


def _ordered(strengths: Mapping[Unit, float]) -> list[Unit]:
    return sorted(strengths, key=lambda unit: (-strengths[unit], unit.order))


def as_built(case: Case, line: float) -> list[Unit]:
    """As `Library.search` does."""
    return [one.unit for one in fuse(case.finds, num_wanted=case.num_wanted, line=line)]


def by_words(case: Case, line: float) -> list[Unit]:
    """Without vectors."""
    return as_built(case._replace(finds=replace(case.finds, meaning=(), look=())), line)


def by_vectors(case: Case, line: float) -> list[Unit]:
    """Without words."""
    return as_built(case._replace(finds=Finds(meaning=case.finds.meaning, look=case.finds.look)), line)


def by_rank(case: Case, words: float = 1.0) -> dict[Unit, float]:
    """Reciprocal rank fusion."""
    finds, strengths = case.finds, defaultdict[Unit, float](float)
    for weight, found in ((words, finds.words), (1.0, finds.meaning), (1.0, finds.look)):
        for rank, one in enumerate(found, start=1):
            strengths[one.unit] += weight / (RANK + rank)
    return strengths


def by_calibrated_sum(case: Case, line: float) -> list[Unit]:
    """The better of both vectors, and the share of words that are found."""
    strengths = defaultdict[Unit, float](float)
    for near in (*case.finds.meaning, *case.finds.look):
        strengths[near.unit] = max(near.calibrated, strengths.get(near.unit, near.calibrated))
    for match in case.finds.words:
        strengths[match.unit] = max(strengths[match.unit], 0.0) + SHARE * match.num_found / case.num_wanted
    return _ordered(strengths)


def all_words_first(case: Case, line: float) -> list[Unit]:
    """Units that have all words by BM25, then the others by reciprocal rank."""
    first = [match.unit for match in case.finds.words if match.num_found == case.num_wanted]
    return [*first, *(unit for unit in _ordered(by_rank(case)) if unit not in first)]


WAYS: Mapping[str, Way] = {
    "words alone": by_words,
    "vectors alone": by_vectors,
    "reciprocal rank": lambda case, line: _ordered(by_rank(case)),
    "reciprocal rank, words twice": lambda case, line: _ordered(by_rank(case, 2.0)),
    "calibrated sum": by_calibrated_sum,
    "all words first, then reciprocal rank": all_words_first,
    "as built": as_built,
}


if __name__ == "__main__":
    main()
