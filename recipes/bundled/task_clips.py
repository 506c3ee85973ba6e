"""What can be asked about clips? The motion, what moves, what comes when, which way, and in which order."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache

from captions import OPPOSITES, with_article
from clips import NUM_FRAMES, SIZE, draw_frame, motion_frames
from corpus import dice
from instructions import instruction
from options import offer
from PIL import Image
from render import background
from rows import Row, row, text, video
from task_cast import Thing, look_of, pick, square_sprite, wording
from task_files import CORPUS, asked_of_video, relative, save_clip, save_frames
from wordings import read_words

_WORDS = read_words("clips")
MOTION_LABELS, QUESTIONS, WAYS = _WORDS["motion_labels"], _WORDS["questions"], _WORDS["ways"]
REVERSE, JOINED, REPLACED = _WORDS["reverse"], _WORDS["joined"], _WORDS["replaced"]

ROUND = {
    "balloon", "basketball", "baseball", "bowling", "cookie", "coin", "volleyball", "doughnut", "lemon", "melon",
    "onion",
    "orange", "peach", "tomato", "wheel", "bullseye", "soccer ball", "crystal ball", "pizza", "ring", "flying disc",
    "tangerine", "egg", "candy", "pill", "lime", "potato", "coconut", "red apple", "green apple", "mirror ball",
    "mango",
    "blueberries", "softball", "tennis", "garlic", "candle", "deciduous tree", "evergreen tree", "fried egg", "cricket",
}  # fmt: skip
"""Look the same, or nearly so, when they are turned."""


# -- motions -------------------------------------------------------------------------------------------------------


def motion_clips(number: int, held: bool) -> list[tuple[str, Row]]:
    """One thing moves among still ones: its motion and its name, of the clip and of its reverse."""
    rng = dice("task motion", held, number)
    pair = rng.choices(OPPOSITES, (24, 24, 18, 18, 16))[0]
    mover, *others = pick(held, 1 + rng.choice((1, 1, 2, 2, 3)), rng)
    while pair[0] == "clockwise" and mover.name in ROUND:
        mover, *others = pick(held, 1 + len(others), rng)
    still = [square_sprite(other, look_of(other, rng)).resize((40, 40)) for other in others]
    frames = motion_frames(square_sprite(mover, look_of(mover, rng)), pair, still, rng)
    clips = save_frames(frames, "motions", held, number)
    rows = []
    for motion, opposite, path in zip(pair, pair[::-1], clips, strict=True):
        moved = motion_row(path, motion, opposite, mover.name, rng, held)
        rows.append(("clip_to_motion", moved))
        query = video(path, instruction("clip to thing", rng, held=held))
        wrong = [text(other.name) for other in others[:2]]
        if not held:
            wrong.append(moved["positive"])
        rows.append(("clip_to_thing", row(query, text(mover.name), mover.name, *wrong)))
    return rows


def motion_row(path: str, motion: str, opposite: str, mover: str, rng: random.Random, held: bool) -> Row:
    """Clip to the name of its motion. Wrong are the reverse's name and, but where it is measured, what moves: true of
    the clip, and no answer to this question."""
    query = video(path, instruction("clip to motion", rng, held=held))
    words = [wording(MOTION_LABELS[name], rng, held=held) for name in (motion, opposite)]
    wrong = words[1:] if held else [words[1], mover]
    return row(query, text(words[0]), f"motion {motion}", *map(text, wrong))


@cache
def corpus_clips(held: bool) -> tuple[tuple[str, str, str, str], ...]:
    """(folder, folder of its reverse, name of what moves, motion) of the clips that `corpus.py` drew."""
    path = CORPUS / f"text_to_video{'_heldout' if held else ''}.jsonl"
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        name, motion = entry["label"].split("|")
        clip, reverse = (relative(part["video"]) for part in (entry["positive"], entry["negatives"][0]))
        found.append((clip, reverse, name, motion))
    if any(one[1] != other[0] for one, other in zip(found[::2], found[1::2], strict=False)):
        raise ValueError(f"{path}: a row is missing; rows 2n and 2n + 1 should be a clip and its reverse")
    return tuple(found)


def corpus_motions(number: int, held: bool) -> list[tuple[str, Row]]:
    """The same of a clip that the corpus has already."""
    path, _, mover, motion = corpus_clips(held)[number]
    opposite = next(two[1 - two.index(motion)] for two in OPPOSITES if motion in two)
    rng = dice("task corpus motion", held, number)
    return [("clip_to_motion", motion_row(path, motion, opposite, mover, rng, held))]


# -- questions -----------------------------------------------------------------------------------------------------


def shown_in_turn(number: int, held: bool) -> list[tuple[str, Row]]:
    """Three or four things, one at a time, and the same backwards: only the order of frames says which came when."""
    rng = dice("task shown", held, number)
    shown = pick(held, rng.choice((3, 4, 4, 4)), rng)
    canvas, _ = background(SIZE, rng, white=0.4)
    frames: list[Image.Image] = []
    for place, thing in enumerate(shown):
        until = round((place + 1) * NUM_FRAMES / len(shown))
        sprite, x, y = square_sprite(thing, look_of(thing, rng)), rng.uniform(0.3, 0.7), rng.uniform(0.42, 0.58)
        frames += [draw_frame(canvas, sprite, x, y, rng.uniform(0.6, 0.8))] * (until - len(frames))
    clips = save_frames(frames, "shown", held, number)
    rows = []
    for path, ordered in zip(clips, (shown, shown[::-1]), strict=True):
        for kind in rng.sample(("first", "last", "after", "before"), 2):
            place = rng.randrange(len(ordered) - 1)
            right, named = {
                "first": (ordered[0], ordered[0]),
                "last": (ordered[-1], ordered[-1]),
                "after": (ordered[place + 1], ordered[place]),
                "before": (ordered[place], ordered[place + 1]),
            }[kind]
            question = wording(QUESTIONS[kind], rng, held=held).format(thing=named.name)
            others = [thing for thing in ordered if thing is not right]
            # What a model that takes the clip for its reverse would say is always among the wrong answers.
            mirror = ordered[-1 - ordered.index(right)] if kind in ("first", "last") else _beside(ordered, named, right)
            first = [mirror] if mirror and mirror is not right else []
            wrong = first + rng.sample([thing for thing in others if thing not in first], 2 - len(first))
            ask = instruction("clip question", rng, held=held)
            names = [right.name, *(thing.name for thing in wrong)]
            rows.append(("clip_question", _question_row(path, question, names, right.name, ask, held)))
    return rows


def _question_row(path: str, question: str, answers: Sequence[str], label: str, ask: str, held: bool) -> Row:
    """A question with its answers, the right one first."""
    if not held:
        question, answers = offer(question, answers, dice("options", path, question))
    right, *wrong = map(text, answers)
    return row(asked_of_video(path, question, ask), right, label, *wrong)


def _beside(ordered: Sequence[Thing], named: Thing, right: Thing) -> Thing | None:
    """The neighbour in time of the named thing on the other side than the right one."""
    place = 2 * ordered.index(named) - ordered.index(right)
    return ordered[place] if 0 <= place < len(ordered) else None


def two_ways(number: int, held: bool) -> list[tuple[str, Row]]:
    """Two things move in different directions: which way does one go, and what goes one way?"""
    rng = dice("task ways", held, number)
    pair = pick(held, 2, rng)
    ways = rng.sample(list(WAYS), 2)
    canvas, _ = background(SIZE, rng, white=0.4)
    frames = [canvas] * NUM_FRAMES
    lanes = rng.sample((0.25, 0.75), 2)
    for thing, way, lane in zip(pair, ways, lanes, strict=True):
        sprite, side = square_sprite(thing, look_of(thing, rng)), rng.uniform(0.38, 0.48)
        start, end = (0.85, 0.15) if way in ("left", "up") else (0.15, 0.85)
        for step, frame in enumerate(frames):
            along = start + (end - start) * step / (NUM_FRAMES - 1)
            x, y = (along, lane) if way in ("left", "right") else (lane, along)
            frames[step] = draw_frame(frame, sprite, x, y, side)
    clips = save_frames(frames, "ways", held, number)
    rows = []
    for path, directions in zip(clips, (ways, [REVERSE[way] for way in ways]), strict=True):
        for turn in range(2):
            ask = instruction("clip question", rng, held=held)
            if rng.random() < 0.75:
                way = directions[turn]
                question = wording(QUESTIONS["way"], rng, held=held).format(thing=pair[turn].name)
                wrong = [REVERSE[way], *(other for other in directions if other not in (way, REVERSE[way]))]
                words = [rng.choice(WAYS[name]) for name in (way, *wrong)]
                rows.append(("clip_question", _question_row(path, question, words, f"way {way}", ask, held)))
            else:
                way = rng.choice(WAYS[directions[turn]])
                question = wording(QUESTIONS["who"], rng, held=held).format(way=way)
                names = [pair[turn].name, pair[1 - turn].name]
                rows.append(("clip_question", _question_row(path, question, names, names[0], ask, held)))
    return rows


# -- orders --------------------------------------------------------------------------------------------------------


def orders(number: int, held: bool) -> list[tuple[str, Row]]:
    """First one thing, then another, which joins or replaces it; and a clip of the other order."""
    rng = dice("task order", held, number)
    pair = pick(held, 2, rng)
    canvas, _ = background(SIZE, rng, white=0.4)
    sprites = [square_sprite(thing, look_of(thing, rng)) for thing in pair]
    joined = rng.random() < 0.6
    empty, early = rng.choice(((0, 4), (1, 3), (2, 3)))
    side = rng.uniform(0.5, 0.6)
    places = rng.sample([(0.27, rng.uniform(0.4, 0.6), side), (0.73, rng.uniform(0.4, 0.6), side)], 2)
    singles = [draw_frame(canvas, sprite, *place) for sprite, place in zip(sprites, places, strict=True)]
    both = draw_frame(singles[0], sprites[1], *places[1])
    clips = []
    for first in (0, 1):
        end = both if joined else singles[1 - first]
        frames = [canvas] * empty + [singles[first]] * early + [end] * (NUM_FRAMES - empty - early)
        clips.append(save_clip(frames, "orders", held, number, first))
    note = instruction("video", rng, held=held)
    rows = []
    for first in (0, 1):
        names = [with_article(pair[index].name) for index in (first, 1 - first)]
        words = wording(JOINED if joined else REPLACED, rng, held=held).format(one=names[0], other=names[1])
        query = text(words, instruction("order to clip", rng, held=held))
        label = f"order {pair[first].name}|{pair[1 - first].name}"
        rows.append(("order_to_clip", row(query, video(clips[first], note), label, video(clips[1 - first], note))))
    return rows
