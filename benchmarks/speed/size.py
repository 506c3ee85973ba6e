"""At which size does a benchmark run, and where do its results go?

Every script of benchmarks/ takes `--toy`: it runs all its code on a few small inputs in seconds, to try the script, and
writes no results. Tests run each so.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

RESULTS = Path(__file__).parents[1] / "results"
_NAME = "VLM2VEC_BENCHMARK_TOY"


def _toy() -> bool:
    """Whether `--toy` was given, here or to the script that started this process. Takes it from the arguments."""
    if "--toy" in sys.argv:
        sys.argv.remove("--toy")
        os.environ[_NAME] = "1"
    return _NAME in os.environ


TOY = _toy()


def sized(full: T, toy: T) -> T:
    """The first, or at toy size the second."""
    return toy if TOY else full


def write_results(name: str, document: dict[str, Any]) -> None:
    """Write benchmarks/results/NAME.json; at toy size only say that it could be written."""
    text = json.dumps(document, indent=1) + "\n"
    if TOY:
        print(f"toy size: {len(text)} characters of {name}.json are not written")
    else:
        (RESULTS / f"{name}.json").write_text(text, "utf-8")
