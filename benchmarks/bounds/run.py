"""What did bounding time and memory change? Every script of this folder, on the code before and on this code.

    python benchmarks/bounds/run.py --before CHECKOUT             all; writes benchmarks/results/bounds.json
    python benchmarks/bounds/run.py --before CHECKOUT busy        only these scripts; their rows are renewed
    python benchmarks/bounds/run.py --toy                         tries every script once on this code

A script prints a JSON object a line, {"row": what is measured, "unit": "s" or "MB", "value": number}, and may add keys.
It makes its own inputs and takes the package from PYTHONPATH, so that it runs on both trees. Each run is a process of
its own, the trees in turn, since a machine's speed drifts; the least and the median of the runs are kept. A script that
fails on the code before, or takes longer than the limit, is reported as such.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "speed"))

from machine import describe  # noqa: E402
from size import RESULTS, TOY, write_results  # noqa: E402
from tables import bounds_table  # noqa: E402

ROOT = HERE.parents[1]
REPEATS, LIMIT_S = 3, 600.0


class Answer(NamedTuple):
    """One run of a script: the objects it printed, or why there are none."""

    printed: list[dict[str, Any]]
    failure: str | None = None


def main() -> None:
    """Measure, write and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help="scripts of this folder, without .py; all if there is none")
    parser.add_argument("--before", type=Path, help="a checkout of the code before")
    parser.add_argument("--repeats", type=int, default=1 if TOY else REPEATS)
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds after which a run is stopped")
    options = parser.parse_args()
    if options.before is None and not TOY:
        parser.error("--before is needed: git worktree add CHECKOUT COMMIT makes one")
    scripts = {path.stem: path for path in sorted(HERE.glob("*.py")) if path.stem != "run"}
    if unknown := sorted(set(options.names) - set(scripts)):
        parser.error(f"no scripts of benchmarks/bounds: {', '.join(unknown)}; there are {', '.join(scripts)}")
    trees = {name: path for name, path in (("before", options.before), ("after", ROOT)) if path is not None}
    rows = []
    for name in options.names or scripts:
        rows += measure(scripts[name], trees, options.repeats, options.limit)
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    path = RESULTS / "bounds.json"
    if options.names and path.exists():
        kept = [row for row in json.loads(path.read_text("utf-8"))["rows"] if row["script"] not in options.names]
        rows = sorted(kept + rows, key=lambda row: row["script"])
    document = {
        "command": "python benchmarks/bounds/run.py --before CHECKOUT",
        "machine": describe(),
        "commits": {name: commit(tree) for name, tree in trees.items()},
        "rows": rows,
    }
    write_results("bounds", document)
    print(bounds_table(document))
    if any("after" not in row for row in rows):
        sys.exit("a script failed on this code; its row says why")


def measure(script: Path, trees: Mapping[str, Path], repeats: int, limit_s: float) -> list[dict[str, Any]]:
    """A row for each name and unit that the script prints, in its order: of each tree, the least and the median value.

    A row of a script that failed on a tree has that tree's `failures` entry in place of its values.
    """
    answers: dict[str, list[Answer]] = {name: [] for name in trees}
    for _ in range(repeats):
        for name, tree in trees.items():
            # It fails again, and where it ran out of time again as late.
            if not any(answer.failure for answer in answers[name]):
                answers[name].append(run(script, tree, limit_s))
    failures = {name: said[-1].failure for name, said in answers.items() if said[-1].failure}
    found: dict[tuple[str, str | None], dict[str, Any]] = {}
    for name, said in answers.items():
        for printed in () if name in failures else (one for answer in said for one in answer.printed):
            key = (printed["row"], printed["unit"])
            row = found.setdefault(key, {"script": script.stem, "row": key[0], "unit": key[1]})
            row.setdefault(name, []).append(printed)
    if not found:
        found[script.stem, None] = {"script": script.stem, "row": script.stem, "unit": None}
    for row in found.values():
        for name in set(trees) & set(row):
            row[name] = _summary(row[name])
        row["failures"] = failures
    return list(found.values())


def run(script: Path, tree: Path, limit_s: float) -> Answer:
    """Run a script on a tree's package, in a process of its own."""
    paths = [str(tree.resolve() / "src"), str(HERE.parent / "speed")]
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        # With the processes that it has started.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return Answer([], f"more than {limit_s:g} s")
    if process.returncode:
        lines = err.strip().splitlines() or [f"exit status {process.returncode}"]
        return Answer([], lines[-1])
    return Answer([json.loads(line) for line in out.splitlines()])


def commit(tree: Path) -> str:
    """The commit that a tree has checked out, with "+" where files differ from it."""
    told = subprocess.run(
        ["git", "-C", str(tree), "describe", "--always", "--abbrev=7", "--dirty=+", "--exclude=*"],
        check=True,
        capture_output=True,
        text=True,
    )
    return told.stdout.strip()


def _summary(printed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Least and median value, and the other keys of the run with the least."""
    best = min(printed, key=lambda one: one["value"])
    others = {key: value for key, value in best.items() if key not in ("row", "unit", "value")}
    values = [one["value"] for one in printed]
    return {"least": best["value"], "median": median(values), "runs": len(values)} | others


if __name__ == "__main__":
    main()
