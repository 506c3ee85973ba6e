"""The samples, the demo and the README, with the default model."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.index_folders import paths_of
from support.places import ROOT
from support.scripts import script
from vlm2vec import Embedder, Library

_SCORE = re.compile(r"\b[01]\.\d{3}\b")


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


def test_all_answers_of_the_demo_are_right(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = script(monkeypatch, "demo/answers.py")
    questions = demo.read_questions()
    wrong = [asked for asked in questions if not demo.is_right(demo.first_hit(library, asked), asked)]
    assert (len(questions), wrong) == (15, [])


def test_the_nonsense_of_the_demo_has_weak_hits_only(library: Library) -> None:
    assert {hit.weak for hit in library.search("asdfgh qwerty", k=50)} == {True}


def test_every_sample_is_read(library: Library) -> None:
    # Subtitles are words of the film beside them.
    assert paths_of(library) == [path for path in _samples() if not path.endswith(".srt")]


def test_every_sample_has_its_source_and_licence() -> None:
    text = (ROOT / "samples" / "LICENSES").read_text("utf-8")
    assert [path for path in _samples() if path not in text and Path(path).name not in text] == []


def _samples() -> list[str]:
    folder = ROOT / "samples"
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(path.as_posix() for path in files if path.name != "LICENSES" and path.parts[0] != ".vlm2vec")


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


@pytest.mark.slow
def test_the_commands_of_the_readme_print_what_it_shows(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "samples", tmp_path / "samples", ignore=shutil.ignore_patterns(".vlm2vec"))
    [console] = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    for command in console.removeprefix("$ ").split("\n$ "):
        line, _, told = command.partition("\n")
        name, *arguments = shlex.split(line)
        printed = _output([sys.executable, "-m", name, *arguments], tmp_path)
        assert _SCORE.split(printed.strip()) == _SCORE.split(told.strip())
        # What else is in the folder, such as pages drawn by programs that are installed, moves the last digits.
        ours, shown = ([float(score) for score in _SCORE.findall(text)] for text in (printed, told))
        np.testing.assert_allclose(ours, shown, rtol=0, atol=0.005)


def _printed(code: str, folder: Path) -> list[str]:
    return _output([sys.executable, "-c", code], folder).splitlines()


def _output(command: list[str], folder: Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout


def test_the_commands_of_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert {"demo", "test"} <= set(re.findall(r"^    make (\w+)", text, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert all(f"\n{target}:" in makefile for target in ("demo", "test"))
    assert shutil.which("vlm2vec", path=str(Path(sys.executable).parent))
