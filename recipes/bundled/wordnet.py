"""What does a noun mean, and what kind of thing is it? Reads WordNet 3.0 as Debian packages it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
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


def read_nouns(folder: Path = FOLDER) -> dict[str, Noun]:
    """Every noun without digits or capitals, by word, in alphabetical order."""
    synsets: dict[str, tuple[list[str], str, str, int]] = {}
    for line in (folder / "data.noun").read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            continue
        head, _, gloss = line.partition(" | ")
        fields = head.split()
        num_words = int(fields[3], 16)
        words = [fields[4 + 2 * i].replace("_", " ") for i in range(num_words)]
        pointers = fields[5 + 2 * num_words :]
        parent = next((pointers[i + 1] for i in range(0, len(pointers) - 1, 4) if pointers[i] in ("@", "@i")), "")
        definition = gloss.split('; "')[0].strip().strip(";")
        synsets[fields[0]] = (words, definition, parent, int(fields[1]))
    counts: Counter[str] = Counter()
    for line in (folder / "cntlist.rev").read_text(encoding="utf-8").splitlines():
        sense, _, count = line.split()
        lemma, _, rest = sense.partition("%")
        if rest.startswith("1:"):
            counts[lemma.replace("_", " ")] += int(count)
    nouns = {}
    for line in (folder / "index.noun").read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            continue
        fields = line.split()
        word = fields[0].replace("_", " ")
        words, gloss, parent, topic = synsets[fields[-int(fields[2])]]
        if not word.replace(" ", "").replace("-", "").isalpha() or word.lower() not in words:
            continue
        synonyms = tuple(other for other in words if other.lower() != word and other.islower())
        kind = synsets[parent][0][0] if parent else ""
        nouns[word] = Noun(word, synonyms, gloss, kind, topic, counts[word])
    return nouns
