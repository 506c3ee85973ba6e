"""The samples, the demo and the README, with the default model."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.index_folders import paths_of
from support.places import ROOT
from vlm2vec import Embedder, Image, Item, Library


@pytest.fixture(scope="module")
def bundled() -> Embedder:
    return Embedder.load(device="cpu")


@pytest.fixture(scope="module")
def library(bundled: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Library:
    opened = Library.open(ROOT / "samples", model=bundled, index=tmp_path_factory.mktemp("samples") / "index")
    opened.sync()
    return opened


def test_it_finds_objects_by_their_name_among_all_samples(library: Library) -> None:
    objects = [path for path in paths_of(library) if path.startswith("objects/")]
    found = []
    for path in objects:
        name = Path(path).stem.replace("_", " ")
        found.append(library.search(f"a {name}", k=1)[0].path == path)
    assert (len(objects), sum(found)) == (12, 12)


def test_the_demo_asks_ten_questions_and_finds_the_right_file_first_for_each(library: Library) -> None:
    questions = json.loads((ROOT / "demo" / "queries.json").read_text("utf-8"))
    first = {}
    for question in questions:
        media = (Image(ROOT / "demo" / question["image"]),) if "image" in question else ()
        hit = library.search(Item(question.get("text", ""), media), k=1)[0]
        first[question.get("text", question.get("image"))] = hit.path == question["right"]
    assert (len(first), sum(first.values())) == (10, 10), first


def test_every_sample_is_read(library: Library) -> None:
    files = [
        p for p in (ROOT / "samples").rglob("*") if p.is_file() and p.suffix != ".md" and ".vlm2vec" not in p.parts
    ]
    assert paths_of(library) == sorted(path.relative_to(ROOT / "samples").as_posix() for path in files)


def test_every_sample_has_its_source_and_licence() -> None:
    text = (ROOT / "samples" / "LICENSES.md").read_text("utf-8")
    files = [
        p for p in (ROOT / "samples").rglob("*") if p.is_file() and p.suffix != ".md" and ".vlm2vec" not in p.parts
    ]
    assert [path.name for path in files if path.name not in text] == []


def test_the_vectors_do_not_depend_on_their_neighbours(bundled: Embedder) -> None:
    files = sorted((ROOT / "samples" / "objects").iterdir())[::2]
    together = bundled.encode_document(files)
    alone = np.stack([bundled.encode_document(file) for file in files])
    np.testing.assert_allclose(together, alone, rtol=0, atol=2e-6)


@pytest.mark.slow
def test_the_python_of_the_readme_runs_and_finds_what_it_looks_for(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    searching, embedding = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    # The search makes an index there.
    shutil.copytree(ROOT / "samples", tmp_path / "samples", ignore=shutil.ignore_patterns(".vlm2vec"))
    sunflower, bicycle, shape = _printed(embedding, tmp_path)
    assert (sunflower.split()[0], bicycle.split()[0]) == (
        "samples/objects/sunflower.webp",
        "samples/objects/bicycle.webp",
    )
    assert shape == "(384,)"
    told = re.findall(r"```text\n(.*?)```", text, re.DOTALL)[0]
    assert [line.rstrip() for line in _printed(searching, tmp_path)] == told.splitlines()


def _printed(code: str, folder: Path) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    return done.stdout.splitlines()


def test_the_commands_of_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert {"demo", "test"} <= set(re.findall(r"^    make (\w+)", text, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert all(f"\n{target}:" in makefile for target in ("demo", "test"))
    assert shutil.which("vlm2vec", path=str(Path(sys.executable).parent))
