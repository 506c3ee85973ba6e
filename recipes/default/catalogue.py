"""Which pictures are there, and what does each show? Icon sets and 3-D emoji, joined to one name per concept."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from fetch import UNPACKED
from holdouts import HELD_RENDERER, SAMPLES, squash

ICONIFY = UNPACKED / "iconify" / "package" / "json"
EMOJIBASE = UNPACKED / "emojibase" / "package" / "en"
FLUENT_3D = UNPACKED / "fluent-3d" / "package" / "assets"

RENDERINGS = "fluent-3d"
"""The renderer that is no icon set: a file for each emoji."""

EMOJI_SETS = (*("fluent-emoji", "fluent-emoji-flat", "twemoji", "emojione", "fxemoji", "fluent-emoji-high-contrast"),)
OTHER_SETS = (
    *("icon-park", "marketeq", "fluent-color", "flat-color-icons", "meteocons", "streamline-emojis"),
    *("streamline-kameleon-color",),
)
THING_SETS = ("streamline-ultimate-color", "glyphs-poly", "game-icons", "ph", "mdi")
"""Icon sets for training: MIT or Apache-2.0, but twemoji, emojione, game-icons and Streamline's, which are CC-BY (see
NOTICE). Of the last five, most of which is signs for actions, only icons that are called by a noun for a thing."""

_FLAGS = {97, 98, 99}
_TONE = re.compile(r"skin-tone|-(light|medium-light|medium|medium-dark|dark)$")
_MARKS = re.compile(r"-(\d+|one|two|three|four|five|six|alt|fill|variant)$")
_LINES = re.compile(r"-(outline|thin|light|bold|duotone|duo|off|slash)$")
"""Marks of variants that are drawn in another weight, or struck out: one drawing of each icon is enough."""
_UNWANTED = frozenset((
    "google", "facebook", "twitter", "android", "apple-logo", "iphone", "ipad", "linkedin", "reddit", "vk", "youtube",
    "amazon", "github", "gitlab", "microsoft", "windows", "linux", "instagram", "tiktok", "wechat", "alipay",
    "paypal", "bitcoin", "ethereum", "bluetooth", "figma", "adobe", "slack", "skype", "steam", "xbox", "playstation",
    "spotify", "telegram", "whatsapp", "icq", "myspace", "stumbleupon", "biotech", "biomass", "copyleft",
))  # fmt: skip
"""Names of firms and products, and a few icons that show nothing of what they are called."""


@dataclass(frozen=True, slots=True)
class Emoji:
    """What emojibase says of one emoji: its English label, keywords, group and subgroup (34 is mammals)."""

    label: str
    hexcode: str
    tags: tuple[str, ...]
    group: int
    subgroup: int


@dataclass(frozen=True, slots=True)
class Picture:
    """One drawing of a concept by one renderer.

    Args:
        renderer: the icon set, or `RENDERINGS`.
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
    data: dict[str, Any] = json.loads((ICONIFY / f"{prefix}.json").read_text("utf-8"))
    return data


@cache
def read_emoji() -> dict[str, Emoji]:
    """Every emoji that is neither a flag nor a component, by lower-case hexcode without variation selectors."""
    found = {}
    for entry in json.loads((EMOJIBASE / "data.json").read_text("utf-8")):
        if entry.get("group") not in (None, 2) and entry["subgroup"] not in _FLAGS:
            label = re.sub(r"^(\w+): (\w+( hair| beard)?)$", r"\1 with \2", entry["label"]).replace(": ", ", ")
            code = _plain(entry["hexcode"])
            found[code] = Emoji(label.lower(), code, tuple(entry.get("tags", ())), entry["group"], entry["subgroup"])
    return found


def read_pictures(renderer: str, words: Mapping[str, float]) -> list[Picture]:
    """Every usable picture of a renderer, by key: no skin tones, flags or logos, no sample.

    Args:
        words: known words and how common each is, to part names written without spaces.
    """
    if renderer == RENDERINGS:
        samples = {_plain(code) for code in (*SAMPLES.objects.values(), *SAMPLES.sprites.values())}
        files = [(path.name, read_emoji().get(_plain(path.stem))) for path in sorted(FLUENT_3D.glob("*.webp"))]
        return [
            Picture(renderer, name, emoji.label, emoji.label, emoji)
            for name, emoji in files
            if emoji and emoji.hexcode not in samples
        ]
    data = icon_set(renderer)
    unwanted = {key for category in ("Brand", "Flags") for key in data.get("categories", {}).get(category, ())}
    keys = [
        key
        for key in sorted(data["icons"])
        if key not in unwanted
        and not key.startswith(("flag", "regional-indicator"))
        and not _UNWANTED & set(key.split("-"))
    ]
    is_emoji_set = renderer in EMOJI_SETS or renderer == HELD_RENDERER
    return _emoji_pictures(renderer, keys, words) if is_emoji_set else _icon_pictures(renderer, keys)


def _emoji_pictures(renderer: str, keys: list[str], words: Mapping[str, float]) -> list[Picture]:
    pictures = []
    for key in keys:
        if _TONE.search(key) and key != "chestnut-dark":
            continue
        emoji = _emoji_names().get(squash(key))
        name = emoji.label if emoji and "-" not in key else key.replace("-", " ")
        if emoji is None and "-" not in key and renderer == "fxemoji":
            name = part_words(key, words)
        if name:
            pictures.append(Picture(renderer, key, name, emoji.label if emoji else name, emoji))
    return pictures


def _icon_pictures(renderer: str, keys: list[str]) -> list[Picture]:
    """One of the sizes or numbered variants of each icon."""
    first: dict[str, str] = {}
    for key in keys:
        plain = _MARKS.sub("", _MARKS.sub("", key))
        if not _LINES.search(key) and len(plain) > 2 and not plain.startswith("wind-beaufort"):
            first.setdefault(plain, key)
    named = [(key, plain.replace("-", " "), _emoji_names().get(squash(plain))) for plain, key in first.items()]
    return [Picture(renderer, key, name, emoji.label if emoji else name, emoji) for key, name, emoji in named]


@cache
def _emoji_names() -> dict[str, Emoji]:
    """Squashed names and short codes -> the emoji meant. A label beats a set's name, which beats a short code."""
    emoji = read_emoji()
    names: dict[str, Emoji] = {}
    for entry in emoji.values():
        names.setdefault(squash(entry.label), entry)
    for prefix in ("fluent-emoji-flat", "twemoji", HELD_RENDERER):
        for code, key in icon_set(prefix)["chars"].items():
            if _plain(code) in emoji:
                names.setdefault(squash(key), emoji[_plain(code)])
    for prefix in ("twemoji", "emojione", HELD_RENDERER):
        for alias, target in icon_set(prefix)["aliases"].items():
            if squash(target["parent"]) in names:
                names.setdefault(squash(alias), names[squash(target["parent"])])
    for book in ("cldr", "github", "joypixels", "emojibase"):
        codes = json.loads((EMOJIBASE / "shortcodes" / f"{book}.json").read_text("utf-8"))
        for code, short in codes.items():
            for name in [short] if isinstance(short, str) else short:
                if _plain(code) in emoji:
                    names.setdefault(squash(name), emoji[_plain(code)])
    return names


def part_words(text: str, words: Mapping[str, float]) -> str:
    """Put spaces into a name written without them, or "" where it is not made of known words."""
    best = {0: (0.0, "")}
    for end in range(1, len(text) + 1):
        ways = [
            # A new word costs as much as a hundredfold rarer one, so few and long words win.
            (best[start][0] + 4.6 - words.get(text[start:end], 0.0), f"{best[start][1]} {text[start:end]}".strip())
            for start in range(max(0, end - 16), end)
            if start in best and (text[start:end] in words or text[start:end].isdigit())
        ]
        if ways:
            best[end] = min(ways, key=lambda way: way[0])
    return best.get(len(text), (0.0, ""))[1]


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


def _plain(hexcode: str) -> str:
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")
