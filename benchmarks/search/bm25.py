"""Which documents have the words of a question? BM25 (Robertson and Walker, 1994) in a few lines, as a yardstick."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence


def words_of(text: str) -> list[str]:
    """Lower-case words and numbers."""
    return re.findall(r"[^\W_]+", text.lower())


class BM25:
    """An index of documents in memory, each a list of words.

    Args:
        k1, b: how much repeats of a word count, and how much long documents lose by their length.
    """

    def __init__(self, documents: Sequence[Sequence[str]], k1: float = 1.2, b: float = 0.75) -> None:
        self._postings: dict[str, dict[int, float]] = defaultdict(dict)
        mean_length = sum(map(len, documents)) / len(documents)
        for number, words in enumerate(documents):
            lower = k1 * (1 - b + b * len(words) / mean_length)
            for word, count in Counter(words).items():
                self._postings[word][number] = count * (k1 + 1) / (count + lower)
        self._num_documents = len(documents)

    def search(self, words: Sequence[str], k: int) -> list[int]:
        """Numbers of the best documents, best first; equal ones in their order. Those without any word are left out."""
        scores: dict[int, float] = defaultdict(float)
        for word in set(words):
            found = self._postings.get(word, {})
            weight = math.log(1 + (self._num_documents - len(found) + 0.5) / (len(found) + 0.5))
            for number, part in found.items():
                scores[number] += weight * part
        return sorted(scores, key=lambda number: (-scores[number], number))[:k]
