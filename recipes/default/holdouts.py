"""Which names are never trained? A share of all concepts, one renderer, and the files that samples/ shows.

Every choice is a hash of a name, taken before anything is drawn, so it is the same for every source and run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import TypeAdapter

HELD_SHARE = 12
"""Percent of concepts, of slide titles and of manuals that are held out."""

HELD_RENDERER = "noto"

_GENDER = re.compile(r"^(man|woman|men|women|person|people|male|female)('s)?( with| in)? ")


@dataclass(frozen=True, slots=True)
class Samples:
    """What `recipes/samples/samples.yaml` lists.

    Args:
        objects, sprites: hexcodes of 3-D renderings, by what they show.
        drawings: file names in Open Clip Art, likewise. spare: more of them.
        pages: of manuals, counted from 0.
    """

    objects: Mapping[str, str]
    sprites: Mapping[str, str]
    drawings: Mapping[str, str]
    spare: Sequence[str]
    pages: Mapping[str, Sequence[int]]


_LISTED = Path(__file__).resolve().parents[1] / "samples" / "samples.yaml"
SAMPLES = TypeAdapter(Samples).validate_python(yaml.safe_load(_LISTED.read_text("utf-8")))


def bucket(text: str) -> int:
    """A number from 0 to 99 that depends on nothing but the text."""
    return int(hashlib.md5(text.encode()).hexdigest(), 16) % 100


def squash(text: str) -> str:
    """The letters and digits alone: `Hot-dog` and `hot dog` become one."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def root(name: str) -> str:
    """The name without what only varies it: gender, skin tone, facing direction."""
    name = re.sub(r"(: .*skin tone.*| facing right)$", "", name.lower())
    return _GENDER.sub("", name)


class Holdouts:
    """Which names are held out, over all sources together.

    Args:
        concepts: every canonical concept name of every source.
        things: those of them whose name inside a longer caption holds out the caption too. Names of people and
            of buttons are left out: `man` or `add` would take half of all captions along.
        synonyms: other words for a concept (WordNet), held with it.
    """

    def __init__(self, concepts: Iterable[str], things: Iterable[str], synonyms: Mapping[str, Sequence[str]]) -> None:
        names = {name for name in concepts if bucket(root(name)) < HELD_SHARE}
        self.names = {squash(name) for name in names} | {squash(root(name)) for name in names}
        self.things = {squash(thing) for thing in things} & self.names
        self.synonyms = {squash(word) for name in names for word in synonyms.get(name, ())}

    def hold(self, names: Iterable[str]) -> None:
        """Hold out these names too."""
        self.names |= {squash(name) for name in names}

    def holds(self, name: str) -> bool:
        """The name is a held concept, a variant or a synonym of one, or falls into the held share itself."""
        keys = {squash(name), squash(root(name))}
        return bool(keys & (self.names | self.synonyms)) or bucket(root(name)) < HELD_SHARE or self.mentions(name)

    def mentions(self, caption: str) -> bool:
        """One to four neighbouring words of the caption are a held thing."""
        words = [squash(word) for word in caption.split()]
        runs = ("".join(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1))
        return any(run in self.things or run.removesuffix("s") in self.things for run in runs)
