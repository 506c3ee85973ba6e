"""What can be asked about scenes of several things? Colours, counts, neighbours, sizes, and which part is meant."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from captions import with_article
from corpus import dice
from instructions import instruction
from PIL import Image, ImageDraw
from render import COLOURS, background
from rows import Row, image, row, text
from task_cast import Thing, absent, look_of, pick, tight_sprite, wording
from task_files import asked, save_picture
from wordings import read_words

_WORDS = read_words("scenes")
DISCS, COUNTS, QUESTIONS, COUNT_ALL = (_WORDS[name] for name in ("discs", "counts", "questions", "count_all"))
RELATIONS, SINGLE, TWINS = (_WORDS[name] for name in ("relations", "single", "twins"))

SIDES = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
"""Side -> step to the neighbour on it, in columns and rows."""

SPOTS = {
    "top left": (False, False),
    "top right": (True, False),
    "bottom left": (False, True),
    "bottom right": (True, True),
}
"""Corner -> whether it is in the last column, and in the last row."""

Box = tuple[int, int, int, int]
Cell = tuple[int, int]

CELL_PX = 64
GRIDS = (((3, 2), (192, 144)),) * 6 + (((2, 2), (144, 144)), ((2, 3), (144, 192)), ((4, 2), (256, 144)))
"""Columns and rows -> size of the picture."""

_PALE = ((255, 255, 255), (246, 240, 230), (228, 238, 248), (234, 244, 230), (242, 234, 244), (220, 220, 224))
_NUM_WRONG = 2


@dataclass(frozen=True, slots=True)
class Placed:
    """A thing in a cell of the scene.

    Args:
        share: of the cell that it takes.
        disc: colour word of the round disc behind it; "" for none.
    """

    thing: Thing
    look: str
    cell: Cell
    share: float = 0.8
    disc: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is to be drawn: size in pixels, number of columns and rows, and the things."""

    size: tuple[int, int]
    grid: tuple[int, int]
    placed: tuple[Placed, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and its answers: the right one and wrong ones of the same kind."""

    question: str
    right: str
    wrong: tuple[str, ...]


# -- questions -----------------------------------------------------------------------------------------------------


def scene_questions(number: int, held: bool) -> list[tuple[str, Row]]:
    """Three questions about one scene."""
    rng = dice("task scene", held, number)
    plan, ask = ((_discs, _ask_disc), (_copies, _ask_copies), (_full, _ask_full), (_sizes, _ask_size))[number % 4]
    scene = plan(rng, held)
    path = save_picture(draw_scene(scene, rng)[0], "scenes", held, number)
    rows, seen = [], set[str]()
    for turn in range(12):
        if len(rows) == 3:
            break
        one = ask(scene, turn, rng, held)
        if one is None or one.question in seen:
            continue
        seen.add(one.question)
        query = asked(path, one.question, instruction("scene question", rng, held=held))
        wrong = rng.sample(one.wrong, min(_NUM_WRONG, len(one.wrong)))
        rows.append(("scene_question", row(query, text(one.right), one.right, *map(text, wrong))))
    return rows


def _grid(rng: random.Random, at_least: int = 4) -> tuple[tuple[int, int], tuple[int, int]]:
    return rng.choice([entry for entry in GRIDS if entry[0][0] * entry[0][1] >= at_least])


def _cells(grid: tuple[int, int]) -> list[Cell]:
    return [(column, line) for line in range(grid[1]) for column in range(grid[0])]


def _discs(rng: random.Random, held: bool) -> Scene:
    """Each thing stands before a disc of its own colour: what colour a thing itself has is a matter of opinion."""
    grid, size = _grid(rng)
    chosen = pick(held, rng.randint(2, min(5, grid[0] * grid[1])), rng)
    discs = rng.sample(DISCS, len(chosen))
    cells = rng.sample(_cells(grid), len(chosen))
    share = rng.uniform(0.5, 0.64)
    placed = (Placed(t, look_of(t, rng), c, share, d) for t, c, d in zip(chosen, cells, discs, strict=True))
    return Scene(size, grid, tuple(placed))


def _copies(rng: random.Random, held: bool) -> Scene:
    """Some of one thing, some of another: copies of the same picture."""
    grid, size = _grid(rng, at_least=6)
    counts = rng.choice(
        ((1, 2), (1, 3), (2, 3), (1, 4), (2, 4), (3, 3), (1, 5), (2, 2), (1, 1, 2), (1, 2, 3), (5,), (6,))
    )
    chosen = pick(held, len(counts), rng)
    cells = rng.sample(_cells(grid), sum(counts))
    placed: list[Placed] = []
    for thing, count in zip(chosen, rng.sample(counts, len(counts)), strict=True):
        look = look_of(thing, rng)
        placed += [Placed(thing, look, cells.pop(), rng.uniform(0.6, 0.9)) for _ in range(count)]
    return Scene(size, grid, tuple(placed))


def _full(rng: random.Random, held: bool) -> Scene:
    """A thing in every cell."""
    grid, size = _grid(rng)
    cells = _cells(grid)
    chosen = pick(held, len(cells), rng)
    placed = (Placed(t, look_of(t, rng), cell, rng.uniform(0.75, 0.95)) for t, cell in zip(chosen, cells, strict=True))
    return Scene(size, grid, tuple(placed))


def _sizes(rng: random.Random, held: bool) -> Scene:
    """One thing is much larger than the others, or much smaller, or both."""
    grid, size = _grid(rng)
    chosen = pick(held, rng.randint(3, min(5, grid[0] * grid[1])), rng)
    shares = [rng.uniform(0.62, 0.7) for _ in chosen]
    kind = rng.randrange(3)
    shares[0] = 0.38 if kind == 0 else 1.0
    if kind == 2:
        shares[1] = 0.38
    cells = rng.sample(_cells(grid), len(chosen))
    placed = (Placed(t, look_of(t, rng), c, s) for t, c, s in zip(chosen, cells, shares, strict=True))
    return Scene(size, grid, tuple(placed))


def _ask_disc(scene: Scene, turn: int, rng: random.Random, held: bool) -> Asked | None:
    one = rng.choice(scene.placed)
    colours = [other.disc for other in scene.placed if other is not one]
    if turn % 3 == 2:
        return _ask_presence(scene, rng, held)
    if turn == 1 and len(scene.placed) > 2:
        names = tuple(other.thing.name for other in scene.placed if other is not one)
        return Asked(wording(QUESTIONS["on disc"], rng, held=held).format(colour=one.disc), one.thing.name, names)
    unused = [disc for disc in DISCS if disc != one.disc and disc not in colours]
    wrong = tuple((colours + rng.sample(unused, 1))[:_NUM_WRONG])
    return Asked(wording(QUESTIONS["disc"], rng, held=held).format(thing=one.thing.name), one.disc, wrong)


def _ask_copies(scene: Scene, turn: int, rng: random.Random, held: bool) -> Asked | None:
    if turn % 4 == 3:
        return _ask_presence(scene, rng, held)
    names = sorted({one.thing.name for one in scene.placed})
    if turn % 4 == 2:
        count = len(scene.placed)
        question = wording(COUNT_ALL, rng, held=held)
    else:
        name = rng.choice(names)
        count = sum(one.thing.name == name for one in scene.placed)
        question = wording(QUESTIONS["count"], rng, held=held).format(thing=name, a_thing=with_article(name))
    near = [other for other in range(1, 7) if 0 < abs(other - count) <= 2]
    return Asked(question, COUNTS[count], tuple(COUNTS[other] for other in near))


def _ask_full(scene: Scene, turn: int, rng: random.Random, held: bool) -> Asked | None:
    if turn % 6 == 5:
        return _ask_presence(scene, rng, held)
    by_cell = {one.cell: one for one in scene.placed}
    if turn % 6 == 2:
        spot = rng.choice(list(SPOTS))
        across, down = (-1 if part else 0 for part in SPOTS[spot])
        cell = (across % scene.grid[0] if across else 0, down % scene.grid[1] if down else 0)
        right, template = by_cell[cell].thing.name, wording(QUESTIONS["corner"], rng, held=held).format(spot=spot)
    else:
        side, step = rng.choice(list(SIDES.items()))
        one, other = neighbours(scene.placed, step, rng)
        right, template = other.thing.name, wording(RELATIONS[side], rng, held=held).format(thing=one.thing.name)
    return Asked(template, right, tuple(p.thing.name for p in scene.placed if p.thing.name != right))


def _ask_size(scene: Scene, turn: int, rng: random.Random, held: bool) -> Asked | None:
    kinds = ["largest"] if max(one.share for one in scene.placed) > 0.9 else []
    kinds += ["smallest"] if min(one.share for one in scene.placed) < 0.5 else []
    columns = sorted(one.cell[0] for one in scene.placed)
    kinds += ["leftmost"] if columns[0] < columns[1] else []
    kinds += ["rightmost"] if columns[-1] > columns[-2] else []
    kind = kinds[turn % len(kinds)] if turn < len(kinds) else ""
    if not kind:
        return _ask_presence(scene, rng, held)
    rank = {
        "largest": lambda one: -one.share,
        "smallest": lambda one: one.share,
        "leftmost": lambda one: one.cell[0],
        "rightmost": lambda one: -one.cell[0],
    }[kind]
    right, *others = sorted(scene.placed, key=rank)
    return Asked(wording(QUESTIONS[kind], rng, held=held), right.thing.name, tuple(one.thing.name for one in others))


def _ask_presence(scene: Scene, rng: random.Random, held: bool) -> Asked:
    there = rng.random() < 0.5
    shown_things = [one.thing for one in scene.placed]
    name = (rng.choice(shown_things) if there else absent(shown_things, held, rng)).name
    question = wording(QUESTIONS["presence"], rng, held=held).format(thing=name, a_thing=with_article(name))
    return Asked(question, "yes" if there else "no", ("no" if there else "yes",))


def neighbours(
    placed: Sequence[Placed], step: Cell, rng: random.Random, asked: Sequence[Placed] = ()
) -> tuple[Placed, Placed]:
    """One that has a neighbour on that side, and the neighbour."""
    by_cell = {one.cell: one for one in placed}
    pairs = [
        (one, by_cell[one.cell[0] + step[0], one.cell[1] + step[1]])
        for one in asked or placed
        if (one.cell[0] + step[0], one.cell[1] + step[1]) in by_cell
    ]
    return rng.choice(pairs)


# -- crops ---------------------------------------------------------------------------------------------------------


def scene_crops(number: int, held: bool) -> list[tuple[str, Row]]:
    """Three of a scene's things, each sought among the crops of all others, or of two where it is measured."""
    rng = dice("task crop", held, number)
    scene, twins = _twins(rng, held, number)
    picture, boxes = draw_scene(scene, rng)
    path = save_picture(picture, "crops", held, number, "whole")
    note = instruction("crop", rng, held=held)
    crops = [image(save_picture(picture.crop(b), "crops", held, number, part), note) for part, b in enumerate(boxes)]
    sought = _sought(scene, twins, rng, held)
    rows = []
    for words, part in sought[:3]:
        query = asked(path, words, instruction("scene crop", rng, held=held))
        others = [place for place in range(len(crops)) if place != part]
        wrong = rng.sample(others, 2)
        if twins and part < 2 and 1 - part not in wrong:
            wrong[0] = 1 - part
        if not held:
            wrong = others
        label = f"crop {held} {number} {part}"
        rows.append(("scene_crop", row(query, crops[part], label, *(crops[place] for place in wrong))))
    return rows


def _twins(rng: random.Random, held: bool, number: int) -> tuple[Scene, tuple[str, str] | tuple[()]]:
    """A full scene, often with one thing twice; and what tells those two, the first ones, apart."""
    scene = _full(rng, held)
    by = ("across", "down", "size", "")[number % 4]
    if not by:
        return scene, ()
    columns, lines = scene.grid
    cells = rng.sample(_cells(scene.grid), columns * lines)
    if by == "across":
        left, right = sorted(rng.sample(range(columns), 2))
        cells[:2] = [(left, rng.randrange(lines)), (right, rng.randrange(lines))]
    elif by == "down":
        upper, lower = sorted(rng.sample(range(lines), 2))
        cells[:2] = [(rng.randrange(columns), upper), (rng.randrange(columns), lower)]
    cells[2:] = [cell for cell in rng.sample(_cells(scene.grid), columns * lines) if cell not in cells[:2]]
    placed = [replace(one, cell=cell) for one, cell in zip(scene.placed, cells, strict=True)]
    first = placed[0]
    placed[1] = replace(placed[1], thing=first.thing, look=look_of(first.thing, rng, without=(first.look,)))
    if by == "size":
        placed[0], placed[1] = replace(placed[0], share=1.0), replace(placed[1], share=0.5)
    else:
        placed[1] = replace(placed[1], share=first.share)
    ends = {"across": ("left", "right"), "down": ("top", "bottom"), "size": ("large", "small")}[by]
    return replace(scene, placed=tuple(placed)), ends


def _sought(scene: Scene, twins: Sequence[str], rng: random.Random, held: bool) -> list[tuple[str, int]]:
    """Words for things of the scene, each of which says which one is meant."""
    sought = []
    for part, end in enumerate(twins):
        sought.append((wording(TWINS[end], rng, held=held).format(thing=scene.placed[0].thing.name), part))
    rest = list(range(len(twins), len(scene.placed)))
    rng.shuffle(rest)
    side, step = rng.choice(list(SIDES.items()))
    single = [one for one in scene.placed if one.thing is not scene.placed[0].thing or not twins]
    pairs = [one for one in single if any(_beside(one, other, step) for other in scene.placed)]
    related = []
    if pairs:
        one, other = neighbours(scene.placed, step, rng, asked=pairs)
        words = wording(SINGLE[side], rng, held=held).format(thing=one.thing.name)
        related.append((words, scene.placed.index(other)))
    name = scene.placed[rest[0]].thing.name
    plain = wording(SINGLE["name"], rng, held=held).format(thing=name, a_thing=with_article(name))
    return [*sought, *related, (plain, rest[0])] if rng.random() < 0.7 else [(plain, rest[0]), *related, *sought]


def _beside(one: Placed, other: Placed, step: Cell) -> bool:
    return (one.cell[0] + step[0], one.cell[1] + step[1]) == other.cell


# -- drawing -------------------------------------------------------------------------------------------------------


def draw_scene(scene: Scene, rng: random.Random) -> tuple[Image.Image, list[Box]]:
    """The scene, RGB, and the box of each thing in it with a margin of a few pixels."""
    if rng.random() < 0.6:
        canvas = Image.new("RGB", scene.size, rng.choice(_PALE))
    else:
        canvas = background(scene.size, rng, white=0.1)[0]
    pen, boxes, margin = ImageDraw.Draw(canvas), [], rng.randint(2, 7)
    wide, high = scene.size[0] / scene.grid[0], scene.size[1] / scene.grid[1]
    for one in scene.placed:
        sprite = tight_sprite(one.thing.pictures[one.look])
        side_px = CELL_PX * one.share
        scale = side_px / max(sprite.size)
        size = (max(1, round(sprite.width * scale)), max(1, round(sprite.height * scale)))
        sprite = sprite.resize(size, Image.Resampling.BILINEAR)
        x, y = wide * (one.cell[0] + 0.5), high * (one.cell[1] + 0.5)
        if one.disc:
            radius = min(CELL_PX, high) / 2 - 2
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=COLOURS[one.disc])
        else:
            x += rng.uniform(-0.5, 0.5) * max(0.0, wide - size[0] - 4)
            y += rng.uniform(-0.5, 0.5) * max(0.0, high - size[1] - 4)
        left, top = round(x - size[0] / 2), round(y - size[1] / 2)
        canvas.paste(sprite, (left, top), sprite)
        right, bottom = min(scene.size[0], left + size[0] + margin), min(scene.size[1], top + size[1] + margin)
        boxes.append((max(0, left - margin), max(0, top - margin), right, bottom))
    return canvas, boxes
