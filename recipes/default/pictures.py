"""What is the model shown? Icons, emoji, 3-D emoji and drawings by name, each drawn once as it is and then varied."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from catalogue import FLUENT_3D, RENDERINGS, Picture, read_pictures, svg_of
from concepts import MOVING_GROUPS, Concepts, read_concepts
from drawings import read_drawings, read_svg
from holdouts import HELD_RENDERER
from PIL import Image
from render import compose, sprite_of_svg, vary

SEED = 7
SIDE_PX = 224
OPENCLIPART = "openclipart"
INKS = ("black", "#1b2a49", "#7a1f1f", "#14532d", "#4a2a73", "#333333", "#b4461e", "#0f5c78", "#c2185b", "#555555")
"""Colours of icons that have none."""

MORE_SETS = (
    *("pinhead", "healthicons", "hugeicons", "temaki", "maki", "guidance", "mingcute", "fa7-solid", "tabler", "lucide"),
    *("emojione-monotone", "streamline-plump-color", "streamline-cyber-color", "streamline-stickies-color"),
    *("streamline-flex-color", "material-symbols"),
)
"""Icon sets of which only icons that are called by a noun for a thing are taken. CC0, MIT, ISC, Apache-2.0 or CC-BY
(see NOTICE)."""

SHOTS = 1
"""Drawings of a picture: the first as it is on white, further ones varied, on backgrounds of all kinds."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture and what it is called.

    Args:
        renderer, key: icon set and name in it; or `OPENCLIPART` and the file's path in it.
        name: what the renderer calls it.
        concept: the name shared by all renderers of it.
        tags: keywords.
        held: no picture of this concept is trained.
        mirrored: whether its mirror image shows the same.
    """

    renderer: str
    key: str
    name: str
    concept: str
    tags: tuple[str, ...]
    held: bool
    mirrored: bool

    @property
    def is_trained(self) -> bool:
        """Whether the model may be trained on it."""
        return not self.held and self.renderer != HELD_RENDERER


def read_shown() -> list[Shown]:
    """Every picture that is trained or asked for, in an order by hash: any part of it is a fair sample."""
    concepts = read_concepts()
    shown = [_shown(one, held=one.concept in concepts.held) for one in (*concepts.pictures, *concepts.unseen)]
    for renderer in MORE_SETS:
        for picture in read_pictures(renderer, concepts.words):
            is_thing = picture.name in concepts.things or picture.emoji is not None
            if is_thing and not _is_held(picture, concepts):
                shown.append(_shown(picture, held=False))
    for file, title, tags in read_drawings(concepts.words):
        held = concepts.holdouts.holds(title)
        shown.append(Shown(OPENCLIPART, file, title, title, tags, held, mirrored=True))
    asked = {question.shown for questions in tests(shown).values() for question in questions}
    needed = [one for one in shown if one.is_trained or one in asked]
    return sorted(needed, key=lambda one: _order(f"{one.renderer}/{Path(one.key).name}"))


def _is_held(picture: Picture, concepts: Concepts) -> bool:
    names = {picture.concept, picture.name}
    return bool(names & concepts.held) or any(map(concepts.holdouts.holds, names))


def _shown(picture: Picture, *, held: bool) -> Shown:
    emoji = picture.emoji
    concept = picture.concept.removesuffix(" face") if emoji and emoji.group == 3 else picture.concept
    is_sided = {"left", "right", "leftwards", "rightwards", "clock", "clockwise"} & set(picture.name.split())
    mirrored = not is_sided and (emoji is None or emoji.group in MOVING_GROUPS)
    return Shown(picture.renderer, picture.key, picture.name, concept, emoji.tags if emoji else (), held, mirrored)


def draw(shown: Shown, shot: int) -> Image.Image | None:
    """The picture, RGB, 224 pixels wide and high; None if it cannot be drawn, or there is nothing to see.

    Args:
        shot: 0 draws it as it is, on white; any other number varies it, on a background.
    """
    rng = random.Random(f"{SEED}/{shown.renderer}/{shown.key}/{shot}")
    sprite = _sprite(shown, rng)
    if sprite is None:
        return None
    if shot == 0:
        return compose(sprite, (SIDE_PX, SIDE_PX), rng, white=1.0)[0]
    varied = vary(sprite, rng, mirror=shown.mirrored)
    return compose(varied, (SIDE_PX, SIDE_PX), rng, scales=(0.6, 1.0), white=0.35)[0]


def _sprite(shown: Shown, rng: random.Random) -> Image.Image | None:
    if shown.renderer == RENDERINGS:
        with Image.open(FLUENT_3D / shown.key) as image:
            return image.convert("RGBA")
    is_drawing = shown.renderer == OPENCLIPART
    ink = rng.choice(INKS)
    svg = read_svg(shown.key) if is_drawing else svg_of(shown.renderer, shown.key, ink)
    try:
        sprite = sprite_of_svg(svg, 2 * SIDE_PX if is_drawing else SIDE_PX)
    except ValueError:
        return None
    # Many artists drew into the corner of a sheet of paper.
    box = sprite.getchannel("A").getbbox()
    if box is None or min(box[2] - box[0], box[3] - box[1]) < SIDE_PX // 8:
        return None
    return sprite.crop(box) if is_drawing else sprite


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a test: a name, and the picture that is meant."""

    words: str
    shown: Shown


def tests(shown: Sequence[Shown]) -> dict[str, list[Question]]:
    """Names and pictures of held-out concepts: one picture a concept, in an order by hash, 200 at most.

    `held`: by renderers that are trained; `noto`: by one that is not; `clip`: drawings of Open Clip Art.
    """
    kinds = {HELD_RENDERER: "noto", OPENCLIPART: "clip"}
    found: dict[str, dict[str, list[Shown]]] = {"held": {}, "noto": {}, "clip": {}}
    for one in shown:
        if one.held:
            found[kinds.get(one.renderer, "held")].setdefault(one.concept, []).append(one)
    return {
        name: [
            Question(concept, min(found[name][concept], key=lambda one: _order(one.renderer + one.key)))
            for concept in sorted(found[name], key=_order)[:200]
        ]
        for name in found
    }


def _order(name: str) -> str:
    return hashlib.md5(name.encode()).hexdigest()


def is_even(words: str) -> bool:
    """Whether a question belongs to the half of a test by which settings may be chosen."""
    return int(_order(words), 16) % 2 == 0
