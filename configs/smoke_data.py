"""Draws the pairs of configs/smoke_cpu.yaml: two shapes and how they lie, in words and as a picture.

    python configs/smoke_data.py        writes configs/smoke/train.parquet and configs/smoke/held_out.parquet (1 MB)

The columns are those of sentence-transformers: `anchor` (a text) and `positive` (a picture as WebP). No caption of the
held-out pairs occurs in training. The same bytes come out every time with the same Pillow and pyarrow.
"""

from __future__ import annotations

import io
import itertools
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

FOLDER = Path(__file__).parent / "smoke"
TRAIN, HELD_OUT = 3000, 500
SIDE_PX = 84
COLOURS = {
    "red": "#d62828", "green": "#2a9d3a", "blue": "#2456c8", "yellow": "#f2c80f",
    "black": "#111111", "purple": "#7b2cbf", "orange": "#f3722c", "pink": "#f48fb1",
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "ring", "cross", "bar")
PLACES = {
    "left of": ((0.27, 0.5), (0.73, 0.5)),
    "right of": ((0.73, 0.5), (0.27, 0.5)),
    "above": ((0.5, 0.27), (0.5, 0.73)),
    "below": ((0.5, 0.73), (0.5, 0.27)),
}


def main() -> None:
    """Draw both files."""
    rng = random.Random(20)
    things = list(itertools.product(COLOURS, SHAPES))
    scenes = [(one, place, other) for one in things for place in PLACES for other in things if one != other]
    chosen = rng.sample(scenes, TRAIN + HELD_OUT)
    FOLDER.mkdir(exist_ok=True)
    for name, part in (("train", chosen[:TRAIN]), ("held_out", chosen[TRAIN:])):
        anchors = [f"a {' '.join(one)} {place} a {' '.join(other)}" for one, place, other in part]
        pictures = [{"bytes": draw(one, place, other, rng), "path": None} for one, place, other in part]
        pq.write_table(pa.table({"anchor": anchors, "positive": pictures}), FOLDER / f"{name}.parquet")


def draw(one: tuple[str, str], place: str, other: tuple[str, str], rng: random.Random) -> bytes:
    """The scene as lossless WebP."""
    canvas = Image.new("RGB", (SIDE_PX, SIDE_PX), rng.choice(("#ffffff", "#f1ece2", "#dfe8ee")))
    pen = ImageDraw.Draw(canvas)
    for (colour, shape), (x, y) in zip((one, other), PLACES[place], strict=True):
        half = rng.uniform(13, 18)
        centre = (SIDE_PX * x + rng.uniform(-3, 3), SIDE_PX * y + rng.uniform(-3, 3))
        draw_shape(pen, shape, COLOURS[colour], centre, half)
    stream = io.BytesIO()
    canvas.save(stream, "WEBP", lossless=True)
    return stream.getvalue()


def draw_shape(pen: ImageDraw.ImageDraw, shape: str, colour: str, centre: tuple[float, float], half: float) -> None:
    """One shape that reaches `half` pixels from its centre."""
    x, y = centre
    box = (x - half, y - half, x + half, y + half)
    thin = half * 0.35
    if shape == "circle":
        pen.ellipse(box, fill=colour)
    elif shape == "square":
        pen.rectangle(box, fill=colour)
    elif shape == "triangle":
        pen.polygon([(x, y - half), (x - half, y + half), (x + half, y + half)], fill=colour)
    elif shape == "ring":
        pen.ellipse(box, outline=colour, width=round(half * 0.4))
    elif shape == "cross":
        pen.rectangle((x - thin, y - half, x + thin, y + half), fill=colour)
        pen.rectangle((x - half, y - thin, x + half, y + thin), fill=colour)
    else:
        pen.rectangle((x - half, y - thin, x + half, y + thin), fill=colour)


if __name__ == "__main__":
    main()
