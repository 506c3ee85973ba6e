"""Which questions come with answers to choose from? Some, in the form of MMEB-V2's questions on videos."""

from __future__ import annotations

import random
from collections.abc import Sequence

OPTIONS_SHARE = 0.4
"""Share of the training questions on clips whose answers are offered."""


def offer(question: str, answers: Sequence[str], rng: random.Random) -> tuple[str, Sequence[str]]:
    """The question and its answers, as they are or, at times, with the answers offered in any order.

    The answers come back in the order given; half of those that are offered have their letters, as some of the
    benchmark's data sets do, whose candidates are "(A) ...".
    """
    if rng.random() >= OPTIONS_SHARE:
        return question, answers
    order = rng.sample(range(len(answers)), len(answers))
    options = {place: f"({letter}) {answers[place]}" for letter, place in zip("ABCDE", order, strict=False)}
    asked = "\n".join((question, "Options:", *options.values()))
    return asked, [options[place] for place in range(len(answers))] if rng.random() < 0.5 else answers
