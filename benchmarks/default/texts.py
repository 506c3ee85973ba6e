"""How should a text that is longer than the text tower reads become one vector?

Texts of 500 words, and of each a sentence of its first and one of its second half, which must find it among all. They
come from Python's own reference, `pydoc_data.topics`, so that nothing has to be fetched. A second time the sentence is
left out of its text: it must be found by what stands around it.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pydoc_data.topics import topics
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from ranked import hits
from size import sized

from vlm2vec import Embedder
from vlm2vec.model.checkpoint import SHIPPED
from vlm2vec.model.families.towers import OnnxTower
from vlm2vec.model.families.towers_inputs import TextSide, WordPieces, read_towers_config
from vlm2vec.model.similarity import as_unit

Vectors = NDArray[np.float32]

WORDS = 500
MOST_TEXTS = sized(200, 6)
SENTENCE = (8, 30)
"""Words of a sentence that is asked for, at least and at most."""
OVERLAPS = sized((0, 16, 32, 64), (0, 32))
"""Word pieces that a chunk shares with the next one."""


class Long(NamedTuple):
    """One text, and a sentence of each half of it."""

    text: str
    first: str
    second: str

    def without(self) -> str:
        """The text without its two sentences."""
        return self.text.replace(self.first, " ").replace(self.second, " ")


def measure() -> dict[str, Any]:
    """Scores of each way to read, by the half that is asked for."""
    texts = long_texts()
    embedder = Embedder.load()
    questions = {half: embedder.encode_query([getattr(one, half) for one in texts]) for half in ("first", "second")}
    kept, left_out = [one.text for one in texts], [one.without() for one in texts]
    rows = []
    for name, read in ways().items():
        row: dict[str, Any] = {"way": name}
        for label, bodies in (("", kept), (", left out", left_out)):
            found = np.stack([read(body) for body in bodies])
            for half, asked in questions.items():
                row[f"{half} half{label}"] = hits(asked, found, np.arange(len(texts)))
        rows.append(row)
        print(json.dumps(row), flush=True)
    pieces = [sum(map(len, _pieces(0).chunks(one.text))) for one in texts]
    return {
        "texts": len(texts),
        "words": WORDS,
        "median_word_pieces": int(np.median(pieces)),
        "shipped_overlap": _SIDE.overlap,
        "rows": rows,
    }


def ways() -> dict[str, Callable[[str], Vectors]]:
    """Ways to make a vector of a text."""
    apart = _pieces(0)

    def cut(text: str) -> Vectors:
        first, *more = apart.chunks(text)
        ids = [one for chunk in (first, *more) for one in chunk[1:-1]]
        vector: Vectors = _read([[first[0], *ids[: _SIDE.max_tokens - 2], first[-1]]])[0]
        return vector

    def pooled(overlap: int) -> Callable[[str], Vectors]:
        pieces = _pieces(overlap)
        # Chunks are about equally long, so that the mean by length, which the model takes, is this one but for 1 %.
        return lambda text: np.mean(_read(pieces.chunks(text)), axis=0, dtype=np.float32)

    return {
        "cut at 256 word pieces": cut,
        **{f"mean of chunks, overlap {overlap}": pooled(overlap) for overlap in OVERLAPS},
        "largest number of chunks": lambda text: _read(apart.chunks(text)).max(0),
    }


def long_texts() -> list[Long]:
    """Texts of `WORDS` words with two sentences each, drawn by seed."""
    draw = random.Random(0)
    found = []
    for _, topic in sorted(topics.items()):
        # Headings are underlined, and examples are no sentences.
        words = re.sub(r"[*=\-~^]{4,}|::", " ", topic).split()
        bodies = [" ".join(words[at : at + WORDS]) for at in range(0, len(words) - WORDS + 1, WORDS)]
        for body in bodies:
            halves = [_sentences(half) for half in _halves(body)]
            if all(halves):
                found.append(Long(body, *(draw.choice(half) for half in halves)))
    return draw.sample(found, min(MOST_TEXTS, len(found)))


def _halves(body: str) -> tuple[str, str]:
    words = body.split(" ")
    return " ".join(words[: WORDS // 2]), " ".join(words[WORDS // 2 :])


def _sentences(half: str) -> Sequence[str]:
    """Whole sentences of plain words."""
    ends = [found.end() for found in re.finditer(r"(?<=[a-z)])\. (?=[A-Z])", half)]
    told = [half[start:end].strip() for start, end in pairwise(ends)]
    least, most = SENTENCE
    return [one for one in told if least <= len(one.split()) <= most and not re.search(r"[>{}\[\]=_]", one)]


_FOLDER = SHIPPED["bundled"]
_CONFIG = read_towers_config(_FOLDER)
_SIDE = _CONFIG.text
_TOWER = OnnxTower(_FOLDER / _SIDE.file, _CONFIG.dim)


def _pieces(overlap: int) -> WordPieces:
    return WordPieces(_FOLDER / _SIDE.tokenizer, TextSide(max_tokens=_SIDE.max_tokens, overlap=overlap))


def _read(chunks: Sequence[Sequence[int]]) -> Vectors:
    ids = [np.array([chunk], np.int64) for chunk in chunks]
    return as_unit(np.stack([_TOWER.run({"ids": one, "mask": np.ones_like(one)}) for one in ids]))
