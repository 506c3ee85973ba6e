"""In which words is a picture described? Its names, keywords, synonyms and, from WordNet, its meaning."""

from __future__ import annotations

from pictures import Shown
from wordnet import Noun, read_nouns, with_article

MOST_TAGS = 8
MOST_SYNONYMS = 3
GLOSS_LETTERS = 160


def wordings(shown: Shown) -> list[str]:
    """Different wordings of one picture, the plain name first."""
    names = list(dict.fromkeys((shown.concept, shown.name)))
    found = [*names, *map(with_article, names)]
    for noun in filter(None, map(read_nouns().get, names)):
        found += [*noun.synonyms[:MOST_SYNONYMS], noun.gloss[:GLOSS_LETTERS], *_kind(noun)]
    tags = [tag for tag in shown.tags if tag.lower() not in names and len(tag) > 1]
    if tags:
        found += [", ".join(tags[:MOST_TAGS]), f"{shown.concept}, {tags[0]}", f"{tags[-1]}: {shown.concept}"]
    return list(dict.fromkeys(found))


def _kind(noun: Noun) -> list[str]:
    return [f"{noun.word}, a kind of {noun.kind}"] if noun.kind else []
