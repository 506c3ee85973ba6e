"""Every script of benchmarks/ runs, at toy size. The quick ones run here by default, all of them by `make slow`."""

from __future__ import annotations

import ast
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.places import ROOT
from support.scripts import forget_scripts

BENCHMARKS = ROOT / "benchmarks"


def _is_script(path: Path) -> bool:
    """Whether it does something when it is started."""
    return any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in _parsed(path).body)


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


SCRIPTS = {str(path.relative_to(BENCHMARKS)): path for path in sorted(BENCHMARKS.rglob("*.py")) if _is_script(path)}
ARGUMENTS = {"bounds/run.py": ("store_checksum", "long_text")}
"""It starts its neighbours, which have tests of their own."""
QUICK = ("attention.py", "gpu.py", "speed/tables.py")
"""They need no process of their own."""


def _results() -> dict[str, bytes]:
    """All that benchmarks write."""
    pages = [*(ROOT / "docs").iterdir(), ROOT / "src" / "vlm2vec" / "bundled" / "README.md"]
    return {path.name: path.read_bytes() for path in [*(BENCHMARKS / "results").iterdir(), *pages] if path.is_file()}


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules of benchmarks are imported anew, at toy size, and forgotten afterwards."""
    monkeypatch.setenv("VLM2VEC_BENCHMARK_TOY", "1")
    monkeypatch.syspath_prepend(str(BENCHMARKS / "speed"))
    forget_scripts(BENCHMARKS)
    yield
    forget_scripts(BENCHMARKS)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
@pytest.mark.usefixtures("toy")
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_quick_benchmark_runs_at_toy_size_and_writes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _results()
    monkeypatch.setattr(sys, "argv", [str(SCRIPTS[name])])
    monkeypatch.setattr(sys, "path", list(sys.path))
    runpy.run_path(str(SCRIPTS[name]), run_name="__main__")
    assert _results() == before


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
def test_the_parts_of_the_training_benchmark_run_at_toy_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    parts = runpy.run_path(str(SCRIPTS["training.py"]))
    assert set(parts["schedule"]("even", "64")) == {
        *("draw", "sub_batch", "build_s", "peak_mb", "step_ms", "step_ms_max"),
    }
    for budget in (parts["BUDGET"], 0):
        assert set(parts["step"]("2", str(budget), "0")) == {"peak_mb", "step_s"}
    assert set(parts["frozen"]()) == {"once_s", "twice_s"}


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
def test_both_ways_of_the_training_step_benchmark_give_the_same_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    monkeypatch.setattr(sys, "path", list(sys.path))
    parts = runpy.run_path(str(SCRIPTS["speed/training_step.py"]))
    parts["build_model"]("large", tmp_path / "large")
    ours, theirs = (parts["_make"](way, tmp_path)("gradient") for way in parts["WAYS"])
    assert ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs)) > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_runs_at_toy_size_from_the_command_line_and_writes_nothing(name: str) -> None:
    before = _results()
    done = subprocess.run(
        [sys.executable, str(SCRIPTS[name]), "--toy", *ARGUMENTS.get(name, ())],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src") + os.pathsep + str(BENCHMARKS / "speed")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert _results() == before
