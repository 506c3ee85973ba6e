"""What does a noun mean, what kind of thing is it, and how is it said? Reads WordNet 3.0 as Debian packages it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fetch import UNPACKED

FOLDER = UNPACKED / "wordnet" / "usr" / "share" / "wordnet"


@dataclass(frozen=True, slots=True)
class Noun:
    """The first sense of a noun.

    Args:
        synonyms: the other words of its synset.
        gloss: the definition without examples.
        kind: the first word of its hypernym's synset, or "".
        topic: WordNet's lexicographer file: 5 is animal, 6 artifact, 13 food, 20 plant.
        count: how often the word, in any sense, was tagged in WordNet's corpora.
    """

    word: str
    synonyms: tuple[str, ...]
    gloss: str
    kind: str
    topic: int
    count: int


@cache
def read_nouns(folder: Path = FOLDER) -> dict[str, Noun]:
    """Every noun without digits or capitals, by word, in alphabetical order."""
    synsets: dict[str, tuple[list[str], str, str, int]] = {}
    for line in _lines(folder / "data.noun"):
        head, _, gloss = line.partition(" | ")
        fields = head.split()
        num_words = int(fields[3], 16)
        words = [fields[4 + 2 * i].replace("_", " ") for i in range(num_words)]
        pointers = fields[5 + 2 * num_words :]
        parent = next((pointers[i + 1] for i in range(0, len(pointers) - 1, 4) if pointers[i] in ("@", "@i")), "")
        synsets[fields[0]] = (words, gloss.split('; "')[0].strip().strip(";"), parent, int(fields[1]))
    counts: Counter[str] = Counter()
    for line in _lines(folder / "cntlist.rev"):
        sense, _, count = line.split()
        lemma, _, rest = sense.partition("%")
        if rest.startswith("1:"):
            counts[lemma.replace("_", " ")] += int(count)
    nouns = {}
    for line in _lines(folder / "index.noun"):
        fields = line.split()
        word = fields[0].replace("_", " ")
        words, gloss, parent, topic = synsets[fields[-int(fields[2])]]
        if word.replace(" ", "").replace("-", "").isalpha() and word.lower() in words:
            synonyms = tuple(other for other in words if other.lower() != word and other.islower())
            nouns[word] = Noun(word, synonyms, gloss, synsets[parent][0][0] if parent else "", topic, counts[word])
    return nouns


def with_article(name: str) -> str:
    """`a dog`, `an owl`, but `scissors`: a rule of thumb, wrong for some mass nouns."""
    last = name.split()[-1]
    if last.endswith("s") and not last.endswith(("ss", "us", "is")):
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _lines(path: Path) -> list[str]:
    """Those after the licence, which is set in."""
    return [line for line in path.read_text("utf-8").splitlines() if not line.startswith("  ")]
