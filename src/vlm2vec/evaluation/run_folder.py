"""What lies in the folder of an evaluation, examples for a reader among it, and how do several runs share it?"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field, PositiveInt, ValidationError

from vlm2vec.documents import load_json, problems
from vlm2vec.errors import ConfigError, DataError, MediaError
from vlm2vec.evaluation.scores import MODALITIES, SCORES, DatasetScores, ModelScores, Text, read_scores, write_scores
from vlm2vec.evaluation.scoring import Ranking
from vlm2vec.files import locked, reason, remove_drafts, write_atomically, writing
from vlm2vec.items import MEDIA_MARKER, Item
from vlm2vec.media.thumbnails import thumbnail_uri
from vlm2vec.tasks.data import TaskData, TaskSpec
from vlm2vec.tasks.registry import get_tasks

RUN = "run.json"
"""The file of an evaluation that says of which model and settings it is."""

_PREDICTIONS, _EXAMPLES, _LOCK = "predictions", "examples", "scores.lock"
_THUMBNAIL_PX = 128
_LETTERS = 200
_SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")


class _Shown(BaseModel, frozen=True, strict=True):
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
        right: the first right candidate of the ranking; if none is ranked, that of the highest grade; None if none is a
            candidate.
        rank: of the first right candidate, from 1; None if none is among those ranked.
        margin: score of the best right candidate less that of the best wrong one. One of the two that is not among
            those ranked counts as the last ranked one.
    """

    query_id: Text
    query: _Shown
    right: _Shown | None
    rank: PositiveInt | None
    top: _Shown
    margin: Annotated[float, Field(allow_inf_nan=False)]


class RunSettings(BaseModel, frozen=True):
    """Two runs must have these in common to share a folder.

    Args:
        limit: only so many queries of each task; None: all.
        root: the data root; None: the benchmark's own data in this package.
        late_interaction: whether vectors of tokens are ranked.
    """

    benchmark: str
    model: Text
    fingerprint: str
    limit: int | None
    root: Text | None
    late_interaction: bool


@dataclass(frozen=True)
class RunFolder:
    """The results of one model with one choice of settings. Make one with `RunFolder.claim`.

        scores.json         the score file, of all tasks measured there with this model and these settings
        predictions/        for each query of a task its ten best candidates
        examples/           for each task its best and worst queries with thumbnails, for the report's page
        vectors/            of all that was embedded; may be deleted
        run.json            the settings that all of this holds for

    Several runs may write to it at once, each its own tasks: the score file is read again before each change, under a
    lock.

    Args:
        patience_s: how long to wait for the lock, which others hold while they read and write a file of some 100 kB.
    """

    path: Path
    settings: RunSettings
    patience_s: float = 60.0

    @classmethod
    def claim(cls, path: Path, settings: RunSettings, *, patience_s: float = 60.0) -> RunFolder:
        """Take a folder, which is made if it is missing, for runs with these settings, and clear it of drafts.

        Raises:
            StorageError: it cannot be written.
            ConfigError: it holds results of other settings.
            DataError: its settings or its score file are damaged.
            BusyError: another run holds it for too long.
        """
        folder = cls(path, settings, patience_s=patience_s)
        with writing(path, "other_out"):
            path.mkdir(parents=True, exist_ok=True)
        with folder._locked():
            folder._check_settings()
        for place in (path, path / _PREDICTIONS, path / _EXAMPLES):
            remove_drafts(place)
        folder.scores()
        return folder

    def scores(self) -> ModelScores:
        """All that has been measured here so far, by this run and others.

        Raises:
            DataError: the score file is damaged.
        """
        return self._as_scores(self._known())

    def keep(self, task: TaskSpec, data: TaskData, ranking: Ranking, scores: DatasetScores) -> None:
        """Write the results of a task in place of earlier ones.

        Raises:
            StorageError: the folder cannot be written.
        """
        self._write_predictions(task, data, ranking)
        _write_examples(self.path, task.name, _pick_examples(data, ranking, task.metric))
        # Last, so that a task with a score has all the rest too.
        self._change(task.name, scores)

    def drop(self, task: TaskSpec) -> None:
        """Remove the results of a task; without any task left there is no score file.

        Raises:
            StorageError: the folder cannot be written.
        """
        self._change(task.name, None)
        with writing(self.path, "other_out"):
            _task_file(self.path / _PREDICTIONS, task.name, ".jsonl").unlink(missing_ok=True)
            _task_file(self.path / _EXAMPLES, task.name, ".json").unlink(missing_ok=True)

    def _check_settings(self) -> None:
        path = self.path / RUN
        if not path.is_file():
            if (self.path / SCORES).exists():
                # Scores of nobody knows which model would count as this one's.
                raise DataError(f"{self.path} holds a {SCORES} and no {RUN} that says whose it is", "other_out")
            with writing(path, "other_out"):
                write_atomically(path, json.dumps(self.settings.model_dump(), indent=1) + "\n")
            return
        try:
            earlier = RunSettings.model_validate(load_json(path), strict=True)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} does not say whose results lie beside it: {error}", "other_out") from error
        for name, value in self.settings:
            found = getattr(earlier, name)
            # The name of a folder may be written in many ways.
            if found != value and not (name == "model" and earlier.fingerprint == self.settings.fingerprint):
                raise ConfigError(
                    f"{self.path} holds an evaluation with {name} {json.dumps(found)}, not {json.dumps(value)}",
                    "other_out",
                )

    def _known(self) -> dict[str, DatasetScores]:
        if not (self.path / SCORES).is_file():
            return {}
        datasets = read_scores(self.path / SCORES).datasets.values()
        return {name: one for of_modality in datasets for name, one in of_modality.items()}

    def _change(self, task: str, scores: DatasetScores | None) -> None:
        with self._locked():
            known = self._known()
            if scores is not None:
                known[task] = scores
            elif known.pop(task, None) is None:
                return
            if known:
                write_scores(self.path / SCORES, self._as_scores(known))
            else:
                # A score file holds at least one task.
                with writing(self.path, "other_out"):
                    (self.path / SCORES).unlink()

    def _as_scores(self, known: dict[str, DatasetScores]) -> ModelScores:
        """Scores in the order of the benchmark's table."""
        tasks = get_tasks(self.settings.benchmark)
        return ModelScores(
            model=self.settings.model,
            generated=datetime.now(UTC).isoformat(timespec="seconds"),
            datasets={
                modality: {
                    task.name: known[task.name] for task in tasks if task.modality == modality and task.name in known
                }
                for modality in MODALITIES
            },
            benchmark=self.settings.benchmark,
            limit=self.settings.limit,
            note="ranked by late interaction" if self.settings.late_interaction else None,
        )

    def _write_predictions(self, task: TaskSpec, data: TaskData, ranking: Ranking) -> None:
        lines = []
        for query, places, scores in zip(data.query_ids, ranking.indices, ranking.scores, strict=True):
            # Nothing has the score of a candidate that is empty.
            best = [
                (data.candidate_names[place], round(score, 6) if math.isfinite(score) else None)
                for place, score in zip(places.tolist(), scores.tolist(), strict=True)
                if place >= 0
            ]
            lines.append(json.dumps({"query": query, "ranked": best, "relevant": dict(data.relevant[query])}) + "\n")
        folder = self.path / _PREDICTIONS
        with writing(folder, "other_out"):
            folder.mkdir(exist_ok=True)
            write_atomically(_task_file(folder, task.name, ".jsonl"), "".join(lines))

    def _locked(self) -> AbstractContextManager[None]:
        path = self.path / _LOCK
        return locked(path, f"another run has held {path} for {self.patience_s:.0f} s", patience_s=self.patience_s)


def read_examples(folder: Path) -> dict[str, list[Example]]:
    """The examples in the folder of an evaluation, by dataset; none if it has kept none.

    Raises:
        DataError: a file cannot be read or holds something else; the message names it.
    """
    found: dict[str, list[Example]] = {}
    for path in sorted((folder / _EXAMPLES).glob("*.json")):
        if path.name.startswith("."):
            # File systems of other makes leave such beside a file.
            continue
        try:
            file = _ExampleFile.model_validate(load_json(path))
            if path != _task_file(folder / _EXAMPLES, file.dataset, ".json"):
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


def _task_file(folder: Path, task_name: str, suffix: str) -> Path:
    """The file of a task in a folder: named like the task where that is safe, otherwise by part of it and its hash."""
    if _SAFE_NAME.fullmatch(task_name):
        return folder / f"{task_name}{suffix}"
    digest = blake2b(task_name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    # "~" is in no safe name, so no other task has this file.
    return folder / f"{re.sub('[^A-Za-z0-9_-]', '_', task_name[:80])}~{digest}{suffix}"


class _ExampleFile(BaseModel, strict=True):
    dataset: Text
    examples: list[Example]


def _write_examples(folder: Path, dataset: str, examples: Sequence[Example]) -> None:
    """Write the examples of one dataset into the folder of an evaluation, in place of earlier ones."""
    document = _ExampleFile(dataset=dataset, examples=list(examples)).model_dump()
    path = _task_file(folder / _EXAMPLES, dataset, ".json")
    with writing(path, "other_out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(document, indent=1) + "\n")


def _pick_examples(data: TaskData, ranking: Ranking, metric: str) -> list[Example]:
    """The two best and the two worst queries by a metric, of equal ones by margin, then by id; best first.

    Fewer than four queries are all taken, those without any candidate never. Only the candidates that are shown are
    read.
    """
    ranking_QK = ranking.indices
    right = [_right(data, row, places) for row, places in enumerate(ranking_QK.tolist())]
    margins = [_margin(scores, of_query) for scores, of_query in zip(ranking.scores.tolist(), right, strict=True)]
    order = sorted(
        np.flatnonzero((ranking_QK >= 0).any(axis=1)).tolist(),
        key=lambda row: (-ranking.per_query[metric][row], -margins[row], data.query_ids[row]),
    )
    chosen = order if len(order) < 4 else order[:2] + order[-2:]
    found = {row: _right_place(data, row, ranking_QK[row].tolist(), right[row]) for row in chosen}
    places = {int(ranking_QK[row, 0]) for row in chosen} | {place for place in found.values() if place is not None}
    candidates = {place: _candidate(data, place) for place in sorted(places)}
    return [
        Example(
            query_id=data.query_ids[row],
            query=_shown(data.queries[row]),
            right=None if (place := found[row]) is None else candidates[place],
            rank=right[row].index(True) + 1 if any(right[row]) else None,
            top=candidates[int(ranking_QK[row, 0])],
            margin=margins[row],
        )
        for row in chosen
    ]


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


def _candidate(data: TaskData, place: int) -> _Shown:
    try:
        return _shown(data.candidates[place])
    except MediaError:
        # A page that is read from its table when it is asked for; it has no text.
        return _Shown(text="", picture=None)


def _shown(item: Item) -> _Shown:
    text = " ".join(item.text.replace(MEDIA_MARKER, " ").split())
    return _Shown(
        text=text if len(text) <= _LETTERS else text[: _LETTERS - 1] + "…",
        picture=thumbnail_uri(item.media[0], _THUMBNAIL_PX) if item.media else None,
    )
