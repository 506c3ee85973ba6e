"""Which further tasks is the bundled model trained on? Builds questions, parts, classes, films and pages with answers.

Run:  python recipes/bundled/tasks.py        (after corpus.py, some of whose pictures and clips are used again)
Every draw is seeded by the name of what it is for, so the result is the same on every machine.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context

from rows import Corpus, Row
from task_cast import read_cast
from task_charts import chart_pages, chart_questions, chart_types
from task_clips import corpus_clips, corpus_motions, motion_clips, orders, shown_in_turn, two_ways
from task_files import FOLDER, TARGET
from task_films import films
from task_pages import section_pages, sections, slides_by_fact
from task_pictures import changes, classes, filed_pictures, toned, tones
from task_reading import signs, titled_slides
from task_scenes import scene_crops, scene_questions

PROCESSES = 2
HELD_CALLS = 100
"""For measuring, of what is there once for each clip or page of the corpus."""

Draw = Callable[[int, bool], list[tuple[str, Row]]]

TASKS: tuple[tuple[Draw, int, int], ...] = (
    (scene_questions, 8000, 67),
    (scene_crops, 6000, 70),
    (classes, 8000, 150),
    (tones, 2400, 100),
    (changes, 1900, 100),
    (chart_types, 1500, 200),
    (chart_questions, 2000, 100),
    (chart_pages, 750, 100),
    (motion_clips, 4000, 100),
    (shown_in_turn, 1800, 25),
    (two_ways, 1700, 25),
    (orders, 2500, 100),
    (films, 2000, 40),
    (slides_by_fact, 1500, 100),
    (signs, 16000, 200),
    (titled_slides, 4000, 200),
)
"""What draws a task -> how often it is called for training and for measuring; each call makes one row or a few."""


def build() -> dict[str, int]:
    """Build the tasks anew under `TARGET` and return the number of rows by file."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    clock = time.monotonic()
    # Read before the processes fork, so that all share it.
    read_cast()
    for held in (False, True):
        filed_pictures(held)
        toned(held)
        corpus_clips(held)
        sections(held)
    corpus = Corpus(FOLDER)
    print(f"{time.monotonic() - clock:6.1f} s  read what is there", file=sys.stderr)
    with get_context("fork").Pool(PROCESSES) as pool:
        for held in (False, True):
            numbers = [(draw, held_calls if held else calls) for draw, calls, held_calls in TASKS]
            clips, pages = len(corpus_clips(held)), len(sections(held))
            numbers.append((corpus_motions, min(clips, HELD_CALLS if held else 5000)))
            numbers.append((section_pages, min(pages, HELD_CALLS) if held else pages))
            for draw, number in numbers:
                plans = [(draw, index, held) for index in range(number)]
                for found in pool.imap(_one, plans, 16):
                    for name, entry in found:
                        corpus.add(name, [entry], held=held)
                print(
                    f"{time.monotonic() - clock:6.1f} s  {draw.__name__}{' (held out)' if held else ''}",
                    file=sys.stderr,
                )
    counts = corpus.write()
    shutil.rmtree(TARGET, ignore_errors=True)
    FOLDER.rename(TARGET)
    return counts


def _one(plan: tuple[Draw, int, bool]) -> list[tuple[str, Row]]:
    draw, number, held = plan
    return draw(number, held)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for file, number in build().items():
        print(f"{number:7d}  {file}.jsonl")
