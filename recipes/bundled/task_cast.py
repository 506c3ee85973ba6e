"""Which things may the training tasks show? Everyday emoji that are not held out (or, for measuring, that are)."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType

from catalogue import Emoji, Picture
from corpus import INKS, dice
from drawings import read_drawings
from held_concepts import MOVING_GROUPS, read_concepts
from holdouts import Holdouts, is_held_wording
from PIL import Image
from render import sprite_of, sprite_of_svg
from wordnet import Noun, read_nouns

LOOKS = ("fluent-3d", "fluent-emoji-flat", "fluent-emoji", "twemoji", "emojione", "fxemoji")
"""Renderers of scenes and clips: coloured, and none of the held-out ones."""

SPRITE_PX = 112

_UNSEEABLE = {49, 50, 53, 57, 58, 59, 66, 88}
"""Subgroups of maps, landscapes, hotels, clock faces, skies and loudspeakers: nobody would say what one of them is."""

_UNCLEAR = {
    # Cannot be told from what they are called, or look like another of the list.
    "1st place medal", "2nd place medal", "3rd place medal", "airplane arrival", "airplane departure", "aerial tramway",
    "ballot box with ballot", "bar chart", "bell with slash", "black bird", "black nib", "blue book", "bookmark tabs",
    "busts in silhouette", "card file box", "card index", "card index dividers", "chains", "chart decreasing",
    "chart increasing", "chart increasing with yen", "closed book", "collision", "computer disk", "construction",
    "control knobs", "cooking", "currency exchange", "curry rice", "custard", "dango", "dashing away", "derelict house",
    "dizzy", "empty nest", "exclamation", "face with bags under eyes", "fight cloud", "file cabinet", "file folder",
    "film frames", "flatbread", "floppy disk", "flower playing cards", "goal net", "green book", "guide dog",
    "hairy creature", "hamsa", "heavy dollar sign", "herb", "hole", "horizontal traffic light", "houses", "ice",
    "identification card", "inbox tray", "joker", "label", "landslide", "leaf fluttering in wind", "leafy green",
    "ledger", "level slider", "link", "linked paperclips", "locked with key", "locked with pen", "love hotel",
    "mahjong red dragon", "mate", "memo", "mirror ball", "moon viewing ceremony", "motorway", "mountain cableway",
    "mountain railway", "musical notes", "muted speaker", "name badge", "nesting dolls", "notebook", "oden", "old key",
    "oncoming automobile", "oncoming bus", "oncoming police car", "oncoming taxi", "one-piece swimsuit",
    "open file folder", "optical disk", "orange book", "outbox tray", "package", "page facing up", "page with curl",
    "pager", "pine decoration", "placard", "pool 8 ball", "poultry leg", "pouring liquid", "railway track", "receipt",
    "red envelope", "restroom", "rice cracker", "roll of paper", "root vegetable", "rosette", "running shirt", "seat",
    "service dog", "shaking", "shallow pan of food", "sheaf", "small airplane", "sos", "sparkles", "splatter",
    "station",
    "stew", "stuffed flatbread", "suspension railway", "track", "trackball", "transparent", "two-hump camel",
    "unlocked",
    "vertical traffic light", "white flower", "wireless", "woman's clothes", "womans clothes", "women’s hat", "wing",
    "cricket game", "water buffalo", "goggles", "ewe", "wheel",
}  # fmt: skip

_EXTRA = frozenset((
    # Named by an icon set or by a title of Open Clip Art; chosen by hand among what WordNet files under things.
    "anchor", "anteater", "antenna", "apple pie", "arm", "armadillo", "armchair", "badminton racket", "ball",
    "ballpoint pen", "bandage", "barbed wire", "barbell", "barley", "barn", "barrel", "barricade", "baseball bat",
    "baseball cap", "baseball glove", "beach ball", "beard", "belt", "binoculars", "blackberry", "blanket", "bookshelf",
    "bottle", "bowl", "box", "brain", "bread", "brick", "bridge", "bugle", "bull", "bullet", "cabbage", "cage", "cake",
    "cannon", "car door", "cart", "cash register", "chandelier", "cheese", "chimney", "chisel", "cigar", "claw",
    "clipboard", "cloak", "clock", "clothesline", "clover", "coffee", "comb", "compass", "computer keyboard", "cone",
    "corkscrew", "cradle", "crib", "crow", "crucifix", "cup", "cupboard", "daffodil", "daisy", "dam", "desk", "dice",
    "digital camera", "dishwasher", "doorway", "drone", "duffel bag", "dumbbell", "dynamite", "easel",
    "electric guitar",
    "eye", "fan", "faucet", "fedora", "fence", "firework", "fireplace", "fishing boat", "fishing net", "flail", "flask",
    "football helmet", "furnace", "gate", "glove", "grenade", "hand", "harp", "hat", "hen", "hourglass", "ice cube",
    "ironing board", "jeep", "jelly", "jug", "keyhole", "kitten", "lamp", "leaf", "lemonade", "light bulb", "lotion",
    "machine gun", "maggot", "magnifying glass", "mailbox", "marker", "martini", "maze", "medication", "megaphone",
    "milk", "mustache", "nail", "necklace", "needle", "oak", "obelisk", "orange", "orca", "oven", "padlock",
    "paint roller", "pan", "paw", "pendulum", "phonograph", "piano", "picture frame", "pigeon", "pillow", "pipe",
    "pitchfork", "plow", "plug", "pocket", "poncho", "poppy", "pot", "pumpkin pie", "puppet", "quill", "radar",
    "radish",
    "raft", "rattlesnake", "record player", "refrigerator", "revolver", "rifle", "robe", "rug", "saddle", "safe",
    "safety pin", "sail", "salamander", "salmon", "sausage", "scoreboard", "seagull", "seahorse", "shotgun",
    "shoulder bag", "sink", "skirt", "skull", "slouch hat", "snowman", "sofa", "soup", "spade", "sparrow", "spear",
    "squirrel", "stairs", "stocking", "stomach", "stool", "stove", "straw hat", "submarine", "suit", "sundial",
    "suspension bridge", "swallow", "sweater", "swimming pool", "sword", "tadpole", "tank", "tape", "tennis court",
    "tennis racket", "tennis shoe", "thermometer", "torch", "towel", "tower", "treadmill", "tree", "truck", "trunk",
    "tunnel", "turban", "turbine", "typewriter", "underwear", "vacuum cleaner", "vase", "vault", "vending machine",
    "vest",
    "wagon", "wallet", "wardrobe", "washbasin", "water tower", "wheat", "whip", "windmill", "wine", "xylophone",
    "yacht",
))  # fmt: skip
"""Concepts beside the emoji, so that more is seen than what emoji show. The held-out ones among them fall away."""

EXTRA_SHARE = 0.25
"""How many of the things that are picked are none of the emoji."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A drawing of Open Clip Art."""

    path: Path


@dataclass(frozen=True, slots=True)
class Thing:
    """A concept that anyone would call by its name, and the pictures that there are of it, by renderer.

    Args:
        kind: emojibase's subgroup, or WordNet's topic for what is no emoji; negative, then.
    """

    concept: str
    name: str
    kind: int
    pictures: Mapping[str, Picture | Drawing]


@dataclass(frozen=True, slots=True)
class Cast:
    """Everything that tasks may show.

    Args:
        things: emoji by whether they are held out.
        extras: what icon sets and drawings show beside them; none of it is held out.
        held: every held-out concept, as the corpus has it.
    """

    things: Mapping[bool, tuple[Thing, ...]]
    extras: tuple[Thing, ...]
    held: frozenset[str]
    holdouts: Holdouts
    pictures: tuple[Picture, ...]


@cache
def read_cast() -> Cast:
    """The things on both sides of the hold-out."""
    words, pictures, _, held, holdouts, _ = read_concepts()
    by_side = _emoji_things(pictures, held, holdouts)
    taken = {thing.name for side in by_side.values() for thing in side}
    extras = _extra_things(pictures, words, read_nouns(), taken, held, holdouts)
    return Cast(MappingProxyType(by_side), extras, held, holdouts, pictures)


def _emoji_things(pictures: Sequence[Picture], held: Set[str], holdouts: Holdouts) -> dict[bool, tuple[Thing, ...]]:
    concepts = {picture.concept for picture in pictures}
    found: dict[str, dict[str, Picture]] = defaultdict(dict)
    for picture in pictures:
        if picture.emoji and picture.renderer in LOOKS and _is_everyday(picture.emoji):
            found[picture.concept].setdefault(picture.renderer, picture)
    by_side: dict[bool, dict[str, Thing]] = {True: {}, False: {}}
    for concept, by_look in sorted(found.items()):
        name = plain_name(concept)
        # `mouse` and `mouse face` are the same to whoever names them: neither is trained if either is held out.
        same = {concept, name, f"{name} face"} & concepts
        sides = {word in held or holdouts.holds(word) for word in (*same, name)}
        is_held = concept in held
        if len(by_look) > 1 and (is_held or not any(sides)):
            kind = next(picture.emoji.subgroup for picture in by_look.values() if picture.emoji)
            by_side[is_held].setdefault(name, Thing(concept, name, kind, MappingProxyType(by_look)))
    return {side: tuple(thing for _, thing in sorted(named.items())) for side, named in by_side.items()}


def _extra_things(
    pictures: Sequence[Picture],
    words: Mapping[str, float],
    nouns: Mapping[str, Noun],
    taken: set[str],
    held: Set[str],
    holdouts: Holdouts,
) -> tuple[Thing, ...]:
    found: dict[str, dict[str, Picture | Drawing]] = defaultdict(dict)
    for picture in pictures:
        if picture.emoji is None and picture.name in _EXTRA and picture.concept not in held:
            found[picture.name].setdefault(picture.renderer, picture)
    for path, title, _ in read_drawings(words):
        if title in _EXTRA:
            found[title].setdefault(f"clip art {len(found[title])}", Drawing(path))
    return tuple(
        Thing(name, name, -nouns[name].topic, MappingProxyType(by_look))
        for name, by_look in sorted(found.items())
        # A generic name could be meant for any emoji, since kinds of nouns are not those of emoji.
        if name not in _GENERIC
        and not holdouts.holds(name)
        and name not in taken
        and not set(nouns[name].synonyms) & taken
    )


def plain_name(concept: str) -> str:
    """What it is called: emojibase tells `mouse` from `mouse face`, which nobody else does."""
    return concept.removesuffix(" face").replace("’", "'")


def _is_everyday(emoji: Emoji) -> bool:
    name = plain_name(emoji.label)
    return (
        emoji.group in MOVING_GROUPS
        and emoji.subgroup not in _UNSEEABLE
        and emoji.label not in _UNCLEAR
        and len(name) <= 18
        and len(name.split()) <= 3
        and not set(name) & set(",()0123456789")
    )


def things(held: bool) -> tuple[Thing, ...]:
    """What may be shown on this side of the hold-out, by name."""
    return read_cast().things[held]


_GENERIC = {"bird", "fish", "fly", "bug", "dog", "blossom", "automobile", "airplane", "house", "ship", "horse", "whale",
            "books", "coat", "dress", "boat", "hat", "tree", "truck", "bread", "cake", "ball", "box", "cup", "bottle",
            "coffee", "milk", "wine", "soup", "cheese", "wheat", "tower", "hand", "arm", "claw", "paw", "hen", "tape",
            "building", "lamp", "clock", "pipe", "leaf", "bull", "spade", "nail", "crow", "kitten"}  # fmt: skip
"""Other things could be called by these names too."""


def are_confused(one: Thing, other: Thing) -> bool:
    """Whether the name of one could be meant for the other."""
    if set(one.name.split()) & set(other.name.split()):
        return True
    strange = one.kind < 0 or other.kind < 0 or one.kind == other.kind
    return strange and bool({one.name, other.name} & _GENERIC)


def pick(held: bool, number: int, rng: random.Random) -> list[Thing]:
    """So many different things, none of which could be taken for another by its name."""
    chosen: list[Thing] = []
    while len(chosen) < number:
        one = rng.choice(extras() if not held and rng.random() < EXTRA_SHARE else things(held))
        if not any(one is other or are_confused(one, other) for other in chosen):
            chosen.append(one)
    return chosen


def absent(shown: Sequence[Thing], held: bool, rng: random.Random) -> Thing:
    """A thing that is not there, nor anything of its kind."""
    kinds = {thing.kind for thing in shown}
    while True:
        one = rng.choice(things(held))
        if one.kind not in kinds and not any(are_confused(one, other) for other in shown):
            return one


def extras() -> tuple[Thing, ...]:
    """What may be shown beside emoji, by name."""
    return read_cast().extras


def look_of(thing: Thing, rng: random.Random, without: Iterable[str] = ()) -> str:
    """One of the renderers that drew the thing; of those to be left out only where there is no other."""
    return rng.choice([look for look in thing.pictures if look not in without] or list(thing.pictures))


@lru_cache(maxsize=4000)
def tight_sprite(picture: Picture | Drawing) -> Image.Image:
    """The picture without margin, RGBA, `SPRITE_PX` on its longer side."""
    if isinstance(picture, Drawing):
        sprite = sprite_of_svg(picture.path.read_text(encoding="utf-8", errors="replace"), 240)
    else:
        sprite = sprite_of(picture, 128, dice("ink", picture.renderer, picture.key).choice(INKS))
    sprite = sprite.crop(sprite.getchannel("A").getbbox())
    scale = SPRITE_PX / max(sprite.size)
    size = (max(1, round(sprite.width * scale)), max(1, round(sprite.height * scale)))
    return sprite.resize(size, Image.Resampling.BOX if scale < 0.7 else Image.Resampling.BILINEAR)


def square_sprite(thing: Thing, look: str) -> Image.Image:
    """The thing in the middle of a square without margin."""
    sprite = tight_sprite(thing.pictures[look])
    square = Image.new("RGBA", (SPRITE_PX, SPRITE_PX))
    square.paste(sprite, ((SPRITE_PX - sprite.width) // 2, (SPRITE_PX - sprite.height) // 2))
    return square


def wording(templates: Sequence[str], rng: random.Random, *, held: bool) -> str:
    """One of the templates: held rows draw among the held ones, training rows among the others."""
    return rng.choice([words for words in templates if is_held_wording(words) is held] or templates)
