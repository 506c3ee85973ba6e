"""Which questions are asked, and which file and page answers each? Draws three kinds by seed, reads the written ones.

    python benchmarks/search/questions.py       writes questions/drawn.jsonl and the digest of the corpus

Phrases are five words in a row that stand on one page alone, rare words stand on one page alone, names are those of one
file as a person types them. Captions, paraphrases and nonsense were written by hand before any search was asked.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml
from folder import FOLDER, QUESTIONS, TOY, build, build_toy, digest, files_of, photographs
from reading import Part, name_words, read_parts

SEED = 23
COUNT = 200
PHRASE = 5
SHORTEST = 5
"""Letters of a rare word."""
RARE = 3
"""Parts that may have a word which still counts as rare."""
DRAWN = QUESTIONS / "drawn.jsonl"
DIGEST = QUESTIONS / "corpus.json"

# Letters of words, with the breaks between them; whatever else stands between two words ends a phrase.
_TOKEN = re.compile(r"[A-Za-z]+|\s+|[^A-Za-z\s]+")


class Asked(NamedTuple):
    """A question with its answer.

    Args:
        kind: "phrase", "word", "name", "caption", "paraphrase"; or "nonsense: " and which.
        path: the file that answers it; "" where nothing does.
        page: its page or slide; None if any place in the file answers.
    """

    kind: str
    text: str
    path: str = ""
    page: int | None = None

    @property
    def is_even(self) -> bool:
        """Whether it is of the half that weights are chosen on; the other half is reported."""
        return int(hashlib.md5(self.text.encode()).hexdigest(), 16) % 2 == 0


def read_asked() -> list[Asked]:
    """All questions on the whole corpus.

    Raises:
        SystemExit: the corpus is another one than the questions were drawn from.
    """
    if json.loads(DIGEST.read_text("utf-8")) != {"digest": digest(build())}:
        raise SystemExit(f"{FOLDER} is not what {DRAWN} was drawn from: delete it, or run questions.py")
    asked = [Asked(**json.loads(line)) for line in DRAWN.read_text("utf-8").splitlines()]
    captions = [Asked("caption", one.caption, one.path) for one in photographs()]
    return asked + captions + read_paraphrases() + read_nonsense()


def read_paraphrases() -> list[Asked]:
    """Sentences of the corpus in other words."""
    entries = yaml.safe_load((QUESTIONS / "paraphrases.yaml").read_text("utf-8"))
    return [Asked("paraphrase", entry["text"], entry["path"], entry.get("page")) for entry in entries]


def read_nonsense() -> list[Asked]:
    """Questions that nothing in the folder answers."""
    groups = yaml.safe_load((QUESTIONS / "nonsense.yaml").read_text("utf-8"))
    return [Asked(f"nonsense: {group}", text) for group, texts in groups.items() for text in texts]


def draw(folder: Path, count: int = COUNT) -> Iterator[Asked]:
    """At most `count` phrases, rare words and names each, of different parts each."""
    parts = read_parts(folder)
    for kind, found in (("phrase", _phrases(parts)), ("word", _rare_words(parts))):
        for part, text in found[:count]:
            yield Asked(kind, text, part.path, part.page)
    for path, text in _names(files_of(folder))[:count]:
        yield Asked("name", text, path)


def runs_of_words(text: str) -> list[list[str]]:
    """Lower-case words between which only spaces and ends of lines stand: "A b, c-d e f 7" is a b, e f.

    A word beside any other character is left out: it may be a part of a longer one that is broken at the end of a line.
    """
    runs: list[list[str]] = [[]]
    tokens = _TOKEN.findall(text)
    for before, token, after in zip(["", *tokens], tokens, [*tokens[1:], ""], strict=False):
        if token.isalpha() and token.isascii():
            is_whole = not any(near and not near.isspace() and near not in ".,;:!?" for near in (before, after))
            runs[-1] += [token.lower()] if is_whole else []
            if not is_whole:
                runs.append([])
        elif not token.isspace() or token.count("\n") > 1:
            runs.append([])
    return [run for run in runs if run]


def shared_rare_words(asked: Asked, parts: Sequence[Part]) -> set[str]:
    """Words of a question that its answer has, and few parts have; those of file names are words, too."""
    words = [set(re.findall("[a-z]+", f"{part.text} {part.path}".lower())) for part in parts]
    answers = {
        word
        for part, of_part in zip(parts, words, strict=True)
        if part.path == asked.path and asked.page in (None, part.page)
        for word in of_part
    }
    shared = answers & set(re.findall("[a-z]+", asked.text.lower()))
    return {word for word in shared if sum(word in of_part for of_part in words) <= RARE}


def _phrases(parts: Sequence[Part]) -> list[tuple[Part, str]]:
    """One five-word phrase of each part that has one of its own, parts in an order by seed."""
    # Punctuation does not tell two phrases apart.
    total = Counter(phrase for part in parts for phrase in set(_windows(re.findall("[a-z0-9]+", part.text.lower()))))
    of_part = [
        [phrase for run in runs_of_words(part.text) for phrase in _windows(run) if total[phrase] == 1] for part in parts
    ]
    return _one_each(parts, of_part, "phrase")


def _windows(words: Sequence[str]) -> Iterator[str]:
    for start in range(len(words) - PHRASE + 1):
        yield " ".join(words[start : start + PHRASE])


def _rare_words(parts: Sequence[Part]) -> list[tuple[Part, str]]:
    """One word of each part that no other part has, nor any name, nor as a part of a longer word."""
    everywhere = [re.findall(r"[a-z]+", f"{part.text} {part.path}".lower()) for part in parts]
    total = Counter(word for words in everywhere for word in set(words))
    joined = [" ".join(sorted(set(words))) for words in everywhere]
    of_part = []
    for part in parts:
        words = {word for run in runs_of_words(part.text) for word in run if len(word) >= SHORTEST}
        alone = sorted(word for word in words if total[word] == 1 and word not in part.path.lower())
        of_part.append([word for word in alone if sum(word in others for others in joined) == 1])
    return _one_each(parts, of_part, "word")


def _one_each(parts: Sequence[Part], of_part: Sequence[Sequence[str]], kind: str) -> list[tuple[Part, str]]:
    generator = random.Random(f"{SEED} {kind}")
    drawn = [(part, generator.choice(sorted(set(texts)))) for part, texts in zip(parts, of_part, strict=True) if texts]
    generator.shuffle(drawn)
    return drawn


def _names(paths: Sequence[str]) -> list[tuple[str, str]]:
    """File names as people type them, of files whose name has words that no other name has all of."""
    of_path = {path: name_words(path) for path in paths}
    found = []
    for path, words in of_path.items():
        if sum(set(words) <= set(others) for others in of_path.values()) == 1:
            name = path.rpartition("/")[2]
            # Half in single words, a quarter without the ending, a quarter as it is.
            forms = (" ".join(words), " ".join(words), name.rpartition(".")[0], name)
            found.append((path, forms[int(hashlib.md5(path.encode()).hexdigest(), 16) % 4]))
    random.Random(f"{SEED} name").shuffle(found)
    return found


def main() -> None:
    """Check the paraphrases, draw the other questions, and write."""
    if TOY:
        with tempfile.TemporaryDirectory() as scratch:
            print(len(list(draw(build_toy(Path(scratch)), 3))), "questions are drawn at toy size and not written")
        return
    parts = read_parts(build())
    for asked in read_paraphrases():
        if shared := shared_rare_words(asked, parts):
            raise SystemExit(f"{asked.text!r} shares {', '.join(sorted(shared))} with {asked.path}: use other words")
    lines = [json.dumps(asked._asdict(), ensure_ascii=False) for asked in draw(FOLDER)]
    DRAWN.write_text("\n".join(lines) + "\n", "utf-8")
    DIGEST.write_text(json.dumps({"digest": digest(FOLDER)}) + "\n", "utf-8")
    print(len(lines), "questions are drawn")


if __name__ == "__main__":
    main()
