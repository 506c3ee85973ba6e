"""What must the model never be trained on? Held-out concepts, wordings, renderers, documents and the sample files.

Every choice is a hash of a name, taken before anything is rendered, so it is the same for every source and run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

HELD_SHARE = 12
"""Percent of concepts, and of slide titles, that are held out."""

UNREAD_SHARE = 4
"""Percent of concepts, all of them among the held-out ones, whose words are in no training text at all. The words of
the other held-out ones are: a model can only find what it never saw if it knows what it is called."""

HELD_RENDERER = "noto"

SAMPLE_OBJECTS = {
    "slice_of_pizza": "1f355",
    "sunflower": "1f33b",
    "butterfly": "1f98b",
    "dog_face": "1f436",
    "bicycle": "1f6b2",
    "guitar": "1f3b8",
    "umbrella": "2602-fe0f",
    "red_apple": "1f34e",
    "teddy_bear": "1f9f8",
    "octopus": "1f419",
    "red_balloon": "1f388",
    "strawberry": "1f353",
}
"""Samples under samples/objects -> hexcode of the 3-D rendering, which no training row shows."""

SAMPLE_SPRITES = {"dog": "1f415", "rocket": "1f680"}
"""3-D renderings that move in samples/clips; kept out of training too."""

SAMPLE_DRAWINGS = {
    "lighthouse": "lighthouse_matthew_gates_.svg",
    "violin": "violin_colour_ganson.svg",
    "turtle": "turtle_jurgen_gaeremyn_01.svg",
    "racing_car": "formula_one_car_gerald_g_01.svg",
    "birthday_cake": "birthday_cake.svg",
    "teapot": "teapot_ganson.svg",
    "house": "small_house_01.svg",
    "gramophone": "gramophone.svg",
    "bee": "bee.svg",
    "tulips": "tulips_ganson.svg",
}
"""Samples under samples/drawings -> file name; Open Clip Art repeats a file in several folders."""

SPARE_DRAWINGS = ("elephant_01.svg", "cactus_linda_kim_01.svg", "rooster_01.svg", "airplane.svg")
"""Kept out of training too, to take the place of a sample."""

DEMO_QUERIES = {
    "a slice of pizza": "objects/slice_of_pizza.webp",
    "a yellow sunflower": "objects/sunflower.webp",
    "a dog moves to the left": "clips/dog_left.mp4",
    "a red apple": "objects/red_apple.webp",
    "a bicycle": "objects/bicycle.webp",
    "an octopus": "objects/octopus.webp",
    "a guitar": "objects/guitar.webp",
    "a teapot": "drawings/teapot.png",
    "a rocket rises": "clips/rocket_rises.mp4",
}
"""The demo's questions, fixed before the fifth stage, and the sample that answers each; no training row says one."""

BENCHMARK_INSTRUCTIONS = frozenset((
    "Answer the question about the chart", "Answer the question about the picture", "Find a caption for this picture",
    "Find a picture of the same thing in another style", "Find a picture that fits this caption",
    "Find the document page that fits this query", "Find the part of the picture that shows this",
    "Find the picture that shows the given one with this change",
    "Find the shot of the given video in which this happens", "Find the video in which this happens",
    "Find the video in which things appear in this order",
    "Name the group of emoji that this one belongs to", "Recognize what happens to the thing that changes",
    "Represent the document page", "Represent the picture", "Represent this part of a picture",
    "Represent what happens in the video", "Say what kind of thing the emoji shows",
    "Watch the video and answer the question with one of the given options. Question",
    "What kind of chart is this?",
    "Which thing moves, turns, changes its size, appears or vanishes in the video?",
))  # fmt: skip
"""The instructions of mmeb-mini without their last stop or colon; a pattern that hits one is filled anew."""

_GENDER = re.compile(r"^(man|woman|men|women|person|people|male|female)('s)?( with| in)? ")


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


def is_held_wording(template: str) -> bool:
    """About a fifth of the caption templates are kept for evaluation."""
    return bucket(template) < 20


class Holdouts:
    """Which names are held out, over all sources together.

    Args:
        concepts: every canonical concept name of every source.
        things: those of them whose name inside a longer caption holds out the caption too. Names of people and
            of buttons are left out: `man` or `add` would take half of all captions along.
        synonyms: other words for a concept (WordNet), held with it.
        share: percent of the concepts.
    """

    def __init__(
        self,
        concepts: Iterable[str],
        things: Iterable[str],
        synonyms: Mapping[str, Sequence[str]],
        share: int = HELD_SHARE,
    ) -> None:
        self.share = share
        names = {name for name in concepts if bucket(root(name)) < share}
        self.names = {squash(name) for name in names} | {squash(root(name)) for name in names}
        self.things = {squash(thing) for thing in things} & self.names
        self.synonyms = {squash(word) for name in names for word in synonyms.get(name, ())}

    def hold(self, names: Iterable[str]) -> None:
        """Hold out these names too."""
        self.names |= {squash(name) for name in names}

    def holds(self, name: str) -> bool:
        """The name is a held concept, a variant or a synonym of one, or falls into the held share itself."""
        keys = {squash(name), squash(root(name))}
        return bool(keys & (self.names | self.synonyms)) or bucket(root(name)) < self.share or self.mentions(name)

    def mentions(self, caption: str) -> bool:
        """One to four neighbouring words of the caption are a held thing."""
        words = [squash(word) for word in caption.split()]
        runs = ("".join(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1))
        return any(run in self.things or run.removesuffix("s") in self.things for run in runs)
