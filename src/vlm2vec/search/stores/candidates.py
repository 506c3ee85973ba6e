"""Which units have most of what is wanted, when it is known where each word and phrase stands?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from vlm2vec.search.stores.spelling import is_word, spelled

SHORTEST_PART = 4
"""Letters of the shortest part by which a name is found: one of three, such as "art", is in too many names."""


class TermFinds(NamedTuple):
    """Where a term stands.

    Args:
        units, scores: numbers of units in whose words it stands, in order, and its BM25 in each.
        firsts, ends, name_scores: of files in whose names it stands, in order: their first unit, the one after their
            last, and its BM25.
    """

    units: NDArray[np.int64]
    scores: NDArray[np.float64]
    firsts: NDArray[np.int64]
    ends: NDArray[np.int64]
    name_scores: NDArray[np.float64]

    def named(self) -> NDArray[np.int64]:
        """The units of all files in whose names it stands."""
        lengths = self.ends - self.firsts
        # How far the units of each file are above their places in the result.
        above: NDArray[np.int64] = np.repeat(self.firsts - (np.cumsum(lengths) - lengths), lengths)
        return above + np.arange(len(above))

    def in_names(self) -> TermFinds:
        """Without those in the words of units."""
        return self._replace(units=self.units[:0], scores=self.scores[:0])

    def files_of(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each unit the place of its file among those in whose names the term stands; -1 if it is none of them."""
        if not len(self.firsts):
            return np.full(len(units), -1)
        places = np.searchsorted(self.firsts, units, "right") - 1
        return np.where(units < self.ends[places], places, -1)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Units that have something of what is wanted, in the order of their numbers.

    Args:
        units: their numbers.
        num_found: how many terms each has.
        scores: BM25, summed over the terms.
        in_words: whether a term stands in the words of the unit.
        named: the first unit of its file where a term stands in the name, else -1.
    """

    units: NDArray[np.int64]
    num_found: NDArray[np.int64]
    scores: NDArray[np.float64]
    in_words: NDArray[np.bool_]
    named: NDArray[np.int64]

    @classmethod
    def none(cls) -> Self:
        numbers = np.empty(0, np.int64)
        return cls(numbers, numbers, np.empty(0), np.empty(0, bool), numbers)

    @classmethod
    def of(cls, finds: Sequence[TermFinds], without: Sequence[TermFinds]) -> Self:
        """Those that have one of the terms of `finds`, and none of `without`."""
        arrays = [array for found in finds for array in (found.units, found.named())]
        units = np.unique(np.concatenate(arrays)) if arrays else np.empty(0, np.int64)
        num_found, scores = np.zeros(len(units), np.int64), np.zeros(len(units))
        in_words, named = np.zeros(len(units), bool), np.full(len(units), -1)
        for found in finds:
            here = np.zeros(len(units), bool)
            at = np.searchsorted(units, found.units)
            here[at] = in_words[at] = True
            scores[at] += found.scores
            files = found.files_of(units)
            (by_name,) = np.nonzero(files >= 0)
            here[by_name] = True
            scores[by_name] += found.name_scores[files[by_name]]
            named[by_name] = found.firsts[files[by_name]]
            num_found += here
        chosen = np.ones(len(units), bool)
        for found in without:
            chosen &= ~(np.isin(units, found.units) | (found.files_of(units) >= 0))
        return cls(units, num_found, scores, in_words, named).where(chosen)

    def where(self, chosen: NDArray[np.bool_]) -> Self:
        """Those that are chosen."""
        return type(self)(
            self.units[chosen],
            self.num_found[chosen],
            self.scores[chosen],
            self.in_words[chosen],
            self.named[chosen],
        )

    def one_a_name(self) -> Self:
        """Of units that only the name of their file has brought, the first of each file, and all others."""
        chosen = self.in_words.copy()
        (by_name,) = np.nonzero(~self.in_words)
        _, firsts = np.unique(self.named[by_name], return_index=True)
        chosen[by_name[firsts]] = True
        return self.where(chosen)

    def best(self, limit: int, ranks: NDArray[np.int64] | None = None) -> Self:
        """Those of which most was found, then those of the largest score, then those of the lowest rank.

        Of `limit` and more, all that are as good as the last one are among them.
        """
        if limit < 1 or len(self.units) <= limit:
            return self if limit > 0 else self.none()
        keys = [-self.num_found, -self.scores, np.zeros(len(self.units), np.int64) if ranks is None else ranks]
        last = np.lexsort(keys[::-1])[limit - 1]
        chosen = np.ones(len(self.units), bool)
        for key in keys[::-1]:
            chosen = (key < key[last]) | ((key == key[last]) & chosen)
        return self.where(chosen)


def terms_of(texts: Iterable[str]) -> list[str]:
    """Those in which there is something to find, as the indexes spell them, each once."""
    return list(dict.fromkeys(spelled(text).casefold() for text in texts if is_word(text)))
