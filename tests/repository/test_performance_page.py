"""The numbers and figures of docs are those of benchmarks/results."""

from __future__ import annotations

import re
from types import ModuleType

import PIL.Image
import pytest

from support.places import ROOT
from support.scripts import script


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script(monkeypatch, "benchmarks/speed/tables.py")


@pytest.fixture
def plots(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script(monkeypatch, "benchmarks/speed/plots.py")


@pytest.mark.parametrize(
    "name", ["performance.md", "training.md", "ablation.md", "models.md", "../src/vlm2vec/bundled/README.md"]
)
def test_every_table_is_made_from_its_results(name: str, tables: ModuleType) -> None:
    page = (ROOT / "docs" / name).read_text("utf-8")
    assert tables.renewed(name, page) == page
    assert set(re.findall("<!-- end of (.*) -->", page)) == set(tables.PAGES[name])


def test_there_is_no_other_page_with_tables(tables: ModuleType) -> None:
    with_marks = {path.name for path in (ROOT / "docs").glob("*.md") if "<!-- end of " in path.read_text("utf-8")}
    assert "performance.md" in with_marks <= set(tables.PAGES)


def test_every_figure_is_made_from_its_results(plots: ModuleType) -> None:
    pages = "".join((ROOT / "docs" / name).read_text("utf-8") for name in ("performance.md", "ablation.md"))
    for name, (results, *_) in plots.FIGURES.items():
        path = ROOT / "docs" / f"{name}.png"
        assert f"({name}.png)" in pages
        assert path.stat().st_size < 60_000
        with PIL.Image.open(path) as figure:
            assert figure.info["results"] == plots.fingerprint(results)
