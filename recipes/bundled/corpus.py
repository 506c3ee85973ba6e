"""What is the bundled model trained on? Builds all pairs under work/corpus from the fetched packages.

Run:  python recipes/bundled/corpus.py        (after fetch.py)
Every draw is seeded by the name of what it is for, so the result is the same on every machine.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path

from captions import OPPOSITES, caption, sentence
from catalogue import THING_SETS, Emoji, Picture
from clips import NUM_FRAMES, motion_frames
from drawings import read_drawings
from fetch import RECIPE
from held_concepts import CONCRETE, MOVING_GROUPS, read_concepts
from holdouts import HELD_SHARE, Holdouts, bucket
from instructions import CORPUS_KINDS, worded
from manuals import read_titles, render_page
from PIL import Image
from render import colour_of, compose, sprite_of, sprite_of_svg, vary
from rows import INSTRUCTIONS, Corpus, image, row, text, video
from slides import draw_slide, draw_title, plan_slide
from wordnet import Noun, read_nouns
from words import add_words

SEED = 7
TARGET = RECIPE / "work" / "corpus"
FOLDER = RECIPE / "work" / "corpus.partial"
"""Where it is built; it takes the name of TARGET when it is whole."""

PROCESSES = 2
SIDE_PX = 160
NUM_CLIPS = 3000
NUM_SLIDES = 3000
NUM_PAGES = 500
OFTEN = ("fluent-emoji", "fluent-emoji-flat", "fluent-3d", "twemoji", "emojione", "fxemoji")
"""Renderers whose pictures are drawn five times; icons of the others three times."""

MOVING = ("fluent-emoji-flat", "fluent-3d", "twemoji", "emojione", "fxemoji")
"""Renderers whose pictures move in clips."""

INKS = ("black", "#1b2a49", "#7a1f1f", "#14532d", "#4a2a73", "#333333", "#b4461e", "#0f5c78", "#c2185b", "#555555")

STILL_SUBGROUPS = {49, 50, 58, 59}
"""Maps, landscapes, clock faces and skies are in the moving groups but nobody would say that they move."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture as it was drawn: files relative to the corpus, the background of each in words, its own colour."""

    paths: tuple[str, ...]
    grounds: tuple[str, ...]
    colour: str


def build() -> dict[str, int]:
    """Build the corpus anew under `TARGET` and return the number of rows by file."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    clock = time.monotonic()

    def done(what: str) -> None:
        print(f"{time.monotonic() - clock:6.1f} s  {what}", file=sys.stderr)

    nouns = read_nouns()
    words, pictures, unseen, held, holdouts, unread = read_concepts()
    drawings = read_drawings(words)
    done(f"read {len(pictures)} pictures, {len(drawings)} drawings, {len(nouns)} nouns")

    corpus = Corpus(FOLDER)
    # Forked, so that the icon sets that are already read are shared; and before any thread starts.
    with get_context("fork").Pool(PROCESSES) as pool:
        shots = dict(zip(pictures, pool.imap(draw_picture, pictures, 32), strict=True))
        add_pictures(corpus, shots, held, nouns)
        done("drew the pictures")
        drawn = pool.imap(draw_drawing, [path for path, _, _ in drawings], 16)
        add_drawings(corpus, drawings, drawn, holdouts, nouns)
        done("drew the drawings")
        strange = dict(zip(unseen, pool.imap(draw_picture, unseen, 32), strict=True))
        add_unseen_renderer(corpus, strange, held)
        done("drew the held-out renderer")
        add_clips(corpus, pool, pictures, held)
        done("drew the clips")
        add_slides(corpus, pool, pictures, held, nouns)
        add_manuals(corpus, pool)
        done("drew the pages")
    add_words(corpus, unread, nouns)
    corpus.files |= {name: worded(name, corpus.files[name]) for name in CORPUS_KINDS}
    counts = corpus.write()
    shutil.rmtree(TARGET, ignore_errors=True)
    FOLDER.rename(TARGET)
    done("wrote the rows")
    return counts


def dice(*names: object) -> random.Random:
    """A generator of its own for whatever the names say."""
    return random.Random("/".join(str(name) for name in (SEED, *names)))


# -- pictures ------------------------------------------------------------------------------------------------------


def draw_picture(picture: Picture) -> Shot:
    """The picture as it is on white, for teachers and to learn from, then varied on backgrounds of all kinds."""
    rng = dice("picture", picture.renderer, picture.key)
    sprite = sprite_of(picture, SIDE_PX, rng.choice(INKS))
    folder = FOLDER / "pictures" / picture.renderer
    folder.mkdir(parents=True, exist_ok=True)
    mirror = _may_be_mirrored(picture)
    paths, grounds = [], []
    for shot in range(5 if picture.renderer in OFTEN else 3):
        if shot == 0:
            whole, ground = compose(sprite, (SIDE_PX, SIDE_PX), rng, white=1.0)
        else:
            varied = vary(sprite, rng, mirror=mirror)
            whole, ground = compose(varied, (SIDE_PX, SIDE_PX), rng, scales=(0.6, 1.0), white=0.35)
        path = folder / f"{Path(picture.key).stem}_{shot}.jpg"
        whole.save(path, quality=92)
        paths.append(path.relative_to(FOLDER).as_posix())
        grounds.append(ground)
    return Shot(tuple(paths), tuple(grounds), colour_of(sprite))


def _may_be_mirrored(picture: Picture) -> bool:
    """Whether it shows a thing: not a sign, a letter or a number, and nothing that is called by its side."""
    if {"left", "right", "leftwards", "rightwards", "clock", "clockwise"} & set(picture.name.split()):
        return False
    return picture.renderer in THING_SETS or (picture.emoji is not None and picture.emoji.group in MOVING_GROUPS)


def add_pictures(corpus: Corpus, shots: dict[Picture, Shot], held: Set[str], nouns: dict[str, Noun]) -> None:
    """Caption to image, back from two thirds of those on white, and a picture to another renderer's of the concept."""
    by_concept: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for picture, shot in shots.items():
        is_held = picture.concept in held
        for index, (path, ground) in enumerate(zip(shot.paths, shot.grounds, strict=True)):
            rng = dice("caption", path)
            by_concept[picture.concept].append((picture.renderer, path))
            wordings = [_wording(picture, ground, shot.colour, is_held, nouns, rng) for _ in range(2)]
            add_captioned(corpus, "caption_to_image", path, wordings, picture.concept, is_held, back=index == 0)
    for concept, files in sorted(by_concept.items()):
        rng = dice("same concept", concept)
        renderers = sorted({renderer for renderer, _ in files})
        for _ in range(min(12, 3 * (len(renderers) - 1))):
            first, second = (rng.choice([f for r, f in files if r == name]) for name in rng.sample(renderers, 2))
            query = image(first, INSTRUCTIONS["image for images"])
            pair = row(query, image(second, INSTRUCTIONS["image"]), concept)
            corpus.add("image_to_image", [pair], held=concept in held)


def _wording(picture: Picture, ground: str, colour: str, held: bool, nouns: dict[str, Noun], rng: random.Random) -> str:
    names = [picture.name, picture.concept]
    if picture.emoji and picture.emoji.group == 3:
        names.append(picture.concept.removesuffix(" face"))
    return _words_for(rng.choice(names), picture.emoji.tags if picture.emoji else (), ground, colour, held, nouns, rng)


def _words_for(
    name: str,
    tags: Sequence[str],
    ground: str,
    colour: str,
    held: bool,
    nouns: dict[str, Noun],
    rng: random.Random,
) -> str:
    noun = nouns.get(name)
    kind = noun.kind if noun and noun.topic in CONCRETE else ""
    return caption(name, rng, held=held, tags=tags, kind=kind, colour=colour, ground=ground)


def add_captioned(
    corpus: Corpus, name: str, path: str, wordings: Sequence[str], label: str, held: bool, *, back: bool
) -> None:
    """The row caption -> image and, for two thirds of the files that are asked back, image -> another caption."""
    query = text(wordings[0], INSTRUCTIONS["text for images"])
    corpus.add(name, [row(query, image(path, INSTRUCTIONS["image"]), label)], held=held)
    if back and bucket(path) < 66:
        pair = row(image(path, INSTRUCTIONS["image"]), text(wordings[1]), label)
        corpus.add("image_to_caption", [pair], held=held)


def add_unseen_renderer(corpus: Corpus, shots: dict[Picture, Shot], held: Set[str]) -> None:
    """Names to pictures of the renderer that is never trained, apart by whether the concept is."""
    for picture, shot in shots.items():
        query = text(picture.concept, INSTRUCTIONS["text for images"])
        known = "unseen_concept" if picture.concept in held else "seen_concept"
        pair = row(query, image(shot.paths[0], INSTRUCTIONS["image"]), picture.concept)
        corpus.add(f"caption_to_unseen_renderer_{known}", [pair], held=True)


# -- drawings ------------------------------------------------------------------------------------------------------


def draw_drawing(path: Path) -> Shot | None:
    """The drawing on white and on another background; None where resvg cannot draw it or nothing is to be seen."""
    rng = dice("drawing", path.name)
    try:
        sprite = sprite_of_svg(path.read_text(encoding="utf-8", errors="replace"), 2 * SIDE_PX)
    except ValueError:
        return None
    # Many artists drew into the corner of a sheet of paper.
    box = sprite.getchannel("A").getbbox()
    if box is None or min(box[2] - box[0], box[3] - box[1]) < 24:
        return None
    sprite = sprite.crop(box)
    sprite.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    white = Image.new("RGB", sprite.size, (255, 255, 255))
    white.paste(sprite, (0, 0), sprite)
    other, ground = compose(sprite, (SIDE_PX, SIDE_PX), rng)
    folder = FOLDER / "pictures" / "openclipart"
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for shot, whole in enumerate((white, other)):
        target = folder / f"{path.stem}_{shot}.jpg"
        whole.save(target, quality=92)
        paths.append(target.relative_to(FOLDER).as_posix())
    return Shot(tuple(paths), ("white", ground), colour_of(sprite))


def add_drawings(
    corpus: Corpus,
    drawings: Sequence[tuple[Path, str, tuple[str, ...]]],
    drawn: Iterable[Shot | None],
    holdouts: Holdouts,
    nouns: dict[str, Noun],
) -> None:
    for (_, title, tags), shot in zip(drawings, drawn, strict=True):
        if shot is None:
            continue
        held = holdouts.holds(title)
        for index, (path, ground) in enumerate(zip(shot.paths, shot.grounds, strict=True)):
            rng = dice("caption", path)
            wordings = [_words_for(title, tags, ground, shot.colour, held, nouns, rng) for _ in range(2)]
            add_captioned(corpus, "caption_to_drawing", path, wordings, title, held, back=index == 0)


# -- clips ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClipPlan:
    name: str
    pair: tuple[str, str]
    picture: Picture
    others: tuple[Picture, ...]


def draw_clip(plan: ClipPlan) -> None:
    """Eight frames forwards in <name>f and the same frames backwards in <name>b."""
    rng = dice("clip", plan.name)
    sprite = sprite_of(plan.picture, 96)
    frames = motion_frames(sprite, plan.pair, [sprite_of(other, 40) for other in plan.others], rng)
    forwards, backwards = FOLDER / "clips" / f"{plan.name}f", FOLDER / "clips" / f"{plan.name}b"
    forwards.mkdir(parents=True)
    backwards.mkdir(parents=True)
    for index, frame in enumerate(frames):
        path = forwards / f"{index:02d}.jpg"
        frame.save(path, quality=90)
        os.link(path, backwards / f"{NUM_FRAMES - 1 - index:02d}.jpg")


def add_clips(corpus: Corpus, pool: Pool, pictures: Sequence[Picture], held: Set[str]) -> None:
    """Sentence to clip and clip to sentence; a clip and its reverse stand in neighbouring rows."""
    movers = [p for p in pictures if p.emoji and _can_move(p.emoji) and p.renderer in MOVING]
    still = [p for p in movers if p.renderer == "twemoji" and p.concept not in held]
    for is_held, number in ((False, NUM_CLIPS), (True, NUM_CLIPS // 8)):
        actors = [p for p in movers if (p.concept in held) is is_held]
        plans = []
        for index in range(number):
            rng = dice("clip plan", is_held, index)
            pair = rng.choices(OPPOSITES, (30, 25, 15, 15, 15))[0]
            others = tuple(rng.sample(still, rng.choice((0, 0, 1, 2, 3))))
            plans.append(ClipPlan(f"{'held' if is_held else 'seen'}{index:05d}", pair, rng.choice(actors), others))
        pool.map(draw_clip, plans, 16)
        for plan in plans:
            rng = dice("sentence", plan.name)
            name = plan.picture.concept
            if plan.picture.emoji and plan.picture.emoji.group == 3:
                name = name.removesuffix(" face")
            # The reverse of a clip holds the same frames: the one answer that only their order tells apart.
            clips = [video(f"clips/{plan.name}{end}", INSTRUCTIONS["video"]) for end in "fb"]
            sentences = [sentence(name, motion, rng, held=is_held) for motion in plan.pair]
            for motion, words, clip, reverse, opposite in zip(
                plan.pair, sentences, clips, clips[::-1], sentences[::-1], strict=True
            ):
                query = text(words, INSTRUCTIONS["text for videos"])
                corpus.add("text_to_video", [row(query, clip, f"{name}|{motion}", reverse)], held=is_held)
                back = row(clip, text(words), f"{name}|{motion}", text(opposite))
                corpus.add("video_to_text", [back], held=is_held)


def _can_move(emoji: Emoji) -> bool:
    return emoji.group in MOVING_GROUPS and emoji.subgroup not in STILL_SUBGROUPS


# -- pages ---------------------------------------------------------------------------------------------------------


def draw_one_slide(plan: tuple[int, str, tuple[str, ...], Picture | None]) -> tuple[str, str]:
    """The file of the slide and the kind of chart on it ("" for none)."""
    index, title, lines, picture = plan
    rng = dice("slide", index)
    slide = plan_slide(title, lines, rng)
    sprite = sprite_of(picture, 96) if picture and rng.random() < 0.7 else None
    path = FOLDER / "pages" / f"slide{index:05d}.jpg"
    path.parent.mkdir(exist_ok=True)
    draw_slide(slide, sprite, rng).save(path, quality=92)
    return path.relative_to(FOLDER).as_posix(), slide.chart


def add_slides(corpus: Corpus, pool: Pool, pictures: Sequence[Picture], held: Set[str], nouns: dict[str, Noun]) -> None:
    by_name: dict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        if picture.emoji and _can_move(picture.emoji) and picture.concept not in held:
            by_name[picture.concept.removesuffix(" face")].append(picture)
    things = sorted(name for name in by_name if len(name) < 18 and "," not in name)
    common = sorted(noun.word for noun in nouns.values() if noun.count > 40 and 4 < len(noun.word) < 10)
    plans: list[tuple[int, str, tuple[str, ...], Picture | None]] = []
    seen: set[str] = set()
    rng = dice("titles")
    while len(plans) < NUM_SLIDES:
        title, thing = draw_title(things, rng)
        if title in seen:
            continue
        seen.add(title)
        gloss = nouns[thing].gloss if thing in nouns else ""
        lines = [part.strip() for part in re.split(r"[;,(]", gloss) if len(part.strip()) > 8]
        lines += [f"{rng.choice(common)} and {rng.choice(common)}" for _ in range(3)]
        shown = rng.choice(by_name[thing]) if thing else None
        plans.append((len(plans), title, tuple(lines), shown))
    drawn = pool.map(draw_one_slide, plans, 32)
    for (_, title, _, _), (path, chart) in zip(plans, drawn, strict=True):
        kinds = [title, title, title, f"a slide about {title}", f"a slide titled {title}"]
        if chart:
            kinds += [f"{chart}: {title}", f"a {chart} of {title}"]
        query = text(dice("page query", path).choice(kinds), INSTRUCTIONS["text for pages"])
        pair = row(query, image(path, INSTRUCTIONS["page"]), title)
        corpus.add("text_to_page", [pair], held=bucket(title) < HELD_SHARE)


def draw_manual_page(plan: tuple[int, Path, int]) -> str:
    index, path, page = plan
    target = FOLDER / "pages" / f"manual{index:05d}.jpg"
    render_page(path, page, (168, 224)).save(target, quality=90)
    return target.relative_to(FOLDER).as_posix()


def add_manuals(corpus: Corpus, pool: Pool) -> None:
    """Section titles of LaTeX manuals to the pages they start on; whole manuals are held out."""
    entries = read_titles(NUM_PAGES)
    plans = [(index, path, page) for index, (path, page, _) in enumerate(entries)]
    drawn = pool.map(draw_manual_page, plans, 16)
    for (path, _, title), target in zip(entries, drawn, strict=True):
        query = text(title, INSTRUCTIONS["text for pages"])
        pair = row(query, image(target, INSTRUCTIONS["page"]), f"{path.stem}: {title}")
        corpus.add("text_to_page", [pair], held=bucket(path.stem) < HELD_SHARE)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for file, number in build().items():
        print(f"{number:7d}  {file}.jsonl")
