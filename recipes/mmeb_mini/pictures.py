"""What do the tasks of single pictures ask? Classes of emoji, captions, other renderers, skin tones and drawings."""

from __future__ import annotations

import json
from collections.abc import Sequence

from captions import caption
from cast import UNSEEN, Thing, is_held, read_cast
from catalogue import EMOJIBASE, icon_set, svg_of
from concepts import CONCRETE, known_words
from drawings import read_drawings, read_svg
from draws import dice
from pack import Pack, Row, first, image_row, slug
from PIL import Image
from render import compose, sprite_of_svg
from wordnet import Noun, read_nouns

MEDIA = "pictures"
SIDE_PX = 160
NUM_CAPTIONED = 100
NUM_UNSEEN = 100
SEEK = "Find a picture that fits this caption:"
SHOWN = "<|image_1|> Represent the picture."
DESCRIBE = "<|image_1|> Find a caption for this picture."

_NO_SUBGROUPS = {32, 33, 97, 98, 99}
"""Skin tones and hair as components, and flags."""

_VAGUE_SUBGROUPS = {15, 31, 81, 82, 85, 86, 87, 88, 93, 94, 95}
"""Their names can be candidates, but nobody could say what belongs in them."""

_VAGUE_FOR_GROUP = {11, 12, 13, 14, 15, 58, 59}
"""Ghosts among smileys, clocks and suns among places: the group is a matter of opinion."""

_TONES = ("light", "medium-light", "medium", "medium-dark", "dark")

_NO_NOUNS = {"dizzy", "unlocked", "locked with key", "eyes", "person getting haircut", "man getting haircut"}
"""There is no `a dizzy in the picture`."""

_POOR_TITLES = {
    # Not what is to be seen, not English, nothing to be seen at this size, or no child's book.
    "danger électrique", "zielony kubek herbaty - green mug of tea", "bicicletta cycle", "splash", "splatter", "panel",
    "sexy lady", "mm gun", "fat man - interior of atomic bomb", "ports switch", "port hub", "switch hp", "female",
    "network could", "self portrait", "man", "stick man", "out of the box", "sleeping bear under stars | circle",
    "school country", "pavement", "unit blocks", "phone", "blue girl", "portrait of a woman", "my house",
    "soccer ballon", "hub", "pale server", "music theory tone semi-tone", "tile orange", "glossy paper", "question",
    "elephant symbol", "network cloud", "sandwich one", "flourish two horizontal", "canada flag umbrella",
    "half star rating", "one star rating", "two star rating", "magnolia white", "flourish three upper right corner",
    "flourish two vertical", "tacks sailing", "woman eyes", "xbox-controller", "monkey head", "school hallway",
    "full bloom", "clouds", "bejewelled crown with three risers", "led triangular blue", "brozo the clown",
}  # fmt: skip


def add_pictures(pack: Pack) -> None:
    """Add the tasks `emoji-subgroup`, `emoji-group`, and those of I-RET."""
    things = list(read_cast().values())
    _add_subgroups(pack, things)
    _add_groups(pack, things)
    _add_captions(pack, things)
    _add_renderers(pack, things)
    _add_tones(pack, things)
    _add_drawings(pack)


def _add_subgroups(pack: Pack, things: Sequence[Thing]) -> None:
    names = _messages("subgroups", _NO_SUBGROUPS)
    rows = []
    for thing in things:
        if thing.emoji.subgroup in _VAGUE_SUBGROUPS:
            continue
        renderer = dice("mini subgroup", thing.concept).choice(sorted(set(thing.pictures) - {UNSEEN}) or [UNSEEN])
        path = _draw(pack, thing, renderer)
        pool = first(names[thing.emoji.subgroup], names.values())
        ask = "<|image_1|> Say what kind of thing the emoji shows."
        rows.append(image_row(ask, picture=path, texts=pool, concepts=[thing.concept]))
    pack.rows("emoji-subgroup", rows)


def _add_groups(pack: Pack, things: Sequence[Thing]) -> None:
    names = _messages("groups", {2, 9})
    rows = []
    for thing in things:
        if thing.emoji.subgroup in _VAGUE_FOR_GROUP or UNSEEN not in thing.pictures:
            continue
        pool = first(names[thing.emoji.group], names.values())
        ask = "<|image_1|> Name the group of emoji that this one belongs to."
        rows.append(image_row(ask, picture=_draw(pack, thing, UNSEEN), texts=pool, concepts=[thing.concept]))
    pack.rows("emoji-group", rows)


def _add_captions(pack: Pack, things: Sequence[Thing]) -> None:
    """Captions and pictures of 100 things, asked for in both directions."""
    nouns = read_nouns()
    plain = [t for t in things if t.emoji.group != 8 and len(t.pictures) > 2 and t.concept not in _NO_NOUNS]
    chosen = sorted(dice("mini captions").sample(plain, NUM_CAPTIONED), key=lambda thing: thing.concept)
    paths, seeking, describing = [], [], []
    for thing in chosen:
        rng = dice("mini caption", thing.concept)
        renderer = rng.choice(sorted(set(thing.pictures) - {UNSEEN}))
        picture, ground = compose(thing.sprite(renderer, SIDE_PX), (SIDE_PX, SIDE_PX), rng)
        paths.append(pack.picture(MEDIA, f"captioned/{slug(thing.concept)}", picture))
        wordings = [_wording(thing, ground, number, nouns) for number in range(2)]
        seeking.append(wordings[0])
        describing.append(wordings[1])
    to_picture, to_caption = [], []
    for thing, path, seek, words in zip(chosen, paths, seeking, describing, strict=True):
        to_picture.append(
            image_row(SEEK, text=seek, target_instruction=SHOWN, pictures=first(path, paths), concepts=[thing.concept])
        )
        to_caption.append(image_row(DESCRIBE, picture=path, texts=first(words, describing), concepts=[thing.concept]))
    pack.rows("caption-to-image", to_picture)
    pack.rows("image-to-caption", to_caption)


def _wording(thing: Thing, ground: str, number: int, nouns: dict[str, Noun]) -> str:
    """A held-out wording with the name in it: keywords alone could fit another picture, the bare name is trained."""
    noun = nouns.get(thing.name)
    for attempt in range(100):
        words = caption(
            thing.name,
            dice("mini wording", thing.concept, number, attempt),
            tags=thing.emoji.tags,
            kind=noun.kind if noun and noun.topic in CONCRETE else "",
            ground=ground,
        )
        if thing.name in words.split(": ")[-1] and words != thing.name:
            return words
    raise ValueError(f"no held-out wording fits {thing.name}")


def _add_renderers(pack: Pack, things: Sequence[Thing]) -> None:
    """From a drawing by the renderer that is never trained to the 3-D picture of the same thing."""
    both = [thing for thing in things if {UNSEEN, "fluent-3d"} <= set(thing.pictures)]
    chosen = sorted(dice("mini renderers").sample(both, NUM_UNSEEN), key=lambda thing: thing.concept)
    paths = [_draw(pack, thing, "fluent-3d") for thing in chosen]
    ask = "<|image_1|> Find a picture of the same thing in another style."
    rows = []
    for thing, path in zip(chosen, paths, strict=True):
        query = _draw(pack, thing, UNSEEN)
        pool = first(path, paths)
        rows.append(image_row(ask, picture=query, target_instruction=SHOWN, pictures=pool, concepts=[thing.concept]))
    pack.rows("noto-to-3d", rows)


def _add_tones(pack: Pack, things: Sequence[Thing]) -> None:
    """From a hand or person in yellow to the same in a named skin tone, among all tones of all."""
    icons = icon_set(UNSEEN)["icons"]
    toned: list[tuple[Thing, dict[str, str]]] = []
    for thing in things:
        if thing.emoji.group == 1 and UNSEEN in thing.pictures:
            keys = {tone: f"{thing.pictures[UNSEEN].key}-{tone}-skin-tone" for tone in _TONES}
            if all(key in icons for key in keys.values()):
                toned.append((thing, keys))
    drawn = {}
    for thing, keys in toned:
        for tone, key in keys.items():
            sprite = sprite_of_svg(svg_of(UNSEEN, key), SIDE_PX)
            drawn[thing.concept, tone] = pack.picture(
                MEDIA, f"toned/{slug(thing.concept)}_{slug(tone)}", _white(sprite)
            )
    ask = "<|image_1|> Find the picture that shows the given one with this change:"
    rows = [
        image_row(
            ask,
            text=f"the same, with {tone} skin",
            picture=_draw(pack, thing, UNSEEN),
            target_instruction=SHOWN,
            pictures=first(drawn[thing.concept, tone], drawn.values()),
            concepts=[thing.concept],
        )
        for thing, _ in toned
        for tone in _TONES
    ]
    pack.rows("skin-tone", rows)


def _add_drawings(pack: Pack) -> None:
    """Titles of Open Clip Art to drawings, one drawing a title."""
    taken: dict[str, str] = {}
    for file, title, _ in read_drawings(known_words(read_nouns())):
        if not is_held(title) or title in taken or title in _POOR_TITLES:
            continue
        try:
            sprite = sprite_of_svg(read_svg(file), 4 * SIDE_PX)
        except ValueError:
            continue
        box = sprite.getchannel("A").getbbox()
        if box is None or min(box[2] - box[0], box[3] - box[1]) < 64:
            continue
        sprite = sprite.crop(box)
        sprite.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
        taken[title] = pack.picture(MEDIA, f"drawings/{slug(title)}", _white(sprite))
    paths = list(taken.values())
    rows: list[Row] = [
        image_row(
            SEEK,
            text=title.removesuffix(" b and w"),
            target_instruction=SHOWN,
            pictures=first(path, paths),
            concepts=[title],
        )
        for title, path in taken.items()
    ]
    pack.rows("title-to-drawing", rows)


def _draw(pack: Pack, thing: Thing, renderer: str) -> str:
    return pack.picture(MEDIA, f"{renderer}/{slug(thing.concept)}", _white(thing.sprite(renderer, SIDE_PX)))


def _white(sprite: Image.Image) -> Image.Image:
    sheet = Image.new("RGB", (SIDE_PX, SIDE_PX), (255, 255, 255))
    sheet.paste(sprite, ((SIDE_PX - sprite.width) // 2, (SIDE_PX - sprite.height) // 2), sprite)
    return sheet


def _messages(kind: str, without: set[int]) -> dict[int, str]:
    """English names of emojibase's groups or subgroups, by number."""
    entries = json.loads((EMOJIBASE / "messages.json").read_text(encoding="utf-8"))[kind]
    # Two subgroups have the number 46; what emojibase gives this number are sweets, the latter of them.
    return {entry["order"]: entry["message"] for entry in entries if entry["order"] not in without}
