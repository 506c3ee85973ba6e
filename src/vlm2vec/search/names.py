"""Which words do the names of a file and its folders hold?"""

from __future__ import annotations

import re
import unicodedata

# Of the classes that `_class_of` gives, in a word: neighbours of one script or digits; inside these, by their case.
_RUNS = re.compile(r"[Aa]+|o+|0+")
_CASES = re.compile(r"A+(?=Aa)|A?a+|A+|o+|0+")


def name_words(path: str) -> str:
    """The words of a path in lower case, in order, with blanks between them.

    A path is divided at everything that is no letter, digit or mark. Of a part that is written together, the whole
    comes first, then its letters and digits apart, then what begins with a capital: "IMG_2031.jpg" gives "img 2031
    jpg", "LadyBird2" gives "ladybird2 ladybird 2 lady bird". Letters are composed (NFC), for some systems store names
    decomposed. Bytes that are no text, which `os.fsdecode` gives as surrogates, are left out.
    """
    words: list[str] = []
    letters = unicodedata.normalize("NFC", path)
    classes = _classes(letters)
    for part in re.finditer(r"[^ ]+", classes):
        start, end = part.span()
        of_part = [letters[start:end]]
        for pieces in (_RUNS, _CASES):
            of_part += [letters[piece.start() : piece.end()] for piece in pieces.finditer(classes, start, end)]
        words += dict.fromkeys(unicodedata.normalize("NFC", word.lower()) for word in of_part)
    return " ".join(words)


def _classes(letters: str) -> str:
    """One character for each: "A" capital, "a" other letter with case, "o" letter without, "0" digit, " " the rest."""
    classes: list[str] = []
    for letter in letters:
        category = unicodedata.category(letter)
        if category[0] == "M":
            # A mark belongs to the letter before it.
            classes.append(classes[-1] if classes else " ")
        elif category[0] == "N":
            classes.append("0")
        elif category in ("Lu", "Lt"):
            classes.append("A")
        elif category[0] == "L":
            classes.append("a" if category == "Ll" else "o")
        else:
            classes.append(" ")
    return "".join(classes)
