"""What do words mean? Rows of texts alone: a noun and its gloss, an emoji's label and its keywords."""

from __future__ import annotations

from catalogue import read_emoji
from holdouts import Holdouts
from rows import Corpus, row, text
from wordnet import Noun

NUM_WORDS = 20_000


def add_words(corpus: Corpus, unread: Holdouts, nouns: dict[str, Noun]) -> None:
    """A noun to its gloss, and an emoji's label to its keywords.

    Args:
        unread: the held-out concepts whose very words are held out too; of the others, words are read here though
            nothing that shows them is seen.
    """
    emoji = read_emoji()
    named = {word for e in emoji.values() for word in (e.label, *e.label.split(), *e.tags) if word in nouns}
    others = sorted((n for n in nouns.values() if n.word not in named), key=lambda n: (-n.count, n.word))[:NUM_WORDS]
    for word in sorted(named | {noun.word for noun in others}):
        pair = row(text(word), text(nouns[word].gloss[:160]), word)
        corpus.add("text_to_text", [pair], held=unread.holds(word))
    for entry in sorted(emoji.values(), key=lambda e: e.hexcode):
        if entry.tags:
            pair = row(text(entry.label), text(", ".join(entry.tags)), entry.label)
            corpus.add("text_to_text", [pair], held=unread.holds(entry.label))
