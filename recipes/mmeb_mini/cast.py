"""Which things may the benchmark show? Emoji whose concept no training row has, by what they are called."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from catalogue import FLUENT_3D, RENDERINGS, Emoji, Picture, read_emoji, read_pictures, svg_of
from concepts import known_words
from holdouts import HELD_RENDERER, HELD_SHARE, SAMPLES, bucket, root
from PIL import Image
from render import sprite_of_svg
from wordnet import read_nouns

UNSEEN = HELD_RENDERER
RENDERERS = (RENDERINGS, "fluent-emoji-flat", "fxemoji", UNSEEN)
"""MIT and Apache-2.0; the first is almost photographic, the last is never trained."""

ACTORS = (
    "beaver", "black cat", "boar", "gorilla", "monkey", "mouse face", "panda", "zebra", "hatching chick", "crocodile",
    "lobster", "deciduous tree", "mushroom", "sheaf of rice", "green apple", "tangerine", "burrito", "cheese wedge",
    "egg", "taco", "dumpling", "candy", "honey pot", "soft ice cream", "spoon", "ferris wheel", "locomotive",
    "pickup truck", "skateboard", "passenger ship", "alarm clock", "rainbow", "american football", "joystick", "kite",
    "gem stone", "graduation cap", "high-heeled shoe", "kimono", "top hat", "headphone", "maracas", "trumpet",
    "telephone", "electric plug", "candle", "red paper lantern", "money bag", "envelope", "briefcase", "hammer",
    "nut and bolt", "pill", "chair", "shopping cart", "robot", "ghost", "camera with flash", "fallen leaf",
    "lab coat",
)  # fmt: skip
"""Things that anyone would call by their name, and that no two of which look alike."""

_UNCLEAR = {
    # Look like another concept of the list, or cannot be told from what they are called.
    "raised hand", "mountain railway", "restroom", "train", "rat", "face without mouth", "two-thirty", "tumbler glass",
    "small blue diamond", "transgender symbol", "wireless", "service dog", "goal net", "person with white cane",
    "white cane", "splatter", "fight cloud", "hairy creature", "family, man, boy", "water pistol", "keycap, #",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Thing:
    """A held-out concept and the pictures that there are of it, by renderer."""

    concept: str
    emoji: Emoji
    pictures: Mapping[str, Picture]

    @property
    def name(self) -> str:
        """What it is called: emojibase tells `mouse` from `mouse face`, which nobody else does."""
        return self.concept.removesuffix(" face") if self.emoji.group == 3 else self.concept

    def sprite(self, renderer: str, size_px: int) -> Image.Image:
        """The picture alone, RGBA, at most `size_px` on each side."""
        key = self.pictures[renderer].key
        if renderer != RENDERINGS:
            return sprite_of_svg(svg_of(renderer, key), size_px)
        with Image.open(FLUENT_3D / key) as image:
            return image.convert("RGBA").resize((size_px, size_px), Image.Resampling.BOX)


@cache
def read_cast() -> Mapping[str, Thing]:
    """Every usable held-out emoji by concept, sorted, without the samples and the variants by gender."""
    words = known_words(read_nouns())
    found: dict[str, dict[str, Picture]] = defaultdict(dict)
    for renderer in RENDERERS:
        for picture in read_pictures(renderer, words):
            if picture.emoji and is_held(picture.concept):
                found[picture.concept].setdefault(renderer, picture)
    by_label = {emoji.label: emoji for emoji in read_emoji().values()}
    roots: set[str] = set()
    cast = {}
    for concept, pictures in sorted(found.items(), key=lambda entry: (entry[0] != root(entry[0]), entry[0])):
        if root(concept) in roots or concept in _UNCLEAR or by_label[concept].hexcode in SAMPLES.objects.values():
            continue
        roots.add(root(concept))
        cast[concept] = Thing(concept, by_label[concept], MappingProxyType(pictures))
    return MappingProxyType(dict(sorted(cast.items())))


def is_held(concept: str) -> bool:
    """The rule of the default model's data without WordNet's synonyms: the name alone says it."""
    return bucket(root(concept)) < HELD_SHARE


@cache
def actors(*renderers: str) -> tuple[Thing, ...]:
    """The things of `ACTORS` that all these renderers drew."""
    cast = read_cast()
    return tuple(cast[concept] for concept in ACTORS if set(renderers) <= set(cast[concept].pictures))


def concepts(things: Iterable[Thing]) -> list[str]:
    """The column that lets a test check the hold-out: every concept that a row shows or names."""
    return sorted({thing.concept for thing in things})
