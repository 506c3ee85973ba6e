"""How is a concept, a picture or a motion put into words? Templates and the rule that chooses between them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from holdouts import is_held_wording

CAPTIONS = (
    "{name}",
    "{a_name}",
    "the {name}",
    "a picture of {a_name}",
    "an image of {a_name}",
    "a drawing of {a_name}",
    "an illustration of {a_name}",
    "an icon of {a_name}",
    "an emoji of {a_name}",
    "a photo of {a_name}",
    "a small {name}",
    "a large {name}",
    "here is {a_name}",
    "there is {a_name} in the picture",
    "one {name}",
    "{name}, {tag}",
    "{name}: {tag}, {tag2}",
    "{tag}, {tag2}, {name}",
    "{a_name}, {tag}",
    "{tag} and {tag2}: {name}",
    "{a_name} ({tag})",
    "{tag}, {tag2}",
    "{a_name}, a kind of {kind}",
    "{a_kind}: {name}",
    "{name}, which is {a_kind}",
    "a picture of {a_kind}, {name}",
    "a {colour} {name}",
    "{colour} {name}",
    "a picture of a {colour} {name}",
    "an icon of {a_name} in {colour}",
    "a mostly {colour} picture of {a_name}",
    "{a_name} on a {ground} background",
    "an icon of {a_name} on a {ground} background",
    "{name} on {ground}",
    "a {colour} {name} on a {ground} background",
    "{name} in front of something {ground}",
)

MOTIONS = {
    "left": (
        "{subject} moves to the left",
        "{subject} moves left",
        "{subject} goes left",
        "{subject} goes to the left",
        "{subject} slides to the left",
        "{subject} moves from right to left",
        "{subject} travels leftwards",
        "{subject} is moving left",
        "{subject} passes from the right to the left",
        "{subject} leaves towards the left",
    ),
    "right": (
        "{subject} moves to the right",
        "{subject} moves right",
        "{subject} goes right",
        "{subject} goes to the right",
        "{subject} slides to the right",
        "{subject} moves from left to right",
        "{subject} travels rightwards",
        "{subject} is moving right",
        "{subject} passes from the left to the right",
        "{subject} leaves towards the right",
    ),
    "up": (
        "{subject} rises",
        "{subject} moves up",
        "{subject} goes up",
        "{subject} is rising",
        "{subject} moves upwards",
        "{subject} climbs to the top",
        "{subject} flies up",
        "{subject} moves from the bottom to the top",
    ),
    "down": (
        "{subject} falls",
        "{subject} moves down",
        "{subject} goes down",
        "{subject} is falling",
        "{subject} moves downwards",
        "{subject} drops to the bottom",
        "{subject} sinks down",
        "{subject} moves from the top to the bottom",
    ),
    "grows": (
        "{subject} grows",
        "{subject} gets bigger",
        "{subject} becomes larger",
        "{subject} is growing",
        "{subject} comes closer",
        "{subject} gets larger",
    ),
    "shrinks": (
        "{subject} shrinks",
        "{subject} gets smaller",
        "{subject} becomes smaller",
        "{subject} is shrinking",
        "{subject} moves away",
        "{subject} gets tiny",
    ),
    "clockwise": (
        "{subject} turns clockwise",
        "{subject} rotates clockwise",
        "{subject} spins clockwise",
        "{subject} is turning clockwise",
        "{subject} turns to the right around itself",
    ),
    "counter-clockwise": (
        "{subject} turns counter-clockwise",
        "{subject} rotates counter-clockwise",
        "{subject} spins counter-clockwise",
        "{subject} is turning counter-clockwise",
        "{subject} turns to the left around itself",
    ),
    "appears": (
        "{subject} appears",
        "{subject} fades in",
        "{subject} shows up",
        "{subject} comes into view",
        "{subject} becomes visible",
    ),
    "vanishes": (
        "{subject} vanishes",
        "{subject} disappears",
        "{subject} fades out",
        "{subject} fades away",
        "{subject} becomes invisible",
    ),
}

OPPOSITES = (
    ("left", "right"),
    ("up", "down"),
    ("grows", "shrinks"),
    ("clockwise", "counter-clockwise"),
    ("appears", "vanishes"),
)


def caption(
    name: str, rng: random.Random, *, held: bool, tags: Sequence[str], kind: str, colour: str, ground: str
) -> str:
    """One wording for a picture, drawn among the templates whose blanks can be filled.

    A held row draws among the held wordings, a training row among the others; the bare name is open to both.
    """
    tags = [tag for tag in tags if tag.lower() != name and len(tag) > 1]
    known = {"name": name, "a_name": with_article(name)}
    if len(tags) >= 2:
        known["tag"], known["tag2"] = rng.sample(tags, 2)
    if kind:
        known |= {"kind": kind, "a_kind": with_article(kind)}
    if colour:
        known["colour"] = colour
    if ground:
        known["ground"] = ground
    for _ in range(100):
        template = "{name}" if rng.random() < 0.15 else rng.choice(CAPTIONS)
        if template != "{name}" and is_held_wording(template) is not held:
            continue
        if any(
            f"{{{blank}}}" in template for blank in {"tag", "tag2", "kind", "a_kind", "colour", "ground"} - set(known)
        ):
            continue
        return _mend(template.format(**known))
    return name


def sentence(name: str, motion: str, rng: random.Random, *, held: bool) -> str:
    """One wording for "`name` does `motion`"; held rows draw among the held wordings where there are any."""
    wordings = [words for words in MOTIONS[motion] if is_held_wording(words) is held] or list(MOTIONS[motion])
    subject = rng.choice(("the {}", "the {}", with_article("{}", like=name), "{}")).format(name)
    return rng.choice(wordings).format(subject=subject)


def with_article(name: str, like: str = "") -> str:
    """`a dog`, `an owl`, but `scissors`: a rule of thumb, wrong for some mass nouns."""
    model = like or name
    last = model.split()[-1] if model.split() else model
    if last.endswith("s") and not last.endswith(("ss", "us", "is")):
        return name
    return f"{'an' if model[:1] in 'aeiou' else 'a'} {name}"


def _mend(words: str) -> str:
    return words.replace("a orange", "an orange")
