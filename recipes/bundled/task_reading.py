"""How does a model come to read? Signs, a few large words on few tokens, and slides, each beside its words as text."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from corpus import dice
from holdouts import HELD_SHARE, bucket
from instructions import instruction
from lettering import broken, font
from PIL import Image, ImageDraw
from rows import Row, image, row, text
from slides import draw_slide, draw_title, plan_slide
from task_cast import look_of, square_sprite, things
from task_files import save_picture
from task_pages import HEADINGS, SUBJECTS, sections, town_name
from wordnet import read_nouns

SIZES = ((112, 28), (112, 56), (224, 28), (168, 56), (224, 56), (224, 84))
"""Of a sign, in pixels: whole numbers of tokens, so that nothing is resized before a model sees it."""

TITLES = ("{}", "{}", "a slide about {}", "a slide titled {}", "{}, the slide", "slide with the title {}")
"""Wordings for a slide; some of them say that it is one."""

_FACES = (
    "DejaVuSans", "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Bold",
    "DejaVuSans-Oblique", "DejaVuSansMono-Bold", "DejaVuSansMono", "STIXGeneral", "STIXGeneralBol", "cmr10", "cmss10",
    "cmb10",
)  # fmt: skip
_CASES = (str.lower, str.capitalize, str.capitalize, str.title, str.upper)
_SMALLEST_PX, _LARGEST_PX = 9, 30
_LINE = 1.12
_LONGEST = 48


# -- signs ---------------------------------------------------------------------------------------------------------


def signs(number: int, held: bool) -> list[tuple[str, Row]]:
    """Words to the sign that says them, without instructions, which would be more tokens than the sign has.

    The twin differs in one word; in a quarter of the rows each is the other's negative.
    """
    rng = dice("task sign", held, number)
    words = _phrase(rng, held)
    said = (words, _changed(words, rng))
    paths = [save_picture(draw_sign(one, rng), "signs", held, number, end) for end, one in enumerate(said)]
    rows = []
    for end, one in enumerate(said[:1] if held else said):
        wrong = [image(paths[1 - end], "")] if number % 4 == 3 else []
        rows.append(("text_to_sign", row(text(one), image(paths[end], ""), one.lower(), *wrong)))
    return rows


def draw_sign(words: str, rng: random.Random) -> Image.Image:
    """The words in one line or a few, RGB, on the smallest size that takes them or one of the next."""
    fitting = [size for size in SIZES if size[0] * (size[1] // 28) >= 9 * len(words)][:3] or SIZES[-1:]
    width, height = rng.choices(fitting, (3, 1, 1)[: len(fitting)])[0]
    ground, ink = _colours(rng)
    sign = Image.new("RGB", (width, height), ground)
    pen = ImageDraw.Draw(sign)
    words, face = rng.choice(_CASES)(words), rng.choice(_FACES)
    lines = broken(pen, words, face, rng.randint(16, _LARGEST_PX), width - 6, most=height // 28)
    high = sum(letters.size for _, letters in lines) * _LINE
    if high > height:
        lines = [(line, font(face, max(_SMALLEST_PX, int(letters.size * height / high)))) for line, letters in lines]
        high = sum(letters.size for _, letters in lines) * _LINE
    wide = max(pen.textlength(line, font=letters) for line, letters in lines)
    x, y = rng.uniform(2, max(2.0, width - wide - 2)), rng.uniform(-1, max(0.0, height - high - 1))
    for line, letters in lines:
        pen.text((x, y), line, font=letters, fill=ink)
        y += letters.size * _LINE
    return sign


def _colours(rng: random.Random) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A light and a dark colour, of which one is the ground."""
    light = tuple(rng.randint(215, 255) for _ in range(3))
    dark = tuple(rng.randint(0, 90) for _ in range(3))
    if rng.random() < 0.4:
        light, dark = (255, 255, 255), (rng.randint(0, 30),) * 3
    return (light, dark) if rng.random() < 0.7 else (dark, light)


# -- slides --------------------------------------------------------------------------------------------------------


def titled_slides(number: int, held: bool) -> list[tuple[str, Row]]:
    """A title to its slide. The twin's title differs in one word, and the rest of it is often the same."""
    rng = dice("task title", held, number)
    title = _titled(rng, held) if rng.random() < 0.8 else _phrase(rng, held)
    said = (title, _changed(title, rng))
    lines = [" ".join(rng.sample(_nouns(), rng.randint(1, 3))) for _ in range(3)]
    plan, look, sprite = plan_slide(title, lines, rng), rng.getrandbits(32), None
    if rng.random() < 0.4:
        thing = rng.choice(things(held))
        sprite = square_sprite(thing, look_of(thing, rng)).resize((96, 96))
    paths = []
    for end, words in enumerate(said):
        style = random.Random(look if number % 2 else look + end)
        paths.append(save_picture(draw_slide(replace(plan, title=words), sprite, style), "titled", held, number, end))
    note = instruction("page", rng, held=held)
    rows = []
    # What is measured has words that are held out; those of a twin are not.
    for end, words in enumerate(said[:1] if held else said):
        query = text(rng.choice(TITLES).format(words), instruction("text for pages", rng, held=held))
        wrong = image(paths[1 - end], note)
        rows.append(("title_to_slide", row(query, image(paths[end], note), words.lower(), wrong)))
    return rows


# -- words ---------------------------------------------------------------------------------------------------------


def _phrase(rng: random.Random, held: bool) -> str:
    """One noun or more, a slide's title, a heading with an invented town or a manual's heading."""
    while True:
        kind = rng.choices(("nouns", "title", "fact", "section"), (60, 22, 10, 8))[0]
        if kind == "nouns":
            words = " ".join(rng.choice(_nouns()) for _ in range(rng.choices((1, 2, 3), (6, 3, 1))[0]))
        elif kind == "title":
            words = _titled(rng, held)
        elif kind == "fact":
            subject = rng.choice(sorted(SUBJECTS))
            words = rng.choice(HEADINGS).format(subject=subject, Subject=subject, town=town_name(rng))
            words += rng.choice(("", "", f" {rng.randint(1990, 2030)}"))
        else:
            words = rng.choice(sections(held))[2].rstrip(".")
        if (bucket(words) < HELD_SHARE) is held and len(words) < _LONGEST:
            return words


def _titled(rng: random.Random, held: bool) -> str:
    while True:
        title, _ = draw_title(_things(), rng)
        if (bucket(title) < HELD_SHARE) is held:
            return title


def _changed(words: str, rng: random.Random) -> str:
    """The same words but one, which is another noun of about its length; never a held-out title."""
    parts = words.split(" ")
    place = rng.choice([place for place, part in enumerate(parts) if len(part) > 2] or [0])
    while True:
        near = [noun for noun in rng.sample(_nouns(), 60) if abs(len(noun) - len(parts[place])) < 2]
        changed = " ".join([*parts[:place], rng.choice(near or _nouns()), *parts[place + 1 :]])
        if changed != words and bucket(changed) >= HELD_SHARE:
            return changed


@cache
def _nouns() -> Sequence[str]:
    nouns = read_nouns().values()
    return sorted(noun.word for noun in nouns if noun.count > 1 and 3 <= len(noun.word) <= 12 and noun.word.isalpha())


@cache
def _things() -> Sequence[str]:
    return sorted({thing.name for thing in things(held=False) if len(thing.name) < 18})
