"""The numbers of docs/performance.md are those of benchmarks/results."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_table_is_made_from_its_results() -> None:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "speed" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    assert tables.renewed(page) == page
    assert page.count("<!-- end of ") == len(tables.TABLES) == 6
