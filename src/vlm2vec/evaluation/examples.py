"""Which queries of a task did a model answer best and worst, and how do these look?"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, PositiveInt, ValidationError, model_validator

from vlm2vec.documents import load_json, problems
from vlm2vec.errors import DataError, MediaError
from vlm2vec.evaluation.scores import Text
from vlm2vec.files import reason, write_atomically, writing
from vlm2vec.items import MEDIA_MARKER, Item
from vlm2vec.media.thumbnails import thumbnail_uri
from vlm2vec.tasks.data import TaskData
from vlm2vec.vectors.metrics import Numbers

EXAMPLES = "examples"
"""The folder of an evaluation that they lie in."""

_THUMBNAIL_PX = 128
_LETTERS = 200
_SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")


class Shown(BaseModel, frozen=True, strict=True):
    """An item, small.

    Args:
        text: its text without the instruction, in one line of at most 200 letters.
        picture: a thumbnail of its first medium as the data URI of a JPEG, so that a page with it loads nothing; None
            if it has no medium or one that cannot be read.
    """

    text: Text
    picture: Annotated[str, Field(pattern="^data:image/jpeg;base64,[A-Za-z0-9+/]+={0,2}$")] | None


class Example(BaseModel, frozen=True, strict=True):
    """A query, its right candidate, and the candidate that came first.

    Args:
        dataset: name of the task.
        query_id: of the query.
        query: the query.
        right: the first right candidate of the ranking; if none is ranked, that of the highest grade; None if none is a
            candidate.
        rank: of the first right candidate, from 1; None if none is among those ranked.
        top: the candidate that came first.
        margin: score of the best right candidate less that of the best wrong one. One of the two that is not among
            those ranked counts as the last ranked one.
    """

    dataset: Text
    query_id: Text
    query: Shown
    right: Shown | None
    rank: PositiveInt | None
    top: Shown
    margin: Annotated[float, Field(allow_inf_nan=False)]


class _ExampleFile(BaseModel, strict=True):
    """The examples of one dataset; in the file its name stands once."""

    dataset: Text
    examples: list[Example]

    @model_validator(mode="before")
    @classmethod
    def _named(cls, document: object) -> object:
        if not isinstance(document, dict) or not isinstance(listed := document.get("examples"), list):
            return document
        name = {"dataset": document.get("dataset")}
        return document | {"examples": [one | name if isinstance(one, dict) else one for one in listed]}


def pick_examples(
    task_name: str,
    data: TaskData,
    ranking_QK: NDArray[np.int64],
    scores_QK: NDArray[np.float32],
    per_query: Mapping[str, Numbers],
    metric: str,
    count: int = 2,
) -> list[Example]:
    """The best and the worst queries by a metric, of equal ones by margin, then by id; best first.

    Args:
        task_name: what the dataset is called.
        data: the task. Only the candidates that are shown are read.
        ranking_QK, scores_QK: as `vectors.ranking.rank` gives them.
        per_query: as `vectors.metrics.query_metrics` gives them.
        metric: the one that counts.
        count: how many of the best and how many of the worst. Fewer queries than both together are all taken, and those
            without any candidate never.
    """
    right = [_right(data, row, places) for row, places in enumerate(ranking_QK.tolist())]
    margins = [_margin(scores, of_query) for scores, of_query in zip(scores_QK.tolist(), right, strict=True)]
    order = sorted(
        np.flatnonzero((ranking_QK >= 0).any(axis=1)).tolist(),
        key=lambda row: (-per_query[metric][row], -margins[row], data.query_ids[row]),
    )
    chosen = order if len(order) <= 2 * count else order[:count] + order[len(order) - count :]
    found = {row: _right_place(data, row, ranking_QK[row].tolist(), right[row]) for row in chosen}
    places = {int(ranking_QK[row, 0]) for row in chosen} | {place for place in found.values() if place is not None}
    candidates = {place: _candidate(data, place) for place in sorted(places)}
    return [
        Example(
            dataset=task_name,
            query_id=data.query_ids[row],
            query=_shown(data.queries[row]),
            right=None if (place := found[row]) is None else candidates[place],
            rank=right[row].index(True) + 1 if any(right[row]) else None,
            top=candidates[int(ranking_QK[row, 0])],
            margin=margins[row],
        )
        for row in chosen
    ]


def write_examples(folder: Path, dataset: str, examples: Sequence[Example]) -> None:
    """Write the examples of one dataset in place of earlier ones; the folder is made if need be.

    Raises:
        StorageError: the file cannot be written.
    """
    document = {"dataset": dataset, "examples": [one.model_dump(exclude={"dataset"}) for one in examples]}
    path = task_file(folder, dataset, ".json")
    with writing(path, "other_out"):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(document, indent=1) + "\n")


def read_examples(folder: Path) -> dict[str, list[Example]]:
    """The examples in a folder by dataset; none if there is no such folder.

    Raises:
        DataError: a file cannot be read or holds something else; the message names it.
    """
    found: dict[str, list[Example]] = {}
    for path in sorted(folder.glob("*.json")):
        if path.name.startswith("."):
            # File systems of other makes leave such beside a file.
            continue
        try:
            file = _ExampleFile.model_validate(load_json(path))
            if path != task_file(folder, file.dataset, ".json"):
                raise ValueError(f"those of {file.dataset!r} lie in another file")
            found[file.dataset] = file.examples
        except FileNotFoundError:
            # Another run has dropped it meanwhile.
            continue
        except (OSError, ValueError) as error:
            why = problems(error)[0] if isinstance(error, ValidationError) else error
            raise DataError(
                f"{path} does not hold examples: {reason(error) if isinstance(error, OSError) else why}; delete it, "
                "and the next evaluation of the task writes it"
            ) from error
    return found


def task_file(folder: Path, task_name: str, suffix: str) -> Path:
    """The file of a task in a folder: named like the task where that is safe, otherwise by part of it and its hash."""
    if _SAFE_NAME.fullmatch(task_name):
        return folder / f"{task_name}{suffix}"
    digest = blake2b(task_name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    # "~" is in no safe name, so no other task has this file.
    return folder / f"{re.sub('[^A-Za-z0-9_-]', '_', task_name[:80])}~{digest}{suffix}"


def _right(data: TaskData, row: int, places: Sequence[int]) -> list[bool]:
    labels = data.relevant[data.query_ids[row]]
    return [place >= 0 and data.candidate_names[place] in labels for place in places]


def _margin(scores: Sequence[float], right: Sequence[bool]) -> float:
    """As `Example.margin` says. A candidate that is empty has no score, as if it were not ranked."""
    scored = [(score, is_right) for score, is_right in zip(scores, right, strict=True) if math.isfinite(score)]
    last = min((score for score, _ in scored), default=0.0)
    return max((score for score, is_right in scored if is_right), default=last) - max(
        (score for score, is_right in scored if not is_right), default=last
    )


def _right_place(data: TaskData, row: int, places: Sequence[int], right: Sequence[bool]) -> int | None:
    """Where the right candidate that is shown stands among all."""
    if any(right):
        return places[right.index(True)]
    labels = data.relevant[data.query_ids[row]]
    known = [(-labels[name], place) for place, name in enumerate(data.candidate_names) if name in labels]
    return min(known)[1] if known else None


def _candidate(data: TaskData, place: int) -> Shown:
    try:
        return _shown(data.candidates[place])
    except MediaError:
        # A page that is read from its table when it is asked for; it has no text.
        return Shown(text="", picture=None)


def _shown(item: Item) -> Shown:
    text = " ".join(item.text.replace(MEDIA_MARKER, " ").split())
    return Shown(
        text=text if len(text) <= _LETTERS else text[: _LETTERS - 1] + "…",
        picture=thumbnail_uri(item.media[0], _THUMBNAIL_PX) if item.media else None,
    )
