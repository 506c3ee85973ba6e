"""Pinned packages come whole or not at all, and are those that were pinned. pip itself fetches them, from a folder."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import ValidationError

from support.places import ROOT
from support.scripts import script


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script(monkeypatch, "recipes/packages.py")


@pytest.fixture
def sha256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of the wheel toy 1.0 where pip looks for packages; it has a file, and another in an archive of its own."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as model:
        model.writestr("weights", "w")
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    wheel = shelf / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("toy/data.txt", "d")
        archive.writestr("toy/model.zip", inner.getvalue())
        archive.writestr("toy-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
        archive.writestr("toy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("toy-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_a_package_is_unpacked_once_under_its_name_with_the_archive_inside(
    packages: ModuleType, sha256: str, tmp_path: Path
) -> None:
    packages.fetch({"mine": packages.Package("pip", "toy==1.0", sha256)}, tmp_path / "work")
    found = tmp_path / "work" / "mine"
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["mine"]
    assert ((found / "toy" / "data.txt").read_text(), (found / "model" / "weights").read_text()) == ("d", "w")
    # It is there: nothing is fetched, so a name that no index has does no harm.
    packages.fetch({"mine": packages.Package("pip", "no-such-package==1", sha256)}, tmp_path / "work")


def test_another_file_than_the_pinned_one_is_refused_and_leaves_nothing(
    packages: ModuleType, sha256: str, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=rf"toy==1.0 has the SHA-256 {sha256}, where 00 is pinned"):
        packages.fetch({"mine": packages.Package("pip", "toy==1.0", "00")}, tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []


def test_the_recipes_table_says_of_each_package_where_it_is_from(packages: ModuleType, tmp_path: Path) -> None:
    table = packages.read_packages(ROOT / "recipes" / "packages.yaml")
    assert {package.source for package in table.values()} == {"pip", "npm", "apt"}
    (tmp_path / "table.yaml").write_text("mine: {source: ftp, name: x, sha256: '00'}", "utf-8")
    with pytest.raises(ValidationError, match="mine"):
        packages.read_packages(tmp_path / "table.yaml")
