"""Which words of a question tell what is looked for?"""

from __future__ import annotations

from dataclasses import replace

from vlm2vec.search.store import Wanted

# Not those that are nouns as well: may, will, can, like.
_FUNCTION_WORDS = frozenset(
    """
    a an the this that these those some any each every no not all both other such own same
    i me my we us our you your he him his she her it its they them their who whom whose which what
    am is are was were be been being do does did have has had having could must shall should would
    of in on at to for from with without by about into onto over under above below between through during before after
    against up down out off near as than per via
    and or but nor if then else so because while when where why how there here
    again also just only very too more most much many few
    """.split()  # noqa: SIM905  # as a list it would be one word a line
)


def telling(wanted: Wanted) -> Wanted:
    """What is looked for, without those words that any English sentence has; all of it if there are no others.

    "the face of a tabby cat" looks for face, tabby and cat. In quotes, such words count.
    """
    words = tuple(word for word in wanted.words if word.casefold() not in _FUNCTION_WORDS)
    return replace(wanted, words=words) if words or wanted.phrases else wanted
