"""What does a slide look like? Titles from a small grammar, and slides drawn from them in fonts of matplotlib."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
from draws import WORDS
from PIL import Image, ImageDraw, ImageFont

SIZE = (224, 168)
_SMALLEST_PX = 12

_TOPICS, _PLACES, _PERIODS, _KINDS = (WORDS[name] for name in ("topics", "places", "periods", "kinds"))
_GROUND_INK = (
    ((255, 255, 255), (20, 20, 30)), ((255, 255, 255), (25, 60, 140)), ((250, 246, 235), (90, 40, 20)),
    ((24, 34, 60), (245, 245, 250)), ((30, 30, 30), (250, 220, 90)), ((228, 240, 252), (15, 50, 90)),
    ((235, 250, 238), (10, 80, 45)), ((255, 240, 240), (140, 20, 30)), ((70, 20, 80), (255, 235, 255)),
    ((255, 255, 255), (200, 60, 20)), ((15, 75, 80), (255, 255, 255)), ((245, 245, 245), (0, 0, 0)),
)  # fmt: skip
_FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSans-Oblique",
          "DejaVuSansMono-Bold", "STIXGeneralBol")  # fmt: skip
_CHARTS = ("bar chart", "line chart", "pie chart")


@dataclass(frozen=True, slots=True)
class Slide:
    """What stands on a slide. `chart` is "" or one of bar chart, line chart, pie chart."""

    title: str
    bullets: tuple[str, ...]
    chart: str


def draw_title(things: Sequence[str], rng: random.Random) -> tuple[str, str]:
    """A title of two to five words, and the thing it is about ("" for a topic without a picture)."""
    thing = rng.choice(list(things))
    topic, other, place = rng.choice(_TOPICS), rng.choice(_TOPICS), rng.choice(_PLACES)
    kind, period = rng.choice(_KINDS), rng.choice(_PERIODS)
    with_thing = (f"the {thing}", f"the history of the {thing}", f"a guide to the {thing}", f"{thing} {kind}",
                  f"how the {thing} works", f"the {thing} and the {rng.choice(list(things))}", f"{thing} {period}",
                  f"the {thing} in {place}", f"all about the {thing}")  # fmt: skip
    without = (f"{topic} {period}", f"{topic} {kind}", f"{topic} and {other}", f"{topic} in {place}",
               f"{topic} {period}", f"{topic} in {place} {period}", f"{topic} {kind} {period}",
               f"the future of {topic}")  # fmt: skip
    if rng.random() < 0.5:
        return rng.choice(with_thing), thing
    return rng.choice(without), ""


def plan_slide(title: str, lines: Sequence[str], rng: random.Random) -> Slide:
    """Choose what a slide of this title holds; bullets are cut to what fits."""
    chart = rng.choice(_CHARTS) if rng.random() < 0.45 else ""
    bullets = tuple(line[:34] for line in rng.sample(list(lines), min(len(lines), rng.randint(0, 3))))
    return Slide(title, bullets, chart)


def draw_slide(slide: Slide, sprite: Image.Image | None, rng: random.Random) -> Image.Image:
    """The slide, RGB, 224 x 168 pixels."""
    ground, ink = rng.choice(_GROUND_INK)
    page = Image.new("RGB", SIZE, ground)
    pen = ImageDraw.Draw(page)
    font_name = rng.choice(_FONTS)
    accent = tuple(rng.randint(30, 220) for _ in range(3))
    if rng.random() < 0.3:
        pen.rectangle((0, 0, SIZE[0], 6), fill=accent)
    title = rng.choice((str.title, str.capitalize, str.capitalize, str.upper))(slide.title)
    alone = not slide.bullets and not slide.chart and sprite is None
    bottom = _write_title(pen, title, font_name, ink, top=50 if alone else rng.randint(8, 14), rng=rng)
    room_px = SIZE[1] - bottom
    left = 12
    if sprite is not None:
        side = max(36, min(room_px - 10, rng.randint(52, 90)))
        place = (SIZE[0] - side - 8, bottom + max(0, (room_px - side) // 2)) if rng.random() < 0.6 else (10, bottom + 4)
        small = sprite.resize((side, side), Image.Resampling.BILINEAR)
        page.paste(small, place, small)
        left = 12 if place[0] > 50 else side + 18
    if slide.chart and room_px > 40:
        box = (left, bottom + 6, SIZE[0] - (12 if sprite is None or left > 12 else 100), SIZE[1] - 10)
        _draw_chart(pen, slide.chart, box, ink, rng)
    else:
        letters = font(font_name.removesuffix("-Bold"), 11)
        for row, line in enumerate(slide.bullets):
            pen.text((left, bottom + 8 + 18 * row), f"• {line}", font=letters, fill=ink)
    return page


def _write_title(
    pen: ImageDraw.ImageDraw, title: str, font_name: str, ink: tuple[int, int, int], top: int, rng: random.Random
) -> int:
    lines = _broken(pen, title, font_name, rng.randint(22, 32))
    centred = rng.random() < 0.5
    line_px = round(lines[0][1].size) + 3
    for row, (part, letters) in enumerate(lines):
        x = (SIZE[0] - pen.textlength(part, font=letters)) / 2 if centred else 10
        pen.text((x, top + row * line_px), part, font=letters, fill=ink)
    return top + len(lines) * line_px + 4


def _broken(pen: ImageDraw.ImageDraw, title: str, face: str, size_px: int) -> list[tuple[str, ImageFont.FreeTypeFont]]:
    """Lines and their font: the largest up to a size that lets the title stand in two lines, or the smallest."""
    while True:
        letters, lines, line = font(face, size_px), [], ""
        for word in title.split(" "):
            longer = f"{line} {word}".strip()
            if line and pen.textlength(longer, font=letters) > SIZE[0] - 16:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
        fits = len(lines) <= 2 and max(pen.textlength(part, font=letters) for part in lines) <= SIZE[0] - 16
        if fits or size_px <= _SMALLEST_PX:
            return [(part, letters) for part in lines]
        size_px -= 1


@cache
def font(face: str, size_px: int) -> ImageFont.FreeTypeFont:
    """A face by the name of its file."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf", size_px)


def _draw_chart(
    pen: ImageDraw.ImageDraw, kind: str, box: tuple[int, int, int, int], ink: tuple[int, int, int], rng: random.Random
) -> None:
    left, top, right, bottom = box
    if right - left < 40 or bottom - top < 24:
        return
    colours = [(rng.randint(30, 230), rng.randint(30, 230), rng.randint(30, 230)) for _ in range(6)]
    values = [rng.uniform(0.15, 1.0) for _ in range(rng.randint(3, 8))]
    if kind == "pie chart":
        radius = min(right - left, bottom - top) // 2
        x, y, angle = (left + right) // 2, (top + bottom) // 2, rng.uniform(0, 360)
        for index, value in enumerate(values):
            sweep = 360 * value / sum(values)
            fill = colours[index % 6]
            pen.pieslice((x - radius, y - radius, x + radius, y + radius), angle, angle + sweep, fill=fill)
            angle += sweep
        return
    pen.line((left, top, left, bottom, right, bottom), fill=ink)
    if kind == "bar chart":
        step = (right - left) / len(values)
        one = rng.random() < 0.6
        for index, value in enumerate(values):
            start = left + index * step
            fill = colours[0 if one else index % 6]
            bar = (start + step * 0.2, bottom - value * (bottom - top), start + step * 0.85, bottom - 1)
            pen.rectangle(bar, fill=fill)
        return
    for line in range(rng.randint(1, 2)):
        phase, slope = rng.uniform(0, 6), rng.uniform(-0.5, 0.5)
        points = []
        for tick in range(12):
            value = 0.5 + slope * (tick / 11 - 0.5) + 0.3 * math.sin(phase + tick * rng.uniform(0.4, 0.7))
            points.append((left + (right - left) * tick / 11, bottom - min(1.0, max(0.05, value)) * (bottom - top)))
        pen.line(points, fill=colours[line], width=2)
