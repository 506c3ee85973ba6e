"""What is asked about clips? Motions and their reverses, what moves, what comes when, and which shot is meant."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import yaml
from cast import Thing, actors, concepts
from clips import NUM_FRAMES, OPPOSITES, draw_frame, motion_frames
from draws import dice
from pack import TARGET, Pack, webp
from PIL import Image
from render import background
from wordnet import with_article

SIZE = (112, 80)
QUALITY = 80
NUM_MOTIONS = 50
NUM_ORDERS = 40
NUM_SHOWN = 50
NUM_WAYS = 50
NUM_JOINED = 20
LABELS = TARGET.parent / "tasks" / "labels"
_DRAWN = (160, 114)
"""The shape of `SIZE`, at which two things on one canvas are drawn before it is made smaller."""

LOOKS = ("fluent-3d", "fluent-emoji-flat", "noto")

WORDINGS = {
    "left": ("moving leftwards", "{} heads for the left edge", "{} shifts leftward"),
    "right": ("moving rightwards", "{} heads for the right edge", "{} shifts rightward"),
    "up": ("moving upwards", "{} heads for the top edge", "{} is lifted up"),
    "down": ("moving downwards", "{} heads for the bottom edge", "{} is lowered down"),
    "grows": ("getting bigger", "{} swells up", "{} increases in size"),
    "shrinks": ("getting smaller", "{} dwindles", "{} decreases in size"),
    "clockwise": ("rotating clockwise", "{} revolves clockwise", "{} is turned clockwise"),
    "counter-clockwise": ("rotating anticlockwise", "{} revolves anticlockwise", "{} is turned anticlockwise"),
    "appears": ("becoming visible", "{} emerges out of nothing", "{} gradually becomes visible"),
    "vanishes": ("becoming invisible", "{} dissolves into nothing", "{} gradually becomes invisible"),
}
"""Motion -> its label, and two sentences. No row that `tiny` was trained on has these words for it."""

ROUND = {"egg", "tangerine", "candy", "ferris wheel", "deciduous tree", "pill", "mushroom", "sheaf of rice", "candle"}
"""Look the same, or nearly so, when they are turned."""

FLAT = {"rainbow", "ghost", "envelope", "lab coat"}
"""Too pale on white to be followed, or too large a shape to be seen to move."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One direction of a pair of clips that hold the same frames.

    Args:
        folder: under the task's media.
        thing: what moves.
        motion: how.
        others: what stands still.
    """

    folder: str
    thing: Thing
    motion: str
    others: tuple[Thing, ...]


def add_films(pack: Pack) -> None:
    """Add all video tasks and the lists of their labels."""
    _add_motions(pack)
    _add_orders(pack)
    _add_questions(pack)
    _add_ways(pack)
    _add_joined(pack)


# -- motions -------------------------------------------------------------------------------------------------------


def _add_motions(pack: Pack) -> None:
    """Motion, moving object, sentence to clip, and the control: all over the same hundred clips."""
    clips: list[Clip] = []
    shuffled: list[dict[str, object]] = []
    things = [thing for thing in actors(*LOOKS) if thing.concept not in FLAT]
    chosen = dice("mini motion").sample(things, len(things))[:NUM_MOTIONS]
    for number, thing in enumerate(_in_turn(chosen)):
        rng = dice("mini motion", number)
        pair = OPPOSITES[number % len(OPPOSITES)]
        others = tuple(rng.sample([other for other in chosen if other is not thing], rng.choice((0, 1, 2))))
        frames = _motion(thing, rng.choice(LOOKS), pair, others, rng)
        for motion, ordered in zip(pair, (frames, frames[::-1]), strict=True):
            clip = Clip(f"{number:02d}-{'ab'[motion == pair[1]]}", thing, motion, others)
            clips.append(clip)
            pack.files(f"clips/motion/{clip.folder}", ordered)
            order = _untimely_order(dice("mini shuffle", clip.folder))
            pack.files(f"clips/shuffled/{clip.folder}", [ordered[place] for place in order])
            shuffled.append({"video_id": clip.folder, "pos_text": WORDINGS[motion][0], "concepts": _held(clip)})
    held = [_held(clip) for clip in clips]
    ids = [clip.folder for clip in clips]
    pack.rows(
        "motion",
        [
            {"video_id": c.folder, "pos_text": WORDINGS[c.motion][0], "concepts": h}
            for c, h in zip(clips, held, strict=True)
        ],
    )
    pack.rows("motion-shuffled", shuffled)
    names = [clip.thing.name for clip in clips]
    pack.rows(
        "moving-object",
        [{"video_id": i, "pos_text": n, "concepts": h} for i, n, h in zip(ids, names, held, strict=True)],
    )
    sentences = [_sentence(clip.thing, clip.motion, dice("mini sentence", clip.folder)) for clip in clips]
    pack.rows(
        "sentence-to-clip",
        [{"video_id": i, "caption": s, "concepts": h} for i, s, h in zip(ids, sentences, held, strict=True)],
    )
    _write_labels("mini_motion", [words[0] for words in WORDINGS.values()])
    _write_labels("mini_objects", sorted(set(names)))


def _in_turn(things: Sequence[Thing]) -> list[Thing]:
    """The same things in an order in which none that looks alike from all sides is to turn."""
    turning = OPPOSITES.index(("clockwise", "counter-clockwise"))
    fit = [thing for thing in things if thing.concept not in ROUND]
    rest = [thing for thing in things if thing.concept in ROUND]
    return [(fit if number % len(OPPOSITES) == turning else rest or fit).pop(0) for number in range(len(things))]


def _motion(thing: Thing, look: str, pair: tuple[str, str], others: Sequence[Thing], rng: random.Random) -> list[bytes]:
    still = [other.sprite(rng.choice(LOOKS), 40) for other in others]
    frames = motion_frames(_tight(thing, look), pair, still, rng)
    return [webp(frame.resize(SIZE, Image.Resampling.LANCZOS), QUALITY) for frame in frames]


def _untimely_order(rng: random.Random) -> list[int]:
    """A random order in which early frames come neither earlier nor later than late ones, on the whole."""
    order = list(range(NUM_FRAMES))
    even = sum(order) ** 2 / NUM_FRAMES
    while True:
        rng.shuffle(order)
        if sum(place * frame for place, frame in enumerate(order)) == even:
            return order


def _sentence(thing: Thing, motion: str, rng: random.Random) -> str:
    subject = rng.choice((f"the {thing.name}", with_article(thing.name)))
    return rng.choice(WORDINGS[motion][1:]).format(subject)


# -- orders --------------------------------------------------------------------------------------------------------


def _add_orders(pack: Pack) -> None:
    """First one thing, then another: pairs of clips that end alike and differ in what came first."""
    rows = []
    things = actors(*LOOKS)
    seen: set[frozenset[str]] = set()
    for number in range(NUM_ORDERS):
        rng = dice("mini order", number)
        pair = rng.sample(things, 2)
        while frozenset(thing.concept for thing in pair) in seen:
            pair = rng.sample(things, 2)
        seen.add(frozenset(thing.concept for thing in pair))
        canvas, _ = background(_DRAWN, rng, white=0.4)
        sprites = [_tight(thing, rng.choice(LOOKS)) for thing in pair]
        places = [(0.27, rng.uniform(0.4, 0.6), 0.52), (0.73, rng.uniform(0.4, 0.6), 0.52)]
        rng.shuffle(places)
        both = draw_frame(draw_frame(canvas, sprites[0], *places[0]), sprites[1], *places[1])
        for end, early in zip("ab", (0, 1), strict=True):
            one = draw_frame(canvas, sprites[early], *places[early])
            frames = [canvas] * 2 + [one] * 3 + [both] * 3
            folder = f"{number:02d}-{end}"
            pack.files(f"clips/order/{folder}", [_small(frame) for frame in frames])
            first_name, second_name = pair[early].name, pair[1 - early].name
            words = rng.choice(
                ("{} comes first, {} joins later", "after {}, {} can be seen too", "{}, and then also {}")
            )
            caption = words.format(with_article(first_name), with_article(second_name))
            rows.append({"video_id": folder, "caption": caption, "concepts": concepts(pair)})
    pack.rows("order-to-clip", rows)


# -- questions -----------------------------------------------------------------------------------------------------


def _add_questions(pack: Pack) -> None:
    """Four things, one at a time: only their order says which came first, last, or after another."""
    rows = []
    for number in range(NUM_SHOWN):
        rng = dice("mini shown", number)
        *shown, absent = rng.sample(actors(*LOOKS), 5)
        canvas, _ = background(_DRAWN, rng, white=0.4)
        frames = []
        for thing in shown:
            sprite, x, y = _tight(thing, rng.choice(LOOKS)), rng.uniform(0.3, 0.7), rng.uniform(0.4, 0.6)
            frames += [_small(draw_frame(canvas, sprite, x, y, 0.66))] * (NUM_FRAMES // 4)
        for end, ordered, things in (("a", frames, shown), ("b", frames[::-1], shown[::-1])):
            folder = f"{number:02d}-{end}"
            pack.files(f"clips/shown/{folder}", ordered)
            question, right = _ask_order(things, number % 4, rng)
            options = rng.sample([*things, absent], 5)
            answers = {f"a{place}": thing.name for place, thing in enumerate(options)}
            row = {"video": folder, "question": question, "answer": options.index(right), **answers}
            rows.append(row | {"concepts": concepts(options)})
    pack.rows("which-comes-when", rows)


def _ask_order(things: Sequence[Thing], kind: int, rng: random.Random) -> tuple[str, Thing]:
    if kind == 0:
        return "Which thing is shown first?", things[0]
    if kind == 1:
        return "Which thing is shown last?", things[-1]
    place = rng.randrange(3)
    if kind == 2:
        return f"What is shown right after the {things[place].name}?", things[place + 1]
    return f"What is shown right before the {things[place + 1].name}?", things[place]


# -- ways ----------------------------------------------------------------------------------------------------------

_WAYS = {"left": "to the left", "right": "to the right", "up": "upwards", "down": "downwards"}
_REVERSE = {"left": "right", "right": "left", "up": "down", "down": "up"}


def _add_ways(pack: Pack) -> None:
    """Two things move in different directions, and the question names one of them."""
    rows = []
    for number in range(NUM_WAYS):
        rng = dice("mini way", number)
        asked, other = rng.sample([thing for thing in actors(*LOOKS) if thing.concept not in FLAT], 2)
        way = list(_WAYS)[number % 4]
        frames = _two_movers(asked, other, way, rng.choice([w for w in _WAYS if w != way]), rng)
        for end, ordered, right in (("a", frames, way), ("b", frames[::-1], _REVERSE[way])):
            folder = f"{number:02d}-{end}"
            pack.files(f"clips/way/{folder}", ordered)
            options = rng.sample(list(_WAYS.values()), len(_WAYS))
            question = f"Which way does the {asked.name} move?"
            row = {"video": folder, "question": question, "candidates": options, "answer": _WAYS[right]}
            rows.append(row | {"concepts": concepts((asked, other))})
    pack.rows("which-way", rows)


def _two_movers(asked: Thing, other: Thing, way: str, other_way: str, rng: random.Random) -> list[bytes]:
    """Each keeps to its lane: across it is the upper or lower half, up and down the left or right one."""
    canvas, _ = background(_DRAWN, rng, white=0.4)
    lanes = rng.sample((0.24, 0.76), 2)
    frames = [canvas] * NUM_FRAMES
    for thing, direction, lane in ((other, other_way, lanes[0]), (asked, way, lanes[1])):
        sprite = _tight(thing, rng.choice(LOOKS))
        start, end = (0.85, 0.15) if direction in ("left", "up") else (0.15, 0.85)
        for step, frame in enumerate(frames):
            along = start + (end - start) * step / (NUM_FRAMES - 1)
            x, y = (along, lane) if direction in ("left", "right") else (lane, along)
            frames[step] = draw_frame(frame, sprite, x, y, 0.42)
    return [_small(frame) for frame in frames]


# -- joined shots --------------------------------------------------------------------------------------------------


def _add_joined(pack: Pack) -> None:
    """Five joined shots: two things, each in a motion and its reverse, and a third thing in one motion."""
    rows = []
    for number in range(NUM_JOINED):
        rng = dice("mini joined", number)
        twice, again, once = rng.sample(_turnable(), 3)
        pairs = rng.sample(OPPOSITES, 3)
        shots: list[tuple[Thing, str, list[bytes]]] = []
        for thing, pair in zip((twice, again, once), pairs, strict=True):
            frames = _motion(thing, rng.choice(LOOKS), pair, (), rng)
            shots += [(thing, pair[0], frames), (thing, pair[1], frames[::-1])]
        # Of the third thing either direction stays, so that it does not say which motion is rarer.
        del shots[4 + number % 2]
        rng.shuffle(shots)
        whole = [frame for _, _, frames in shots for frame in frames]
        # Every shot is asked for once, so that the film alone says nothing about the answer.
        for place, (thing, motion, frames) in enumerate(shots):
            video = f"{number:02d}-{place}"
            pack.files(f"clips/joined/{video}/query", whole)
            pack.files(f"clips/joined/{video}/positive", frames)
            for other, (_, _, wrong) in enumerate(shots):
                if other != place:
                    pack.files(f"clips/joined/{video}/negative_{other}", wrong)
            words = _sentence(thing, motion, dice("mini moment", video))
            rows.append({"query": words, "video_path": f"{video}.mp4", "concepts": concepts((twice, again, once))})
    pack.rows("shot-of-film", rows)


# -- shared --------------------------------------------------------------------------------------------------------


def _turnable() -> list[Thing]:
    return [thing for thing in actors(*LOOKS) if thing.concept not in ROUND | FLAT]


def _tight(thing: Thing, look: str) -> Image.Image:
    """The sprite as a square without margin."""
    sprite = thing.sprite(look, 128)
    sprite = sprite.crop(sprite.getchannel("A").getbbox())
    square = Image.new("RGBA", (max(sprite.size),) * 2)
    square.paste(sprite, ((square.width - sprite.width) // 2, (square.height - sprite.height) // 2))
    return square


def _small(frame: Image.Image) -> bytes:
    return webp(frame.resize(SIZE, Image.Resampling.LANCZOS), QUALITY)


def _held(clip: Clip) -> list[str]:
    return concepts((clip.thing, *clip.others))


def _write_labels(name: str, labels: Sequence[str]) -> None:
    words = yaml.safe_dump(list(labels), default_flow_style=True, width=110)
    head = f"# The {len(labels)} labels of {name.replace('_', '-')}, as recipes/mmeb_mini wrote them.\n"
    (LABELS / f"{name}.yaml").write_text(head + words, encoding="utf-8")
