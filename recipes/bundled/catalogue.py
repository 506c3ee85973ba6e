"""Which pictures are there, and what does each show? Icon sets and 3-D emoji, joined to one name per concept."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fetch import UNPACKED
from holdouts import HELD_RENDERER, SAMPLE_OBJECTS, SAMPLE_SPRITES, squash

ICONIFY = UNPACKED / "iconify" / "package" / "json"
EMOJIBASE = UNPACKED / "emojibase" / "package" / "en"
FLUENT_3D = UNPACKED / "fluent-3d" / "package" / "assets"

EMOJI_SETS = (
    "fluent-emoji", "fluent-emoji-flat", "twemoji", "emojione", "fxemoji", "fluent-emoji-high-contrast",
)  # fmt: skip
OTHER_SETS = (
    "icon-park", "marketeq", "fluent-color", "flat-color-icons", "meteocons", "streamline-emojis",
    "streamline-kameleon-color",
)  # fmt: skip
THING_SETS = ("streamline-ultimate-color", "glyphs-poly", "game-icons", "ph", "mdi")
"""Icon sets for training: MIT or Apache-2.0, but twemoji, emojione, game-icons and Streamline's, which are CC-BY (see
NOTICE). Of the last five, most of which is signs for actions, only icons that are called by a noun for a thing."""

_SKIPPED_SUBGROUPS = {97, 98, 99}  # flags
_TONE = re.compile(r"skin-tone|-(light|medium-light|medium|medium-dark|dark)$")
_MARKS = re.compile(r"-(\d+|one|two|three|four|five|six|alt|fill|variant)$")
_LINES = re.compile(r"-(outline|thin|light|bold|duotone|duo|off|slash)$")
"""Marks of variants that are drawn in another weight, or struck out: one drawing of each icon is enough."""
_UNWANTED = {
    "google", "facebook", "twitter", "android", "apple-logo", "iphone", "ipad", "linkedin", "reddit", "vk", "youtube",
    "amazon", "github", "gitlab", "microsoft", "windows", "linux", "instagram", "tiktok", "wechat", "alipay",
    "paypal", "bitcoin", "ethereum", "bluetooth", "figma", "adobe", "slack", "skype", "steam", "xbox", "playstation",
    "spotify", "telegram", "whatsapp", "icq", "myspace", "stumbleupon", "biotech", "biomass", "copyleft"
}  # fmt: skip
"""Names of firms and products, and a few icons that show nothing of what they are called."""


@dataclass(frozen=True, slots=True)
class Emoji:
    """What emojibase says of one emoji: its English label, keywords, and subgroup (34 is mammals)."""

    label: str
    hexcode: str
    tags: tuple[str, ...]
    group: int
    subgroup: int


@dataclass(frozen=True, slots=True)
class Picture:
    """One drawing of a concept by one renderer.

    Args:
        renderer: the icon set, or `fluent-3d`.
        key: the icon's name in its set, or the file name of the 3-D rendering.
        name: what the renderer calls it, in words.
        concept: the name shared by all renderers of it.
    """

    renderer: str
    key: str
    name: str
    concept: str
    emoji: Emoji | None


@cache
def icon_set(prefix: str) -> dict[str, Any]:
    """One set of the Iconify collection, as its JSON has it."""
    data: dict[str, Any] = json.loads((ICONIFY / f"{prefix}.json").read_text(encoding="utf-8"))
    return data


@cache
def read_emoji() -> dict[str, Emoji]:
    """Every emoji that is neither a flag nor a component, by lower-case hexcode without variation selectors."""
    found = {}
    for entry in json.loads((EMOJIBASE / "data.json").read_text(encoding="utf-8")):
        if entry.get("group") in (None, 2) or entry["subgroup"] in _SKIPPED_SUBGROUPS:
            continue
        label = re.sub(r"^(\w+): (\w+( hair| beard)?)$", r"\1 with \2", entry["label"]).replace(": ", ", ")
        code = _plain(entry["hexcode"])
        found[code] = Emoji(label.lower(), code, tuple(entry.get("tags", ())), entry["group"], entry["subgroup"])
    return found


def read_pictures(
    words: Mapping[str, float], renderers: tuple[str, ...] | None = None, things: Container[str] = ()
) -> list[Picture]:
    """Every usable picture, sorted: no skin tones, flags or logos, no sample.

    Args:
        words: known words and how common each is, to part names written without spaces.
        renderers: these sets only; else all that training may use.
        things: nouns for what can be seen; of `THING_SETS` only icons of that name are taken.
    """
    names = _emoji_names()
    pictures = [
        picture
        for prefix in (renderers or (*EMOJI_SETS, *OTHER_SETS, *THING_SETS))
        for picture in _pictures_of_set(prefix, names, words)
        if prefix not in THING_SETS or picture.name in things
    ]
    if renderers is None:
        samples = {_plain(code) for code in (*SAMPLE_OBJECTS.values(), *SAMPLE_SPRITES.values())}
        for path in sorted(FLUENT_3D.glob("*.webp")):
            emoji = read_emoji().get(_plain(path.stem))
            if emoji and emoji.hexcode not in samples:
                pictures.append(Picture("fluent-3d", path.name, emoji.label, emoji.label, emoji))
    return sorted(pictures, key=lambda picture: (picture.renderer, picture.key))


def _pictures_of_set(prefix: str, names: dict[str, Emoji], words: Mapping[str, float]) -> list[Picture]:
    data = icon_set(prefix)
    is_emoji_set = prefix in EMOJI_SETS or prefix == HELD_RENDERER
    categories = data.get("categories", {})
    unwanted = {key for category in ("Brand", "Flags") for key in categories.get(category, ())}
    pictures, seen = [], set()
    for key in sorted(data["icons"]):
        if key in unwanted or key.startswith(("flag", "regional-indicator")) or _UNWANTED & set(key.split("-")):
            continue
        if is_emoji_set:
            if _TONE.search(key) and key not in ("chestnut-dark",):
                continue
            emoji = names.get(squash(key))
            name = emoji.label if emoji and "-" not in key else key.replace("-", " ")
            if emoji is None and "-" not in key and prefix == "fxemoji":
                name = part_words(key, words)
            if name:
                pictures.append(Picture(prefix, key, name, emoji.label if emoji else name, emoji))
            continue
        if _LINES.search(key):
            continue
        plain = _MARKS.sub("", _MARKS.sub("", key))
        # One of the sizes or numbered variants is enough.
        if plain not in seen and len(plain) > 2 and not plain.startswith("wind-beaufort"):
            seen.add(plain)
            name = plain.replace("-", " ")
            emoji = names.get(squash(name))
            pictures.append(Picture(prefix, key, name, emoji.label if emoji else name, emoji))
    return pictures


@cache
def _emoji_names() -> dict[str, Emoji]:
    """Squashed names and short codes -> the emoji meant. A label beats a set's name, which beats a short code."""
    emoji = read_emoji()
    names: dict[str, Emoji] = {}
    for entry in emoji.values():
        names.setdefault(squash(entry.label), entry)
    for prefix in ("fluent-emoji-flat", "twemoji", "noto"):
        data = icon_set(prefix)
        for code, key in data["chars"].items():
            if _plain(code) in emoji:
                names.setdefault(squash(key), emoji[_plain(code)])
    for prefix in ("twemoji", "emojione", "noto"):
        for alias, target in icon_set(prefix)["aliases"].items():
            if squash(target["parent"]) in names:
                names.setdefault(squash(alias), names[squash(target["parent"])])
    for book in ("cldr", "github", "joypixels", "emojibase"):
        codes = json.loads((EMOJIBASE / "shortcodes" / f"{book}.json").read_text(encoding="utf-8"))
        for code, short in codes.items():
            for name in [short] if isinstance(short, str) else short:
                if _plain(code) in emoji:
                    names.setdefault(squash(name), emoji[_plain(code)])
    return names


def part_words(text: str, words: Mapping[str, float]) -> str:
    """Put spaces into a name written without them, or "" where it is not made of known words."""
    best: list[tuple[float, str] | None] = [(0.0, "")] + [None] * len(text)
    for end in range(1, len(text) + 1):
        for start in range(max(0, end - 16), end):
            before, word = best[start], text[start:end]
            if before and (word in words or word.isdigit()):
                # A new word costs as much as a hundredfold rarer one, so few and long words win.
                cost = before[0] + 4.6 - words.get(word, 0.0)
                if best[end] is None or cost < best[end][0]:  # type: ignore[index]
                    best[end] = (cost, f"{before[1]} {word}".strip())
    return best[-1][1] if best[-1] else ""


def svg_of(prefix: str, key: str, ink: str = "black") -> str:
    """The icon as a whole SVG document; one of a single colour is drawn in `ink`."""
    data = icon_set(prefix)
    icon = data["icons"][key]
    width, height = (icon.get(side, data.get(side, 16)) for side in ("width", "height"))
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box}" width="{width}" height="{height}">{icon["body"].replace("currentColor", ink)}</svg>'
    )


def webp_of(key: str) -> Path:
    """The file of a 3-D rendering."""
    return FLUENT_3D / key


def _plain(hexcode: str) -> str:
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")
