"""What is asked about scenes of several things? Colours, counts, places and sizes; and which of two is meant."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from cast import ACTORS, Thing, actors, concepts
from draws import dice
from pack import Pack, Row, first, image_row
from PIL import Image, ImageDraw
from render import COLOURS
from wordnet import with_article

MEDIA = "scenes"
SIZE = (192, 144)
COLUMNS, ROWS = 3, 2
CELL_PX = 64
NUM_EACH = 32
NUM_PAIRS = 40
COUNTS = ("one", "two", "three", "four", "five")
DISCS = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
NUM_NAMES = 8
ASK = "<|image_1|> Answer the question about the picture:"
_GROUNDS = ((255, 255, 255), (244, 240, 228), (226, 238, 246), (232, 242, 228), (240, 232, 242), (222, 222, 226))
_EVERYDAY = ("fluent-3d", "fluent-emoji-flat", "noto")


@dataclass(frozen=True, slots=True)
class Placed:
    """A thing in a cell of the scene, by its column and row.

    Args:
        share: of the cell that it takes.
        disc: colour word of the round disc behind it; "" for none.
    """

    thing: Thing
    renderer: str
    cell: tuple[int, int]
    share: float = 0.8
    disc: str = ""


def add_scenes(pack: Pack) -> None:
    """Add the tasks `scene-questions` and `scene-crop`."""
    _add_questions(pack)
    _add_crops(pack)


def _add_questions(pack: Pack) -> None:
    rows = []
    for kind in (_ask_colour, _ask_count, _ask_neighbour, _ask_largest):
        for number in range(NUM_EACH):
            rng = dice("mini scene", kind.__name__, number)
            placed, question, answer = kind(rng, number)
            path = pack.picture(MEDIA, f"{kind.__name__.removeprefix('_ask_')}/{number:02d}", _draw(placed, rng)[0])
            shown = sorted({one.thing.name for one in placed})
            others = [thing.name for thing in actors(*_EVERYDAY) if thing.name not in shown]
            names = sorted(shown + rng.sample(others, NUM_NAMES - len(shown)))
            pool = first(answer, (*COUNTS, *DISCS, *names))
            held = concepts(one.thing for one in placed)
            rows.append(image_row(ASK, text=question, picture=path, texts=pool, concepts=held))
    pack.rows("scene-questions", rows)


def _ask_colour(rng: random.Random, number: int) -> tuple[list[Placed], str, str]:
    """Each thing stands before a disc: what colour a thing itself has is too often a matter of opinion."""
    things = rng.sample(actors(*_EVERYDAY), rng.randint(3, 5))
    discs = [DISCS[number % len(DISCS)]]
    discs += rng.sample([disc for disc in DISCS if disc not in discs], len(things) - 1)
    cells = rng.sample(_cells(), len(things))
    placed = [
        Placed(thing, rng.choice(_EVERYDAY), cell, 0.62, disc)
        for thing, cell, disc in zip(things, cells, discs, strict=True)
    ]
    return placed, f"what colour is the disc behind the {things[0].name}?", discs[0]


def _ask_count(rng: random.Random, number: int) -> tuple[list[Placed], str, str]:
    count = number % len(COUNTS) + 1
    num_others = rng.randint(1, min(3, 6 - count))
    chosen, *others = rng.sample([thing for thing in actors(*_EVERYDAY) if thing.concept in _PLURALS], num_others + 1)
    renderer = rng.choice(_EVERYDAY)
    shown = [(chosen, renderer)] * count + [(other, rng.choice(_EVERYDAY)) for other in others]
    placed = [
        Placed(thing, look, cell, rng.uniform(0.6, 0.85))
        for (thing, look), cell in zip(shown, rng.sample(_cells(), len(shown)), strict=True)
    ]
    return placed, f"how many pictures of {with_article(chosen.name)} are there?", COUNTS[count - 1]


def _ask_neighbour(rng: random.Random, number: int) -> tuple[list[Placed], str, str]:
    things = rng.sample(actors(*_EVERYDAY), 6)
    placed = [Placed(thing, rng.choice(_EVERYDAY), cell) for thing, cell in zip(things, _cells(), strict=True)]
    sides = {
        "directly left of": (-1, 0),
        "directly right of": (1, 0),
        "directly below": (0, 1),
        "directly above": (0, -1),
    }
    side = list(sides)[number % len(sides)]
    asked, right = _neighbours(placed, sides[side], rng)
    return placed, f"what is {side} the {asked.thing.name}?", right.thing.name


def _ask_largest(rng: random.Random, number: int) -> tuple[list[Placed], str, str]:
    word = ("largest", "smallest")[number % 2]
    things = rng.sample(actors(*_EVERYDAY), rng.randint(3, 5))
    shares = [0.98, *(rng.uniform(0.5, 0.6) for _ in things[1:])]
    if word == "smallest":
        shares = [0.42, *(rng.uniform(0.8, 0.95) for _ in things[1:])]
    cells = rng.sample(_cells(), len(things))
    placed = [
        Placed(thing, rng.choice(_EVERYDAY), cell, share)
        for thing, cell, share in zip(things, cells, shares, strict=True)
    ]
    return placed, f"which thing is the {word} in the picture?", things[0].name


def _add_crops(pack: Pack) -> None:
    """Scenes with two pictures of the same thing: only its place or size says which one is meant."""
    ask = "<|image_1|> Find the part of the picture that shows this:"
    rows: list[Row] = []
    for number in range(NUM_PAIRS):
        rng = dice("mini crop", number)
        placed, words = _pair(rng, ("across", "down", "size")[number % 3])
        scene, boxes = _draw(placed, rng)
        path = pack.picture(MEDIA, f"crops/{number:02d}/scene", scene)
        crops = [pack.picture(MEDIA, f"crops/{number:02d}/{part}", scene.crop(box)) for part, box in enumerate(boxes)]
        # The third question names a thing by its neighbour: which side is taken in turn.
        sides = (("to the left of", (-1, 0)), ("to the right of", (1, 0)), ("below", (0, 1)), ("above", (0, -1)))
        side, step = sides[number % 4]
        single = [one for one in placed if one.thing is not placed[0].thing]
        asked, right = _neighbours(placed, step, rng, asked=single)
        questions = [
            (f"the {placed[0].thing.name} {words[0]}".strip(), 0),
            (f"the {placed[0].thing.name} {words[1]}".strip(), 1),
            (f"the thing next to the {asked.thing.name}, {side} it", placed.index(right)),
        ]
        if number % 3 == 2:
            questions[0] = (f"the {words[0]} {placed[0].thing.name}", 0)
            questions[1] = (f"the {words[1]} {placed[0].thing.name}", 1)
        held = concepts(one.thing for one in placed)
        rows += [
            image_row(
                ask,
                text=text,
                picture=path,
                target_instruction="<|image_1|> Represent this part of a picture.",
                pictures=first(crops[part], crops),
                concepts=held,
            )
            for text, part in questions
        ]
    pack.rows("scene-crop", rows)


def _pair(rng: random.Random, by: str) -> tuple[list[Placed], tuple[str, str]]:
    """Six things, of which the first two are the same drawn by two renderers; and what tells those two apart."""
    chosen, *others = rng.sample(actors(*_EVERYDAY), 5)
    looks = rng.sample(_EVERYDAY, 2)
    cells = _cells()
    if by == "across":
        left, right = sorted(rng.sample(range(COLUMNS), 2))
        pair = [(left, rng.randrange(ROWS)), (right, rng.randrange(ROWS))]
        shares, words = (0.8, 0.8), ("on the left", "on the right")
    elif by == "down":
        pair = [(rng.randrange(COLUMNS), 0), (rng.randrange(COLUMNS), 1)]
        shares, words = (0.8, 0.8), ("at the top", "at the bottom")
    else:
        pair = rng.sample(cells, 2)
        shares, words = (0.98, 0.55), ("larger", "smaller")
    placed = [Placed(chosen, look, cell, share) for look, cell, share in zip(looks, pair, shares, strict=True)]
    free = [cell for cell in cells if cell not in pair]
    placed += [Placed(thing, rng.choice(_EVERYDAY), cell) for thing, cell in zip(others, free, strict=True)]
    return placed, words


def _neighbours(
    placed: Sequence[Placed], step: tuple[int, int], rng: random.Random, asked: Sequence[Placed] = ()
) -> tuple[Placed, Placed]:
    """One that has a neighbour on that side, and the neighbour."""
    by_cell = {one.cell: one for one in placed}
    pairs = [
        (one, by_cell[one.cell[0] + step[0], one.cell[1] + step[1]])
        for one in asked or placed
        if (one.cell[0] + step[0], one.cell[1] + step[1]) in by_cell
    ]
    return rng.choice(pairs)


def _draw(placed: Sequence[Placed], rng: random.Random) -> tuple[Image.Image, list[tuple[int, int, int, int]]]:
    """The scene, and the box of each thing in it with a margin of a few pixels."""
    scene = Image.new("RGB", SIZE, rng.choice(_GROUNDS))
    pen, boxes = ImageDraw.Draw(scene), []
    for one in placed:
        sprite = one.thing.sprite(one.renderer, 160)
        sprite = sprite.crop(sprite.getchannel("A").getbbox())
        side_px = round(CELL_PX * one.share)
        scale = side_px / max(sprite.size)
        sprite = sprite.resize((round(sprite.width * scale), round(sprite.height * scale)), Image.Resampling.LANCZOS)
        room = max(0, (CELL_PX - side_px) // 2 - 2)
        x = one.cell[0] * CELL_PX + CELL_PX // 2 + rng.randint(-room, room) // 2
        y = one.cell[1] * (SIZE[1] // ROWS) + SIZE[1] // ROWS // 2 + rng.randint(-room, room) // 2
        if one.disc:
            radius = CELL_PX // 2 - 2
            x, y = one.cell[0] * CELL_PX + CELL_PX // 2, one.cell[1] * (SIZE[1] // ROWS) + SIZE[1] // ROWS // 2
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=COLOURS[one.disc])
        corner = (x - sprite.width // 2, y - sprite.height // 2)
        scene.paste(sprite, corner, sprite)
        boxes.append(
            (
                max(0, corner[0] - 4),
                max(0, corner[1] - 4),
                min(SIZE[0], corner[0] + sprite.width + 4),
                min(SIZE[1], corner[1] + sprite.height + 4),
            )
        )
    return scene, boxes


def _cells() -> list[tuple[int, int]]:
    return [(column, row) for row in range(ROWS) for column in range(COLUMNS)]


_PLURALS = set(ACTORS) - {"maracas", "sheaf of rice", "fallen leaf", "nut and bolt"}
"""Without those of which one picture shows several."""
