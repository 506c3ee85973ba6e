"""What `vlm2vec duplicates` prints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image as PILImage

from support.cli_runs import Result, write_model
from support.places import ROOT


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture, a copy of it and one in another encoding; another picture."""
    folder = tmp_path / "files"
    folder.mkdir()
    objects = ROOT / "samples" / "objects"
    shutil.copy(objects / "bicycle.webp", folder / "a.webp")
    shutil.copy(objects / "bicycle.webp", folder / "b.webp")
    with PILImage.open(objects / "bicycle.webp") as picture:
        white = PILImage.new("RGBA", picture.size, "white")
        white.alpha_composite(picture.convert("RGBA"))
        white.convert("RGB").save(folder / "c.jpg")
    shutil.copy(objects / "octopus.webp", folder / "d.webp")
    return folder


def test_groups_are_printed_with_equal_files_marked(folder: Path, model: Path) -> None:
    result = Result("duplicates", folder, "--model", model)
    assert result.out == "3 files, the same picture:\n    a.webp\n  = b.webp\n    c.jpg\n"
    assert result.err == "1 group, 2 files too many\n"
    (folder / "c.jpg").unlink()
    assert Result("duplicates", folder).out == "2 files, equal:\n    a.webp\n  = b.webp\n"


def test_groups_are_json_for_programs(folder: Path, model: Path) -> None:
    result = Result("duplicates", folder, "--model", model, "--json")
    assert json.loads(result.out) == {"groups": [{"exact": False, "contents": [["a.webp", "b.webp"], ["c.jpg"]]}]}
