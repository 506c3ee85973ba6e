"""benchmarks/bounds/run.py keeps the least value of each row on both trees, and says of a script why it has none."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from support.scripts import script


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script(monkeypatch, "benchmarks/bounds/run.py")


@pytest.fixture
def trees(tmp_path: Path) -> dict[str, Path]:
    """Two trees whose package `told` prints other numbers, a smaller one at each later run."""
    found = {}
    for name, first in (("before", 8), ("after", 4)):
        found[name] = tmp_path / name
        source = found[name] / "src"
        source.mkdir(parents=True)
        (source / "told.py").write_text(
            "from pathlib import Path\n"
            f"runs = Path({str(found[name] / 'runs')!r})\n"
            "done = len(runs.read_text()) if runs.exists() else 0\n"
            "runs.write_text('.' * (done + 1))\n"
            f"value = {first} - done\n",
            "utf-8",
        )
    return found


def test_seconds_and_memory_of_one_name_are_two_rows(
    runner: ModuleType, trees: dict[str, Path], tmp_path: Path
) -> None:
    script = tmp_path / "both.py"
    script.write_text(
        "import json, told\n"
        "for unit, value in (('s', told.value), ('MB', 100)):\n"
        "    print(json.dumps({'row': 'a', 'unit': unit, 'value': value}))\n",
        "utf-8",
    )
    rows = runner.measure(script, trees, 1, 60)
    assert [(row["row"], row["unit"], row["before"]["least"], row["after"]["least"]) for row in rows] == [
        ("a", "s", 8, 4),
        ("a", "MB", 100, 100),
    ]


def test_each_row_has_the_least_and_the_median_of_all_runs_on_both_trees(
    runner: ModuleType, trees: dict[str, Path], tmp_path: Path
) -> None:
    script = tmp_path / "two.py"
    script.write_text(
        "import json, told\n"
        "print(json.dumps({'row': 'a', 'unit': 's', 'value': told.value, 'turn': told.done}))\n"
        "print(json.dumps({'row': 'b', 'unit': 'MB', 'value': 10 * told.value}))\n",
        "utf-8",
    )
    rows = runner.measure(script, trees, 3, 60)
    assert rows == [
        {
            "script": "two",
            "row": "a",
            "unit": "s",
            "before": {"least": 6, "median": 7, "runs": 3, "turn": 2},
            "after": {"least": 2, "median": 3, "runs": 3, "turn": 2},
            "failures": {},
        },
        {
            "script": "two",
            "row": "b",
            "unit": "MB",
            "before": {"least": 60, "median": 70, "runs": 3},
            "after": {"least": 20, "median": 30, "runs": 3},
            "failures": {},
        },
    ]
    document = {"commits": {"before": "0000001", "after": "0000002+"}, "rows": rows}
    assert runner.bounds_table(document) == (
        "| measured | unit | before (0000001) | after (0000002+) | before / after |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| a | s | 6 | 2 | 3.00 |\n"
        "| b | MB | 60 | 20 | 3.00 |"
    )


def test_a_script_that_fails_on_the_code_before_is_reported_with_its_last_words(
    runner: ModuleType, trees: dict[str, Path], tmp_path: Path
) -> None:
    script = tmp_path / "new.py"
    script.write_text(
        "import json, told\n"
        "if told.value > 4:\n"
        "    raise ValueError('no | such function')\n"
        "print(json.dumps({'row': 'a', 'unit': 's', 'value': 1234.5}))\n",
        "utf-8",
    )
    rows = runner.measure(script, trees, 2, 60)
    assert rows == [
        {
            "script": "new",
            "row": "a",
            "unit": "s",
            "after": {"least": 1234.5, "median": 1234.5, "runs": 2},
            "failures": {"before": "ValueError: no | such function"},
        }
    ]
    document = {"commits": {"before": "0000001", "after": "0000002"}, "rows": rows}
    last = runner.bounds_table(document).splitlines()[-1]
    assert last == "| a | s | ValueError: no \\| such function | 1,234 | - |"


def test_a_script_that_takes_too_long_is_stopped_with_the_processes_it_started(
    runner: ModuleType, trees: dict[str, Path], tmp_path: Path
) -> None:
    script = tmp_path / "slow.py"
    script.write_text(
        "import os, sys, time\n"
        "if child := os.fork():\n"
        "    open(sys.argv[0] + '.child', 'w').write(str(child))\n"
        "time.sleep(60)\n",
        "utf-8",
    )
    rows = runner.measure(script, {"after": trees["after"]}, 3, 1.5)
    assert rows == [{"script": "slow", "row": "slow", "unit": None, "failures": {"after": "more than 1.5 s"}}]
    child = Path(f"{script}.child")
    # Gone, or waiting for its parent to notice.
    told = subprocess.run(["ps", "-o", "stat=", "-p", child.read_text()], capture_output=True, text=True).stdout
    assert told.strip()[:1] in ("", "Z")
