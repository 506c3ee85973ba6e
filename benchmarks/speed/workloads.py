"""What is embedded? Texts, pictures, pages and videos drawn from a seed; equal in every run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw
from size import sized

from vlm2vec import Image, Item, Video

MAX_PIXELS = sized(
    {"images": 256 * 28 * 28, "pages": 256 * 28 * 28, "videos": 96 * 28 * 28},
    {"images": 16 * 28 * 28, "pages": 16 * 28 * 28, "videos": 4 * 28 * 28},
)
"""Of a medium or frame, so that a run takes minutes on two cores: 256 visual tokens, 96 a frame."""

_TINY = Path(__file__).parents[2] / "src" / "vlm2vec" / "tiny"


def texts(count: int = sized(256, 4), longest: int = 200) -> list[Item]:
    """Texts of 5 tokens to the longest, evenly spread, in no order."""
    random = np.random.default_rng(0)
    words = [word for word in _words() if word.isalpha()]
    lengths = random.permutation(np.linspace(5, longest, count).round().astype(int))
    # A word of the vocabulary is one token.
    return [Item(" " + " ".join(random.choice(words, length))) for length in lengths]


def images(folder: Path, count: int = sized(64, 2)) -> list[Item]:
    """Photographs' sizes, upright and across, from 120 x 90 to 1600 x 1200, as JPEG files."""
    random = np.random.default_rng(1)
    sides = random.permutation(np.geomspace(120, 1600, count).round().astype(int))
    items = []
    for number, side in enumerate(sides):
        other = int(side * random.uniform(0.5, 1.0))
        size = (int(side), other) if number % 2 else (other, int(side))
        path = folder / f"image_{number}.jpg"
        _noise(random, size).save(path, quality=90)
        items.append(Item("", (Image(path),), "Represent the given image."))
    return items


def pages(folder: Path, count: int = sized(32, 1)) -> list[Item]:
    """Pages of text, 850 x 1100, as PNG files."""
    random = np.random.default_rng(2)
    words = _words()
    items = []
    for number in range(count):
        page = PILImage.new("RGB", (850, 1100), "white")
        draw = ImageDraw.Draw(page)
        for line in range(60, 1040, 18):
            draw.text((60, line), " ".join(random.choice(words, 14)), fill="black")
        path = folder / f"page_{number}.png"
        page.save(path)
        items.append(Item("", (Image(path),), "What is on this page?"))
    return items


def videos(folder: Path, count: int = sized(8, 1)) -> list[Item]:
    """Videos of 8 frames of 480 x 360, as folders of JPEG files."""
    random = np.random.default_rng(3)
    items = []
    for number in range(count):
        frames = []
        for frame in range(8):
            path = folder / f"video_{number}_{frame}.jpg"
            _noise(random, (480, 360)).save(path, quality=90)
            frames.append(path)
        items.append(Item("", (Video(tuple(frames)),), "Recognize what happens."))
    return items


WORKLOADS: dict[str, Callable[[Path], list[Item]]] = {
    "texts": lambda folder: texts(),
    "images": images,
    "pages": pages,
    "videos": videos,
}


def _words() -> list[str]:
    vocabulary = json.loads((_TINY / "tokenizer.json").read_text())["model"]["vocab"]
    return sorted(token[1:] for token in vocabulary if token.startswith("Ġ") and token[1:].isascii() and len(token) > 3)


def _noise(random: np.random.Generator, size: tuple[int, int]) -> PILImage.Image:
    """Soft blots, which compress and decode about as photographs do."""
    small = random.integers(0, 256, (max(2, size[1] // 12), max(2, size[0] // 12), 3), dtype=np.uint8)
    return PILImage.fromarray(small).resize(size, PILImage.Resampling.BICUBIC)
