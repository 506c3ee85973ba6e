"""How is a concept, a picture or a motion put into words? Templates and the rule that chooses between them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from holdouts import is_held_wording
from wordings import read_words

_WORDS = read_words("captions")
CAPTIONS, MOTIONS = _WORDS["captions"], _WORDS["motions"]

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
