"""What can be asked about single pictures? The class of what they show, and the same picture with a change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from catalogue import EMOJIBASE, Picture, icon_set, read_emoji, webp_of
from corpus import dice
from instructions import instruction
from PIL import Image
from render import COLOURS, sprite_of
from rows import Row, image, row, text
from task_cast import look_of, pick, read_cast, square_sprite, wording
from task_files import CORPUS, asked, relative, save_picture

SIDE_PX = 160
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
_TONED_SETS = {"fluent-emoji": "", "fluent-emoji-flat": "", "twemoji": "-skin-tone", "emojione": "-skin-tone"}
"""Icon set -> what stands behind the tone in the names of its icons."""

_TONE_CODES = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")

_NO_GROUPS = {2, 9}
_NO_SUBGROUPS = {32, 33, 97, 98, 99}
"""Components and flags, of which there are no pictures."""

TONE_WORDS = (
    "but with {tone} skin",
    "with a {tone} skin tone",
    "give it {tone} skin",
    "in {tone} skin tone",
    "make the skin {tone}",
    "skin tone: {tone}",
    "the {tone} skin version",
    "as someone with {tone} skin",
    "change the skin to {tone}",
    "{tone} skin instead",
)
GROUND_WORDS = (
    "on a {colour} background",
    "but the background is {colour}",
    "put it on {colour}",
    "with {colour} behind it",
    "the same on {colour}",
    "make the background {colour}",
    "background: {colour}",
    "in front of {colour}",
    "change the background to {colour}",
    "{colour} ground instead",
)
STYLE_WORDS = {
    "fluent-3d": (
        "as a 3-D rendering", "in 3-D", "rendered in three dimensions", "with depth and shine, like a figurine",
        "as a glossy 3-D object", "make it three-dimensional", "the 3-D version", "sculpted instead of drawn",
    ),
    "fluent-emoji-flat": (
        "as a flat drawing", "flat, without shading", "in flat colours", "the flat version", "make it flat",
        "without any gradients", "as flat shapes", "drawn with plain areas of colour",
    ),
    "fluent-emoji-high-contrast": (
        "in black and white", "as a black silhouette", "in a single colour", "without colours", "as a black sign",
        "the black and white version", "with black lines only", "as a pictogram",
    ),
}  # fmt: skip
EDIT_WORDS = {
    "upside down": ("upside down", "turned on its head", "flipped from top to bottom", "turn it upside down",
                    "rotated by half a turn", "standing on its head", "turned by 180 degrees",
                    "with its top at the bottom"),
    "small": ("much smaller", "drawn small", "make it tiny", "with a lot of room around it", "reduced in size",
              "shrink it", "seen from far away", "at a third of its size"),
    "twice": ("two of them", "twice", "two side by side", "as a pair", "doubled", "with a second one next to it",
              "make it two", "show it two times"),
    "grey": ("without colour, in grey", "in greyscale", "as a grey picture", "make it grey",
        "with all colour taken out",
             "like a black-and-white photograph", "in shades of grey", "desaturated"),
}  # fmt: skip


# -- classes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filed:
    """A picture that the corpus has, and where emojibase files what it shows."""

    path: str
    concept: str
    group: int
    subgroup: int


@cache
def class_names(kind: str) -> Mapping[int, str]:
    """English names of emojibase's `groups` or `subgroups` by number."""
    without = _NO_GROUPS if kind == "groups" else _NO_SUBGROUPS
    entries = json.loads((EMOJIBASE / "messages.json").read_text(encoding="utf-8"))[kind]
    # Two subgroups have the number 46; what emojibase gives this number are sweets, the latter of them.
    return {entry["order"]: entry["message"] for entry in entries if entry["order"] not in without}


@cache
def filed_pictures(held: bool) -> tuple[Filed, ...]:
    """The corpus's pictures of emoji on varied backgrounds, in an order that is none of theirs."""
    by_label = {emoji.label: emoji for emoji in read_emoji().values()}
    path = CORPUS / f"caption_to_image{'_heldout' if held else ''}.jsonl"
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        emoji = by_label.get(entry["label"])
        if emoji and emoji.group in class_names("groups") and emoji.subgroup in class_names("subgroups"):
            picture = relative(entry["positive"]["image"])
            found.append(Filed(picture, emoji.label, emoji.group, emoji.subgroup))
    dice("task classes", held).shuffle(found)
    return tuple(found)


def classes(number: int, held: bool) -> list[tuple[str, Row]]:
    """A picture to its subgroup in words and, a third as often, to its group."""
    rng = dice("task class", held, number)
    one = filed_pictures(held)[number]
    rows = []
    for kind, right in (("subgroups", one.subgroup), ("groups", one.group))[: 2 if number % 3 == 0 else 1]:
        names = class_names(kind)
        name = names[right]
        near = [n for n, words in names.items() if words != name and (kind == "groups" or abs(n - right) < 8)]
        wrong = [rng.choice(near), rng.choice([n for n, words in names.items() if words != name])]
        ask = instruction("image to class" if kind == "subgroups" else "image to group", rng, held=held)
        pair = row(image(one.path, ask), text(name), name, *(text(names[n]) for n in dict.fromkeys(wrong)))
        rows.append(("image_to_class", pair))
    return rows


# -- changes -------------------------------------------------------------------------------------------------------


@cache
def toned(held: bool) -> tuple[tuple[Picture, tuple[Picture, ...]], ...]:
    """Pictures of people and hands in yellow, and each in all five tones, by all renderers that have them."""
    cast, found = read_cast(), []
    for picture in cast.pictures:
        if picture.emoji is None or picture.emoji.group != 1:
            continue
        if (picture.concept in cast.held or cast.holdouts.holds(picture.concept)) is not held:
            continue
        if picture.renderer in _TONED_SETS:
            end = _TONED_SETS[picture.renderer]
            keys = [f"{picture.key}-{tone}{end}" for tone in TONES]
            known = icon_set(picture.renderer)["icons"]
        elif picture.renderer == "fluent-3d":
            head, *tail = picture.key.removesuffix(".webp").split("-")
            keys = [
                "-".join((head, code, *(part for part in tail if part != "fe0f"))) + ".webp" for code in _TONE_CODES
            ]
            known = {key for key in keys if webp_of(key).is_file()}
        else:
            continue
        if all(key in known for key in keys):
            tones = (Picture(picture.renderer, key, picture.name, picture.concept, picture.emoji) for key in keys)
            found.append((picture, tuple(tones)))
    return tuple(found)


def tones(number: int, held: bool) -> list[tuple[str, Row]]:
    """A hand or person to the same in another skin tone; its other tones are wrong."""
    rng = dice("task tone", held, number)
    plain, pictures = rng.choice(toned(held))
    right, *others = rng.sample(range(len(TONES)), 4)
    note, white = instruction("image", rng, held=held), rng.random() < 0.7
    ground = (255, 255, 255) if white else tuple(rng.randint(120, 255) for _ in range(3))
    # Mostly from yellow, sometimes from one tone to another.
    start = plain if rng.random() < 0.7 else pictures[others[0]]
    paths = [
        save_picture(_on(ground, sprite_of(picture, SIDE_PX)), "tones", held, number, name)
        for name, picture in enumerate((start, pictures[right], *(pictures[other] for other in others[1:])))
    ]
    words = wording(TONE_WORDS, rng, held=held).format(tone=TONES[right])
    query = asked(paths[0], words, instruction("composed", rng, held=held))
    label = f"{plain.concept} {TONES[right]}"
    return [("composed", row(query, image(paths[1], note), label, *(image(path, note) for path in paths[2:])))]


def changes(number: int, held: bool) -> list[tuple[str, Row]]:
    """A thing to the same on another ground, in another style, or edited."""
    rng = dice("task change", held, number)
    kind = ("ground", "style", "edit", "ground", "edit")[number % 5]
    thing = pick(held, 1, rng)[0]
    while kind == "style" and thing.concept not in _by_concept():
        thing = pick(held, 1, rng)[0]
    look = look_of(thing, rng)
    sprite = square_sprite(thing, look)
    colours = rng.sample([word for word in COLOURS if word != "black"], 3)
    grounds = [COLOURS[word] for word in colours]
    if kind == "ground":
        words = wording(GROUND_WORDS, rng, held=held).format(colour=colours[1])
        pictures = [_on(ground, sprite) for ground in grounds]
        label = f"{thing.name} on {colours[1]}"
    elif kind == "style":
        styles = _by_concept()[thing.concept]
        style, *others = rng.sample(list(STYLE_WORDS), len(STYLE_WORDS))
        words = wording(STYLE_WORDS[style], rng, held=held)
        pictures = [_on(grounds[0], sprite_of(styles[name], SIDE_PX)) for name in (others[0], style, others[1])]
        label = f"{thing.name} {style}"
    else:
        edit, other = rng.sample(list(EDIT_WORDS), 2)
        words = wording(EDIT_WORDS[edit], rng, held=held)
        pictures = [_on(grounds[0], sprite), _edited(edit, sprite, grounds[0]), _edited(other, sprite, grounds[0])]
        label = f"{thing.name} {edit}"
    paths = [save_picture(picture, "changes", held, number, name) for name, picture in enumerate(pictures)]
    note = instruction("image", rng, held=held)
    query = asked(paths[0], words, instruction("composed", rng, held=held))
    # The picture itself is a wrong answer too: what is asked for is the change.
    wrong_paths = [*paths[2:], paths[0]]
    return [("composed", row(query, image(paths[1], note), label, *(image(path, note) for path in wrong_paths)))]


@cache
def _by_concept() -> Mapping[str, Mapping[str, Picture]]:
    """Concepts that were drawn in all styles."""
    found: dict[str, dict[str, Picture]] = {}
    for picture in read_cast().pictures:
        if picture.renderer in STYLE_WORDS:
            found.setdefault(picture.concept, {}).setdefault(picture.renderer, picture)
    return {concept: styles for concept, styles in found.items() if len(styles) == len(STYLE_WORDS)}


def _edited(edit: str, sprite: Image.Image, ground: tuple[int, int, int]) -> Image.Image:
    if edit == "upside down":
        return _on(ground, sprite.transpose(Image.Transpose.ROTATE_180))
    if edit == "small":
        return _on(ground, sprite, share=0.3)
    if edit == "grey":
        return _on(ground, sprite).convert("L").convert("RGB")
    sheet = Image.new("RGB", (SIDE_PX, SIDE_PX), ground)
    half = sprite.resize((74, 74), Image.Resampling.BILINEAR)
    for left in (4, 82):
        sheet.paste(half, (left, 43), half)
    return sheet


def _on(ground: tuple[int, ...], sprite: Image.Image, share: float = 0.86) -> Image.Image:
    """The sprite in the middle of a sheet of one colour."""
    sheet = Image.new("RGB", (SIDE_PX, SIDE_PX), (ground[0], ground[1], ground[2]))
    scale = share * SIDE_PX / max(sprite.size)
    small = sprite.resize((round(sprite.width * scale), round(sprite.height * scale)), Image.Resampling.BILINEAR)
    sheet.paste(small, ((SIDE_PX - small.width) // 2, (SIDE_PX - small.height) // 2), small)
    return sheet
