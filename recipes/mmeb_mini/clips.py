"""How does a motion look? Composes a sprite that moves, grows, turns or fades over a background, frame by frame."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from PIL import Image
from render import background

SIZE = (160, 112)
NUM_FRAMES = 8
OPPOSITES = (
    ("left", "right"),
    ("up", "down"),
    ("grows", "shrinks"),
    ("clockwise", "counter-clockwise"),
    ("appears", "vanishes"),
)
"""Pairs of motions of which one, shown backwards, is the other."""


def motion_frames(
    sprite: Image.Image, pair: tuple[str, str], others: Sequence[Image.Image], rng: random.Random
) -> list[Image.Image]:
    """Eight RGB frames in which the sprite does the first motion of the pair.

    Shown backwards, the same frames are the second motion. `others` stand still in the background.
    """
    canvas, _ = background(SIZE, rng, white=0.25)
    for other in others:
        side = rng.randint(18, 34)
        small = other.resize((side, side), Image.Resampling.BILINEAR)
        canvas.paste(small, (rng.randint(0, SIZE[0] - side), rng.randint(0, SIZE[1] - side)), small)
    place = PATHS[pair[0]](rng)
    return [draw_frame(canvas, sprite, *place(step / (NUM_FRAMES - 1))) for step in range(NUM_FRAMES)]


def draw_frame(
    canvas: Image.Image, sprite: Image.Image, x: float, y: float, side: float, degrees: float = 0.0, alpha: float = 1.0
) -> Image.Image:
    """The sprite on the canvas: centre (x, y) as shares of width and height, side as a share of the height."""
    side_px = max(2, round(side * canvas.height))
    small = sprite.resize((side_px, side_px), Image.Resampling.BILINEAR)
    if degrees:
        small = small.rotate(degrees, Image.Resampling.BILINEAR, expand=True)
    mask = small.getchannel("A")
    if alpha < 1.0:
        mask = mask.point([round(value * alpha) for value in range(256)])
    frame = canvas.copy()
    left, top = x * canvas.width - small.width / 2, y * canvas.height - small.height / 2
    frame.paste(small, (round(left), round(top)), mask)
    return frame


Place = Callable[[float], tuple[float, float, float, float, float]]


def _leftwards(rng: random.Random) -> Place:
    start, end = rng.uniform(0.7, 0.95), rng.uniform(0.05, 0.3)
    y, side, bump = rng.uniform(0.3, 0.7), rng.uniform(0.4, 0.7), rng.choice((0.0, 0.0, 0.04))
    return lambda t: (start + (end - start) * t, y - bump * abs(math.sin(3 * math.pi * t)), side, 0.0, 1.0)


def _upwards(rng: random.Random) -> Place:
    start, end = rng.uniform(0.75, 1.0), rng.uniform(0.0, 0.25)
    x, side, sway = rng.uniform(0.25, 0.75), rng.uniform(0.4, 0.65), rng.choice((0.0, 0.0, 0.03))
    return lambda t: (x + sway * math.sin(3 * math.pi * t), start + (end - start) * t, side, 0.0, 1.0)


def _grows(rng: random.Random) -> Place:
    start, end = rng.uniform(0.12, 0.3), rng.uniform(0.65, 1.0)
    x, y = rng.uniform(0.35, 0.65), rng.uniform(0.42, 0.58)
    return lambda t: (x, y, start + (end - start) * t, 0.0, 1.0)


def _clockwise(rng: random.Random) -> Place:
    first, turn = rng.uniform(-40, 40), rng.choice((90, 180, 270))
    x, y, side = rng.uniform(0.35, 0.65), rng.uniform(0.42, 0.58), rng.uniform(0.55, 0.85)
    return lambda t: (x, y, side, first - turn * t, 1.0)


def _appears(rng: random.Random) -> Place:
    x, y, side = rng.uniform(0.3, 0.7), rng.uniform(0.4, 0.6), rng.uniform(0.5, 0.85)
    return lambda t: (x, y, side, 0.0, t)


PATHS: dict[str, Callable[[random.Random], Place]] = {
    "left": _leftwards,
    "up": _upwards,
    "grows": _grows,
    "clockwise": _clockwise,
    "appears": _appears,
}
"""First motion of a pair -> where the sprite is at time 0 to 1; the second motion is its reverse."""
