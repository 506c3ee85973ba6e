"""Which of the units that have something of a question are its matches, and what is shown of each?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set

from vlm2vec.search.store import Field, Match, Unit, Words
from vlm2vec.search.stores.candidates import Candidates
from vlm2vec.search.stores.snippets import Shown, shown_in

_NOTHING = Shown(frozenset(), "", 0)


def best_matches(
    candidates: Candidates,
    units: Mapping[int, Unit],
    limit: int,
    terms: Sequence[str],
    words_of: Callable[[Set[int]], Mapping[int, Words]],
) -> list[Match]:
    """The `limit` best in the order of `Store.matching`.

    Args:
        units: all candidates by their numbers.
        terms: that are shown, as `terms_of` gives them; empty: nothing but names is shown.
        words_of: reads the words of units, which are few: of what the name alone has brought, none are read.

    Raises:
        ValueError: a unit that has the terms has no words.
    """
    ranked = sorted(
        zip(candidates.units.tolist(), candidates.num_found.tolist(), candidates.scores.tolist(), strict=True),
        key=lambda one: (-one[1], -one[2], *units[one[0]].order),
    )[:limit]
    by_name = set(candidates.units[candidates.named >= 0].tolist())
    shown: Mapping[int, Shown] = {}
    worded = {number for number, _, _ in ranked} & set(candidates.units[candidates.in_words].tolist())
    if terms and worded:
        words = words_of(worded)
        if len(words) < len(worded):
            raise ValueError("some of its words are missing")
        shown = shown_in(words, terms)
    matches = []
    for number, num_found, score in ranked:
        fields, snippet, num_as_typed = shown.get(number, _NOTHING)
        named: set[Field] = {"name"} if number in by_name else set()
        matches.append(Match(units[number], score, num_found, fields | named, snippet, num_as_typed))
    return matches
