"""How is a picture put into words? Templates, and the rule that chooses among them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from draws import WORDS
from holdouts import bucket
from wordnet import with_article

HELD_SHARE = 20
"""Percent of the templates that `tiny` was not trained with. The benchmark uses no other."""


def caption(name: str, rng: random.Random, *, tags: Sequence[str], kind: str, ground: str) -> str:
    """One wording for a picture, drawn among the held-out templates whose blanks can be filled, and the bare name.

    Args:
        tags: keywords. kind: of what kind it is, or "". ground: the colour word of the background, or "".
    """
    tags = [tag for tag in tags if tag.lower() != name and len(tag) > 1]
    known = {"name": name, "a_name": with_article(name)}
    if len(tags) >= 2:
        known["tag"], known["tag2"] = rng.sample(tags, 2)
    if kind:
        known |= {"kind": kind, "a_kind": with_article(kind)}
    if ground:
        known["ground"] = ground
    blanks = {f"{{{blank}}}" for blank in ("tag", "tag2", "kind", "a_kind", "colour", "ground") if blank not in known}
    for _ in range(100):
        template = "{name}" if rng.random() < 0.15 else rng.choice(WORDS["captions"])
        is_open = template == "{name}" or bucket(template) < HELD_SHARE
        if is_open and not any(blank in template for blank in blanks):
            return template.format(**known).replace("a orange", "an orange")
    return name
