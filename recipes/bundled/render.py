"""What does a picture look like on a background? Sprites with alpha, backgrounds, and both put together."""

from __future__ import annotations

import io
import random

import numpy as np
import resvg_py
from catalogue import Picture, svg_of, webp_of
from PIL import Image, ImageEnhance

COLOURS = {
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


SCALES = (0.8, 1.0)
WHITE = 0.75


def sprite_of(picture: Picture, size_px: int, ink: str = "black") -> Image.Image:
    """The picture alone, RGBA, at most `size_px` on each side; an icon of one colour is drawn in `ink`."""
    if picture.renderer == "fluent-3d":
        with Image.open(webp_of(picture.key)) as image:
            return image.convert("RGBA").resize((size_px, size_px), Image.Resampling.BOX)
    return sprite_of_svg(svg_of(picture.renderer, picture.key, ink), size_px)


def sprite_of_svg(svg: str, size_px: int) -> Image.Image:
    """An SVG drawn with resvg, RGBA, `size_px` wide and high (proportions kept).

    Raises:
        ValueError: resvg cannot draw it.
    """
    # 90 dots an inch, as Inkscape had it when most of Open Clip Art was drawn; without it resvg refuses mm and pt.
    data = resvg_py.svg_to_bytes(svg_string=svg, width=size_px, height=size_px, dpi=90, skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(data))) as image:
        return image.convert("RGBA")


def colour_of(sprite: Image.Image) -> str:
    """The colour word nearest to the most common hue of what is opaque."""
    pixels = np.asarray(sprite.resize((24, 24), Image.Resampling.BOX))
    solid = pixels[pixels[..., 3] > 160][:, :3].astype(np.int32)
    if len(solid) == 0:
        return "white"
    # White and black alone are mostly outlines and highlights: a colour wins over them with a fifth of the pixels.
    table = np.array(list(COLOURS.values()))
    nearest = ((solid[:, None] - table[None]) ** 2).sum(-1).argmin(-1)
    counts = np.bincount(nearest, minlength=len(COLOURS)).astype(float)
    words = list(COLOURS)
    for word in ("black", "grey", "white"):
        counts[words.index(word)] *= 0.25
    return words[int(counts.argmax())]


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
    size: tuple[int, int],
    rng: random.Random,
    *,
    scales: tuple[float, float] = SCALES,
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


def background(size: tuple[int, int], rng: random.Random, white: float = WHITE) -> tuple[Image.Image, str]:
    """White with probability `white`, else a solid colour, a gradient, a texture or a pattern; RGB, and its words."""
    draw = rng.random()
    if draw < white:
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


def _gradient(
    size: tuple[int, int], first: tuple[int, int, int], second: tuple[int, int, int], rng: random.Random
) -> Image.Image:
    across, down = rng.random(), rng.random()
    x = np.linspace(0, across, size[0])[None, :, None]
    y = np.linspace(0, down, size[1])[:, None, None]
    t = (x + y) / max(across + down, 1e-6)
    return Image.fromarray((np.array(first) * (1 - t) + np.array(second) * t).astype(np.uint8))


def _noise(size: tuple[int, int], colour: tuple[int, int, int], rng: random.Random) -> Image.Image:
    grains = np.random.default_rng(rng.getrandbits(32))
    cells = rng.choice((4, 8, 16, 40))
    coarse = grains.normal(0, rng.uniform(12, 40), (cells, cells, rng.choice((1, 3)))) + np.array(colour)
    image = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8))
    return image.resize(size, Image.Resampling.BICUBIC)


def _pattern(
    size: tuple[int, int], first: tuple[int, int, int], second: tuple[int, int, int], rng: random.Random
) -> Image.Image:
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


def _any_colour(rng: random.Random) -> tuple[int, int, int]:
    return rng.randint(20, 255), rng.randint(20, 255), rng.randint(20, 255)


def _near(colour: tuple[int, int, int], rng: random.Random, spread: int) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, part + rng.randint(-spread, spread))) for part in colour)
    return red, green, blue
