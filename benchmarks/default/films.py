"""How should the frames of a film become one vector, and how many should a long film have?

Two kinds of films. The clips of mmeb-mini, by its own tasks, under either pooling. And long films, made of drawings and
scenes of mmeb-mini that the camera approaches one after another, in 8 or 16 shots of unequal length, 120 s in all: the
caption of a shot must find its film. No film has two shots of one picture, and no picture is in two films.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from ranked import hits
from size import sized

from vlm2vec import Embedder, Image
from vlm2vec.cli.output import quiet_datasets
from vlm2vec.evaluation.runner import evaluate
from vlm2vec.media import frame_indices, open_image
from vlm2vec.model.checkpoint import SHIPPED
from vlm2vec.tasks.registry import get_tasks, packaged_root, parse_task

Vectors = NDArray[np.float32]

SOURCES = sized(("caption-to-image", "title-to-drawing"), ("title-to-drawing",))
"""Tasks of mmeb-mini whose questions are captions, and whose answers are single pictures."""
TASKS = sized(get_tasks("mmeb-mini", modality="video"), get_tasks("mmeb-mini", names=["moving-object"]))
FILM_S, FRAMES_A_S = 120, 2
SHOTS = sized((8, 16), (16,))
"""Of a film."""
NUM_FRAMES = sized((8, 16, 32), (4, 8))
SIZE = (240, 180)
CLOSEST = 0.7
"""Share of the picture that the camera still sees at the end of a shot."""

POOLS: dict[str, Callable[[Vectors], Vectors]] = {"mean": lambda rows: rows.mean(0), "max": lambda rows: rows.max(0)}
"""Of frames' vectors [F, D] of length one, as `TowersBackbone` pools them."""


class Film(NamedTuple):
    """One film: of each frame the picture that it shows, and how much of it the camera has approached, 0 to 1."""

    frames: list[tuple[int, float]]


def measure() -> dict[str, Any]:
    """Scores of both kinds of films, by pooling and number of frames."""
    quiet_datasets()
    embedder = Embedder.load()
    captions, pictures = _shown()
    asked: Vectors = embedder.encode_query(captions)
    long = [row for shots in SHOTS for row in _long(embedder, asked, pictures, shots)]
    return {"film_s": FILM_S, "long": long, "clips": _clips()}


def _long(
    embedder: Embedder, asked: Vectors, pictures: Sequence[PIL.Image.Image], shots: int
) -> Iterator[dict[str, Any]]:
    films = made_films(len(pictures), shots, random.Random(0))
    film_of = {shown: number for number, film in enumerate(films) for shown, _ in film.frames}
    questions = sorted(film_of)
    answers = np.array([film_of[number] for number in questions])
    for count in NUM_FRAMES:
        seen = [[film.frames[place] for place in frame_indices(len(film.frames), count)] for film in films]
        flat: Vectors = embedder.encode_document([Image(_approached(pictures, one)) for film in seen for one in film])
        for name, pool in POOLS.items():
            found = np.stack([pool(part) for part in np.split(flat, np.cumsum([len(one) for one in seen])[:-1])])
            row = {"shots": shots, "films": len(films), "questions": len(questions), "frames": count, "pool": name}
            row |= hits(asked[questions], found, answers)
            print(json.dumps(row), flush=True)
            yield row


def made_films(count: int, shots: int, draw: random.Random) -> list[Film]:
    """Films of pictures 0 to `count`, each in one film at most, of so many shots."""
    order = draw.sample(range(count), count)
    return [_film(order[start : start + shots], draw) for start in range(0, count - shots + 1, shots)]


def _film(pictures: Sequence[int], draw: random.Random) -> Film:
    # The shortest shot has at least a tenth of the longest.
    lengths = np.array([draw.uniform(0.1, 1) for _ in pictures])
    ends = np.round(np.cumsum(lengths / lengths.sum()) * FILM_S * FRAMES_A_S).astype(int)
    counts = np.diff(ends, prepend=0)
    return Film(
        [(shown, at / count) for shown, count in zip(pictures, counts.tolist(), strict=True) for at in range(count)]
    )


def _approached(pictures: Sequence[PIL.Image.Image], frame: tuple[int, float]) -> PIL.Image.Image:
    picture, share = pictures[frame[0]], 1 - (1 - CLOSEST) * frame[1]
    width, height = picture.width * share, picture.height * share
    left, top = (picture.width - width) / 2, (picture.height - height) / 2
    return picture.resize(SIZE, PIL.Image.Resampling.BICUBIC, (left, top, left + width, top + height))


def _shown() -> tuple[list[str], list[PIL.Image.Image]]:
    """Captions, and the picture of each."""
    root = packaged_root("mmeb-mini")
    assert root is not None
    found: dict[str, PIL.Image.Image] = {}
    for task in get_tasks("mmeb-mini", names=SOURCES):
        data = parse_task(task, root)
        items = dict(zip(data.candidate_names, data.candidates, strict=True))
        for name, query in zip(data.query_ids, data.queries, strict=True):
            [right] = data.relevant[name]
            [medium] = items[right].media
            assert isinstance(medium, Image)
            found.setdefault(query.text, open_image(Image(medium.source)).convert("RGB"))
    return list(found), list(found.values())


def _clips() -> dict[str, dict[str, float]]:
    """Of each pooling, scores of a hundred by task and in the mean."""
    found = {}
    with tempfile.TemporaryDirectory() as work:
        for pool in POOLS:
            folder = Path(work) / pool
            shutil.copytree(SHIPPED["bundled"], folder)
            settings = json.loads((folder / "vlm2vec.json").read_text("utf-8"))
            settings["video"]["pool"] = pool
            (folder / "vlm2vec.json").write_text(json.dumps(settings), "utf-8")
            scored = evaluate(Embedder.load(folder), TASKS, out=Path(work) / f"{pool} scores")
            assert not scored.failures, scored.failures
            scores = {task.name: scored.scores.score(task) for task in TASKS}
            mean = scored.scores.means(TASKS)["video"].score
            found[pool] = {
                name: round(score, 1) for name, score in {"video": mean, **scores}.items() if score is not None
            }
            print(pool, json.dumps(found[pool]), flush=True)
    return found
