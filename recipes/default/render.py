"""What does a picture look like on a background? Sprites with alpha, backgrounds, and both put together."""

from __future__ import annotations

import io
import random

import numpy as np
import resvg_py
from PIL import Image, ImageEnhance

Colour = tuple[int, int, int]
Size = tuple[int, int]

COLOURS: dict[str, Colour] = {
    "red": (214, 48, 49),
    "orange": (240, 147, 43),
    "yellow": (249, 212, 60),
    "green": (60, 160, 80),
    "blue": (52, 110, 219),
    "purple": (125, 70, 180),
    "pink": (245, 150, 185),
    "brown": (130, 85, 50),
    "black": (25, 25, 28),
    "grey": (145, 145, 150),
    "white": (255, 255, 255),
}
"""The colour words that captions use."""

WHITE = 0.75
"""How often a background is white, if not said otherwise."""


def sprite_of_svg(svg: str, size_px: int) -> Image.Image:
    """An SVG drawn with resvg, RGBA, `size_px` wide and high (proportions kept).

    Raises:
        ValueError: resvg cannot draw it.
    """
    # 90 dots an inch, as Inkscape had it when most of Open Clip Art was drawn; without it resvg refuses mm and pt.
    data = resvg_py.svg_to_bytes(svg_string=svg, width=size_px, height=size_px, dpi=90, skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(data))) as image:
        return image.convert("RGBA")


def vary(sprite: Image.Image, rng: random.Random, *, mirror: bool) -> Image.Image:
    """The sprite turned a little, lighter or darker, more or less colourful, half the time mirrored if it may be."""
    red, green, blue, alpha = sprite.split()
    opaque = Image.merge("RGB", (red, green, blue))
    opaque = ImageEnhance.Brightness(opaque).enhance(rng.uniform(0.8, 1.15))
    opaque = ImageEnhance.Color(opaque).enhance(rng.uniform(0.6, 1.3))
    varied = Image.merge("RGBA", (*opaque.split(), alpha))
    if mirror and rng.random() < 0.5:
        varied = varied.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return varied.rotate(rng.uniform(-12, 12), Image.Resampling.BILINEAR)


def compose(
    sprite: Image.Image,
    size: Size,
    rng: random.Random,
    *,
    scales: tuple[float, float] = (0.8, 1.0),
    white: float = WHITE,
) -> tuple[Image.Image, str]:
    """The sprite at a random scale and place on a random background, and the background in words ("" if none fit)."""
    canvas, words = background(size, rng, white)
    scale = rng.uniform(*scales) * min(size) / max(sprite.size)
    small = sprite.resize(
        (max(1, round(sprite.width * scale)), max(1, round(sprite.height * scale))), Image.Resampling.BILINEAR
    )
    place = (rng.randint(0, size[0] - small.width), rng.randint(0, size[1] - small.height))
    canvas.paste(small, place, small)
    return canvas, words


def background(size: Size, rng: random.Random, white: float = WHITE) -> tuple[Image.Image, str]:
    """White with probability `white`, else a solid colour, a gradient, a texture or a pattern; RGB, and its words."""
    if rng.random() < white:
        return Image.new("RGB", size, (255, 255, 255)), "white"
    kind = rng.choice(("solid", "solid", "gradient", "noise", "pattern"))
    if kind == "solid":
        word = rng.choice([word for word in COLOURS if word != "white"])
        return Image.new("RGB", size, _near(COLOURS[word], rng, 22)), word
    first, second = _any_colour(rng), _any_colour(rng)
    if kind == "gradient":
        return _gradient(size, first, second, rng), ""
    if kind == "noise":
        return _noise(size, first, rng), ""
    return _pattern(size, first, _near(first, rng, 45), rng), ""


def _gradient(size: Size, first: Colour, second: Colour, rng: random.Random) -> Image.Image:
    across, down = rng.random(), rng.random()
    x = np.linspace(0, across, size[0])[None, :, None]
    y = np.linspace(0, down, size[1])[:, None, None]
    t = (x + y) / max(across + down, 1e-6)
    return Image.fromarray((np.array(first) * (1 - t) + np.array(second) * t).astype(np.uint8))


def _noise(size: Size, colour: Colour, rng: random.Random) -> Image.Image:
    grains = np.random.default_rng(rng.getrandbits(32))
    cells = rng.choice((4, 8, 16, 40))
    coarse = grains.normal(0, rng.uniform(12, 40), (cells, cells, rng.choice((1, 3)))) + np.array(colour)
    image = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8))
    return image.resize(size, Image.Resampling.BICUBIC)


def _pattern(size: Size, first: Colour, second: Colour, rng: random.Random) -> Image.Image:
    step, slant = rng.randint(8, 32), rng.choice((0, 1, -1))
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    kind = rng.choice(("stripes", "bars", "checks", "dots"))
    if kind == "stripes":
        mask = ((x + slant * y) // step) % 2
    elif kind == "bars":
        mask = (y // step) % 2
    elif kind == "checks":
        mask = (x // step + y // step) % 2
    else:
        mask = ((x % step - step / 2) ** 2 + (y % step - step / 2) ** 2 < (step / 3.5) ** 2).astype(int)
    return Image.fromarray(np.where(mask[..., None] == 1, np.array(first), np.array(second)).astype(np.uint8))


def _any_colour(rng: random.Random) -> Colour:
    return rng.randint(20, 255), rng.randint(20, 255), rng.randint(20, 255)


def _near(colour: Colour, rng: random.Random, spread: int) -> Colour:
    red, green, blue = (min(255, max(0, part + rng.randint(-spread, spread))) for part in colour)
    return red, green, blue
