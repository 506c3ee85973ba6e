"""What does a folder of 100,000 small files cost: to index, after one has changed, and to search? Seconds and memory.

    python benchmarks/search/many.py                   writes benchmarks/results/search_many.json
    python benchmarks/search/many.py --files 1000      a hundredth of it; writes nothing

Of the files 60 % are texts of some 100 words, 39 % pictures of 64 px, 1 % PDFs of a page. Words are made of syllables,
20,000 different ones, as frequent as the words of a language are. Each step has a process of its own.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "speed")]

from cost import Cost  # noqa: E402
from machine import describe  # noqa: E402
from size import sized, write_results  # noqa: E402

from vlm2vec.search.library import Library  # noqa: E402

FULL = 100_000
FILES = sized(FULL, 100)
SEED = 23
MOST_MB = 2_000
"""Of memory that every step has to do with."""
A_FOLDER = 1_000
"""Files in each folder."""
VOCABULARY = 20_000
SYLLABLES = [first + vowel for first in "bdfghklmnprstvwz" for vowel in ("a", "e", "i", "o", "u", "an", "er", "il")]
PAUSE_S = 0.1


def main() -> None:
    """Make the folder, take the steps, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("folder", type=Path, nargs="?", help="where to put the files; a temporary folder if none")
    options = parser.parse_args()
    if options.step is not None:
        print(json.dumps(STEPS[options.step](options.folder)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        build(folder, options.files)
        rows = [row for step in STEPS for row in run(step, folder)]
    document = {"command": "python benchmarks/search/many.py", "machine": describe(), "files": options.files}
    if options.files == FILES:
        write_results("search_many", document | {"rows": rows})
    if any(row["peak_mb"] > MOST_MB for row in rows):
        sys.exit(f"a step took more than {MOST_MB} MB")


def build(folder: Path, count: int) -> None:
    """Write the files; those of an earlier run stay."""
    for number in range(count):
        # 37 and 100 have no common divisor: every hundred files has as many of each kind.
        share = number * 37 % 100
        kind, make = _KINDS[0 if share < 60 else 1 if share < 99 else 2]
        place = folder / f"{number // A_FOLDER:03}" / f"{_word(number % VOCABULARY)}_{number}.{kind}"
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(make(np.random.default_rng([SEED, number])))


def run(step: str, folder: Path) -> list[dict[str, Any]]:
    """Take a step in a process of its own: its rows, with the highest memory of it and its workers together, in MB.

    Pages of memory that two of them share count twice.
    """
    command = [sys.executable, str(HERE / "many.py"), "--step", step, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watched, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        peak = max(peak, _resident(watched))
        time.sleep(PAUSE_S)
    out, _ = process.communicate()
    if process.returncode:
        sys.exit(f"the step {step} failed")
    rows = [{"step": name, **costs, "peak_mb": round(peak / 1e6)} for name, costs in json.loads(out).items()]
    for row in rows:
        print(json.dumps(row), flush=True)
    return rows


def _resident(process: psutil.Process) -> int:
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        # One has just ended.
        pass
    return total


def _index(folder: Path) -> dict[str, Any]:
    with Library.open(folder, rebuild=True) as library:
        return {"index": _cost(library.sync)}


def _update(folder: Path) -> dict[str, Any]:
    """In one process: nothing new, then a changed text, then a changed picture."""
    with Library.open(folder) as library:
        rows = {"update: nothing new": _cost(library.sync), "the same in a running process": _cost(library.sync)}
        for kind, make in _KINDS[:2]:
            path = sorted(folder.rglob(f"*.{kind}"))[-1]
            # Another content than any run before has left.
            path.write_bytes(make(np.random.default_rng([SEED, path.stat().st_mtime_ns])))
            rows[f"update: one .{kind} changed"] = _cost(library.sync)
    return rows


def _search(folder: Path) -> dict[str, Any]:
    """In one process: the first question, which loads the model, and a second one."""
    with Library.open(folder) as library:
        first = _cost(lambda: library.search(_word(77)))
        return {"search: first question": first, "search: second question": _cost(lambda: library.search(_word(1077)))}


STEPS: dict[str, Callable[[Path], dict[str, Any]]] = {"index": _index, "update": _update, "search": _search}


def _cost(do: Callable[[], object]) -> dict[str, float]:
    before = Cost.now()
    do()
    return Cost.now().since(before)._asdict()


def _word(number: int) -> str:
    """The word of a number, as many as there are numbers: two syllables or more."""
    syllables: list[str] = []
    while number or len(syllables) < 2:
        number, place = divmod(number, len(SYLLABLES))
        syllables.append(SYLLABLES[place])
    return "".join(syllables)


def _sentences(random: np.random.Generator) -> list[str]:
    """Lines of eight words, each word as frequent as its place in the list says (Zipf)."""
    # The exponential of an even draw: the chance of the nth word falls as 1 / n.
    places = VOCABULARY ** random.random((int(random.integers(8, 18)), 8)) - 1
    return [" ".join(_word(int(place)) for place in line) for line in places]


def _text(random: np.random.Generator) -> bytes:
    return "\n".join(_sentences(random)).encode()


def _picture(random: np.random.Generator) -> bytes:
    """Eight by eight squares of any colours, 64 px wide."""
    squares = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    packed = io.BytesIO()
    Image.fromarray(squares).resize((64, 64), Image.Resampling.NEAREST).save(packed, "png")
    return packed.getvalue()


def _pdf(random: np.random.Generator) -> bytes:
    """A page of text in Helvetica."""
    lines = "".join(f"({line}) Tj 0 -16 Td " for line in _sentences(random))
    stream = f"BT /F 10 Tf 40 700 Td {lines} ET"
    objects = [
        "<</Type /Catalog /Pages 2 0 R>>",
        "<</Type /Pages /Kids [3 0 R] /Count 1>>",
        "<</Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources <</Font <</F 5 0 R>>>>>>",
        f"<</Length {len(stream)}>>\nstream\n{stream}\nendstream",
        "<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>",
    ]
    text, starts = "%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        starts.append(len(text))
        text += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{start:010} 00000 n \n" for start in starts)
    end = f"xref\n0 6\n0000000000 65535 f \n{table}trailer\n<</Size 6 /Root 1 0 R>>\nstartxref\n{len(text)}\n%%EOF\n"
    return (text + end).encode()


_KINDS = (("txt", _text), ("png", _picture), ("pdf", _pdf))


if __name__ == "__main__":
    main()
