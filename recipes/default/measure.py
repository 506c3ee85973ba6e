"""Does the right picture come first? Measures a model on held-out drawings, photographs, and words with their meaning.

    python recipes/default/measure.py OUT.json [MODEL ...]     MODEL is a folder or name, `pixels` or `untrained`;
                                                               by default all that the model's card compares

Tests are those of `pictures.tests` and `photographs.yaml`; a question is ranked among all pictures of its test, a tie
counts against it. Yardsticks: `pixels` are twelve by twelve of them, `untrained` is the
class head with MiniLM's vectors of class names (ConSE).
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import yaml
from concepts import read_concepts
from fetch import PHOTOGRAPHS, UNPACKED
from numpy.typing import NDArray
from pictures import draw, is_even, read_shown, tests
from PIL import Image as Pictures
from wordnet import read_nouns

from vlm2vec.items import Image
from vlm2vec.model.embedder import Embedder

DIMS = (384, 256, 128)
GLOSSES = 200
ALL = ("bundled", "tiny", "pixels", "untrained")

Vectors = NDArray[np.float32]
Read = Callable[[Sequence[str]], Vectors]
Look = Callable[[Sequence[Pictures.Image]], Vectors]
Test = tuple[list[str], list[Pictures.Image]]
Scores = dict[str, float]


@cache
def drawings() -> dict[str, Test]:
    """The tests on drawings of held-out concepts."""
    found: dict[str, Test] = {}
    for name, questions in tests(read_shown()).items():
        drawn = [(question.words, draw(question.shown, 0)) for question in questions]
        found[name] = ([words for words, one in drawn if one], [one for _, one in drawn if one])
    return found


@cache
def photographs() -> Test:
    """Captions and photographs of `photographs.yaml`."""
    captions, pictures = [], []
    for package, entry in yaml.safe_load(PHOTOGRAPHS.read_text("utf-8")).items():
        for file, caption in entry["captions"].items():
            with Pictures.open(UNPACKED / package / entry["folder"] / file) as picture:
                pictures.append(picture.convert("RGB"))
            captions.append(caption)
    return captions, pictures


def glosses() -> tuple[list[str], list[str]]:
    """Nouns that name held-out concepts, and what WordNet says they mean."""
    concepts, nouns = read_concepts(), read_nouns()
    words = sorted(word for word in nouns if word in concepts.held)
    drawn = random.Random(0).sample(words, min(GLOSSES, len(words)))
    return drawn, [nouns[word].gloss for word in drawn]


def num_questions() -> dict[str, int]:
    """Of each test that a model is measured on."""
    asked = {name: len(words) for name, (words, _) in [*drawings().items(), ("photographs", photographs())]}
    return {**asked, "word to gloss": len(glosses()[0])}


def ranks(queries: Vectors, documents: Vectors) -> NDArray[np.int64]:
    """The place of each query's own document, counted from 1."""
    scores = unit(queries) @ unit(documents).T
    found: NDArray[np.int64] = (scores >= np.diag(scores)[:, None] - 1e-7).sum(1)
    return found


def unit(vectors: Vectors) -> Vectors:
    """Rows scaled to length one."""
    scaled: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return scaled


def rounded(vectors: Vectors) -> Vectors:
    """As stored in int8, a scale a row."""
    scale = np.abs(vectors).max(1, keepdims=True) / 127
    back: Vectors = np.rint(vectors / scale) * scale
    return back


def scores(places: NDArray[np.int64]) -> Scores:
    """Percent of questions whose answer comes first, and among the first five."""
    return {"hit@1": round(100 * float((places == 1).mean()), 1), "hit@5": round(100 * float((places <= 5).mean()), 1)}


def measure(look: Look, read: Read, dims: Sequence[int] = DIMS) -> dict[str, dict[str, Scores]]:
    """Scores of a model by test and kind of vector: all dimensions, the first `dims`, and all in int8."""
    found: dict[str, dict[str, Scores]] = {}
    for name, (words, pictures) in [*drawings().items(), ("photographs", photographs())]:
        texts, looks = read(words), look(pictures)
        odd = np.array([not is_even(one) for one in words])
        for kind, cut in cuts(texts.shape[1], dims).items():
            places, back = ranks(cut(texts), cut(looks)), ranks(cut(looks), cut(texts))
            found.setdefault(name, {})[kind] = scores(places)
            found.setdefault(f"{name}, odd half", {})[kind] = scores(places[odd])
            found.setdefault(f"{name}, picture to text", {})[kind] = scores(back)
    words, meanings = glosses()
    texts, others = read(words), read(meanings)
    found["word to gloss"] = {
        kind: scores(ranks(cut(texts), cut(others))) for kind, cut in cuts(texts.shape[1], dims).items()
    }
    return found


def cuts(dim: int, dims: Sequence[int]) -> Mapping[str, Callable[[Vectors], Vectors]]:
    """Kinds of vectors: all dimensions, the first of them, all in int8."""
    first = {str(one): (lambda vectors, one=one: vectors[:, :one]) for one in dims if one < dim}
    return {str(dim): lambda vectors: vectors, **first, "int8": rounded}


def model(name: str) -> tuple[Look, Read]:
    """A model of the package, as its own `encode_document` and `encode_query` see."""
    embedder = Embedder.load(name)
    return (
        lambda pictures: embedder.encode_document([Image(one) for one in pictures]),
        lambda words: embedder.encode_query(list(words)),
    )


def pixels() -> tuple[Look, Read]:
    """Colours of twelve by twelve pixels, taken to MiniLM's vectors of names by ridge regression on 1,000 drawings."""
    from features import read

    def see(pictures: Sequence[Pictures.Image]) -> Vectors:
        small = np.stack([np.asarray(one.resize((12, 12)), np.float32).ravel() / 255 for one in pictures])
        return np.concatenate([small - small.mean(1, keepdims=True), np.ones((len(small), 1), np.float32)], 1)

    drawn = [(one.concept, draw(one, 0)) for one in [one for one in read_shown() if one.is_trained][:1000]]
    seen = see([picture for _, picture in drawn if picture])
    names = unit(read([name for name, picture in drawn if picture]))
    middle = names.mean(0)
    fitted = np.linalg.solve(seen.T @ seen + 10 * np.eye(seen.shape[1]), seen.T @ (names - middle))
    return lambda pictures: (see(pictures) @ fitted).astype(np.float32), lambda words: unit(read(words)) - middle


def untrained(temperature: float = 1.5) -> tuple[Look, Read]:
    """The class head's probabilities times MiniLM's vectors of the classes' names, less their mean: ConSE."""
    from features import look_at, read
    from train import class_logits, class_names

    names = unit(read(class_names()))
    middle = names.mean(0)

    def look(pictures: Sequence[Pictures.Image]) -> Vectors:
        logits = class_logits(look_at(pictures)) / temperature
        chances = np.exp(logits - logits.max(1, keepdims=True))
        vectors: Vectors = chances / chances.sum(1, keepdims=True) @ (names - middle)
        return vectors

    return look, lambda words: unit(read(words)) - middle


def main(out: Path, names: Sequence[str]) -> None:
    """Measure and write."""
    results = {}
    for name in names:
        made = {"pixels": pixels, "untrained": untrained}.get(name, lambda name=name: model(name))()
        label = Path(name).name
        results[label] = measure(*made)
        print(label, json.dumps(results[label]), flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    command = f"python recipes/default/measure.py {out.name} {' '.join(Path(name).name for name in names)}"
    document = {"command": command, "questions": num_questions(), "results": results}
    out.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or ALL)
