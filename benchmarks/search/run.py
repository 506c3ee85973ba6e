"""Does the right page come first? Asks a folder of manuals, photographs, web pages and slides some 800 questions.

    python benchmarks/search/run.py                    the reported half; writes benchmarks/results/search_quality.json
    python benchmarks/search/run.py --half even        the half that weights are chosen on; writes nothing
    python benchmarks/search/run.py --model M          with another model than the default one
    python benchmarks/search/run.py --keep             without indexing again

Everything is asked by `Library.search` with its defaults, in each mode. Beside it stands BM25 over the same text with
the words of file names. A hit is right if it is the file, and the page or slide if the question is of one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, get_args

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "speed")]

from bm25 import BM25, words_of  # noqa: E402
from cost import Cost  # noqa: E402
from folder import FOLDER, WORK, build_toy  # noqa: E402
from machine import describe  # noqa: E402
from questions import Asked, draw, read_asked, read_nonsense  # noqa: E402
from reading import Part, name_words, read_parts  # noqa: E402
from size import TOY, sized, write_results  # noqa: E402
from tables import quality_table  # noqa: E402

from vlm2vec.model.checkpoint import BUNDLED  # noqa: E402
from vlm2vec.search.library import Library  # noqa: E402
from vlm2vec.search.retrieve import Mode, Question  # noqa: E402

DEPTH = 5
COLD_RUNS = sized(5, 1)
TOY_COUNT = 3
MODES: tuple[Mode, ...] = get_args(Mode)


class Found(NamedTuple):
    """One answer in a list of hits."""

    path: str
    page: int | None
    copies: tuple[str, ...] = ()
    is_weak: bool = False

    def answers(self, asked: Asked) -> bool:
        """Whether it is what was asked for, or a copy of it."""
        return asked.path in (self.path, *self.copies) and asked.page in (None, self.page)


Answer = Callable[[str], Sequence[Found]]
"""The first five for a question, best first."""


class Row(NamedTuple):
    """How one way answered the questions of one kind, in percent of them.

    Args:
        not_weak: right answers among the first five that are not called weak, in percent of those; None if there are
            none.
        weak_only: questions without a hit that is not weak.
    """

    kind: str
    mode: str
    num_questions: int
    hit_at_1: float
    hit_at_5: float
    not_weak: float | None
    weak_only: float


def main() -> None:
    """Index, ask, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=BUNDLED)
    parser.add_argument("--half", choices=("even", "odd"), default="odd")
    parser.add_argument("--keep", action="store_true", help="ask the index of the last run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if TOY:
            folder = build_toy(Path(scratch) / "corpus")
            asked = [*draw(folder, TOY_COUNT), *read_nonsense()[::25]]
        else:
            folder = FOLDER
            asked = [one for one in read_asked() if one.is_even == (options.half == "even")]
        index = (Path(scratch) if TOY else WORK) / f"index_{Path(options.model).name}"
        document = measure(folder, index, options.model, asked, keep=options.keep)
    document = {"command": _command(options.model), "machine": describe(), "half": options.half} | document
    print(quality_table(document))
    if options.half == "odd":
        name = "search_quality" if options.model == BUNDLED else f"search_quality_{Path(options.model).name}"
        write_results(name, document)


def measure(folder: Path, index: Path, model: str, asked: Sequence[Asked], *, keep: bool) -> dict[str, Any]:
    """Ask every question in every way."""
    parts = read_parts(folder)
    rows = score("bm25", asked, bm25_answers(parts))[1]
    questions = {}
    with Library.open(folder, index=index, model=model, rebuild=not keep) as library:
        indexing = sync(library, index.with_suffix(".json"), keep=keep)
        # The model is loaded by the first question.
        library.search("an apple")
        for mode in MODES:
            cost, found = score(mode, asked, library_answers(library, mode))
            questions[mode] = cost._asdict()
            rows += found
        num_units = sum(library.counts().values())
    questions["command line, cold"] = cold(folder, index)._asdict()
    return {
        "model": model,
        "corpus": {"files": len({part.path for part in parts}), "parts": len(parts), "units": num_units},
        "modes": MODES,
        "indexing": indexing,
        "one_question": questions,
        "rows": [row._asdict() for row in rows],
    }


def sync(library: Library, notes: Path, *, keep: bool) -> dict[str, float]:
    """Make the index, and note beside it what that cost; of an index that is kept, the notes."""
    before = Cost.now()
    library.sync()
    if not (keep and notes.exists()):
        notes.write_text(json.dumps(Cost.now().since(before)._asdict()))
    costs: dict[str, float] = json.loads(notes.read_text())
    return costs


def score(mode: str, asked: Sequence[Asked], answer: Answer) -> tuple[Cost, list[Row]]:
    """What a question costs in one way, and a row for each kind of them."""
    before = Cost.now()
    answers = [(one, answer(one.text)) for one in asked]
    cost = Cost.now().since(before, len(asked))
    kinds = list(dict.fromkeys(one.kind for one in asked))
    return cost, [_row(kind, mode, [(one, found) for one, found in answers if one.kind == kind]) for kind in kinds]


def _row(kind: str, mode: str, answers: Sequence[tuple[Asked, Sequence[Found]]]) -> Row:
    right = [[place for place, hit in enumerate(found) if hit.answers(one)][:1] for one, found in answers]
    are_weak = [found[place].is_weak for (_, found), places in zip(answers, right, strict=True) for place in places]
    return Row(
        kind,
        mode,
        len(answers),
        hit_at_1=_percent([places == [0] for places in right]),
        hit_at_5=_percent([bool(places) for places in right]),
        not_weak=_percent([not is_weak for is_weak in are_weak]) if are_weak else None,
        weak_only=_percent([all(hit.is_weak for hit in found) for _, found in answers]),
    )


def _percent(holds: Sequence[bool]) -> float:
    return round(100 * sum(holds) / len(holds), 1)


def library_answers(library: Library, mode: Mode) -> Answer:
    """By `Library.search` with its defaults but for the mode."""

    def answer(text: str) -> list[Found]:
        hits = library.search(Question(text, DEPTH, mode=mode))
        return [Found(hit.path, hit.page, hit.copies, hit.weak) for hit in hits]

    return answer


def bm25_answers(parts: Sequence[Part]) -> Answer:
    """By plain BM25 over every page, slide and file, with the words of its name."""
    index = BM25([[*name_words(part.path), *words_of(part.text)] for part in parts])

    def answer(text: str) -> list[Found]:
        return [Found(parts[number].path, parts[number].page) for number in index.search(words_of(text), DEPTH)]

    return answer


def cold(folder: Path, index: Path) -> Cost:
    """The median cost of a search by the command line in a new process."""
    command = [sys.executable, "-m", "vlm2vec", "search", "an apple", str(folder), "--index", str(index), "--json"]
    costs = []
    for _ in range(COLD_RUNS):
        before = Cost.now()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        costs.append(Cost.now().since(before))
    return Cost(median(one.wall_s for one in costs), median(one.processor_s for one in costs))


def _command(model: str) -> str:
    return "python benchmarks/search/run.py" + ("" if model == BUNDLED else f" --model {model}")


if __name__ == "__main__":
    main()
