"""Which concepts are held out, over all sources together? Asked by every script that draws, so that none differs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

from catalogue import EMOJI_SETS, OTHER_SETS, RENDERINGS, THING_SETS, Picture, read_emoji, read_pictures
from holdouts import HELD_RENDERER, Holdouts
from wordnet import Noun, read_nouns

CONCRETE = {5, 6, 8, 13, 17, 18, 19, 20}
"""WordNet topics whose nouns can be seen: animals, artifacts, bodies, food, objects, people, phenomena, plants."""

MOVING_GROUPS = {3, 4, 5, 6, 7}
"""Of emoji: animals, food, places, activities, objects."""


class Concepts(NamedTuple):
    """What the catalogues of pictures hold.

    Args:
        words: that a name may be made of, and the logarithm of how common each is.
        things: nouns for what can be seen.
        pictures: of all renderers that are trained; unseen: of the one that is not.
        held: names of the concepts of which no picture is trained.
        holdouts: says it of any name.
    """

    words: Mapping[str, float]
    things: frozenset[str]
    pictures: tuple[Picture, ...]
    unseen: tuple[Picture, ...]
    held: frozenset[str]
    holdouts: Holdouts


@cache
def read_concepts() -> Concepts:
    """Read the catalogues and draw the line through them."""
    nouns = read_nouns()
    words = known_words(nouns)
    things = frozenset(word for word, noun in nouns.items() if noun.topic in CONCRETE)
    pictures = _read_all((*EMOJI_SETS, *OTHER_SETS, RENDERINGS), words)
    pictures += [picture for picture in _read_all(THING_SETS, words) if picture.name in things]
    unseen = read_pictures(HELD_RENDERER, words)
    everything = (*pictures, *unseen)
    holdouts = Holdouts(
        concepts=[picture.concept for picture in everything],
        things={emoji.label for emoji in read_emoji().values() if emoji.group in MOVING_GROUPS},
        synonyms={word: noun.synonyms for word, noun in nouns.items()},
    )
    # A concept is held in every renderer if any renderer's name for it is.
    held = {p.concept for p in everything if holdouts.holds(p.concept) or holdouts.holds(p.name)}
    holdouts.hold(held)
    return Concepts(words, things, tuple(pictures), tuple(unseen), frozenset(held), holdouts)


def known_words(nouns: Mapping[str, Noun]) -> dict[str, float]:
    """Words that a name may be made of -> the logarithm of how common each is."""
    words = {word: math.log1p(n.count) for word, n in nouns.items() if n.count and len(word) > 2 and " " not in word}
    for emoji in read_emoji().values():
        for word in re.findall(r"[a-z]+", emoji.label):
            words[word] = max(words.get(word, 0.0), 3.0)
    return words


def _read_all(renderers: Iterable[str], words: Mapping[str, float]) -> list[Picture]:
    return [picture for renderer in renderers for picture in read_pictures(renderer, words)]
