"""Which photographs are there to measure with? Those of `recipes/default/photographs.yaml`, in their packages."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import NamedTuple

import PIL.Image
import PIL.ImageOps
import yaml
from size import TOY

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "default"
UNPACKED = RECIPE / "work" / "unpacked"


class Photograph(NamedTuple):
    """A file, and what is seen in it."""

    path: Path
    caption: str


def captioned() -> list[Photograph]:
    """All of them; at toy size, those of the samples by their names."""
    if TOY:
        return [Photograph(path, path.stem) for path in sorted((ROOT / "samples" / "photos").glob("*.jpg"))]
    if not UNPACKED.is_dir():
        sys.exit(f"{UNPACKED} is missing: python recipes/default/fetch.py fetches the photographs")
    found = []
    for package, entry in yaml.safe_load((RECIPE / "photographs.yaml").read_text("utf-8")).items():
        for file, caption in entry["captions"].items():
            found.append(Photograph(UNPACKED / package / entry["folder"] / file, caption))
    return found


def size_of(path: Path) -> tuple[int, int]:
    """Width and height in pixels."""
    with PIL.Image.open(path) as picture:
        return picture.size


def largest(count: int) -> list[Path]:
    """Those of the most pixels, the largest first."""
    paths = [one.path for one in captioned()]
    sizes = {path: size_of(path) for path in paths}
    return sorted(paths, key=lambda path: (-sizes[path][0] * sizes[path][1], path.name))[:count]


def as_camera(path: Path, size: tuple[int, int], quality: int = 90) -> bytes:
    """A baseline JPEG with halved colours, as cameras write it, of the middle of a picture in another size."""
    with PIL.Image.open(path) as picture:
        rgb = picture.convert("RGB")
    seen = PIL.ImageOps.fit(rgb, size, PIL.Image.Resampling.BICUBIC)
    return jpeg(seen, quality=quality, subsampling="4:2:0")


def jpeg(picture: PIL.Image.Image, **options: object) -> bytes:
    """The bytes of a JPEG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **options)
    return buffer.getvalue()
