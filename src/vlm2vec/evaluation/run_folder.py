"""What lies in the folder of an evaluation, and how do several runs share it?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from vlm2vec.documents import load_json
from vlm2vec.errors import ConfigError, DataError
from vlm2vec.evaluation.examples import EXAMPLES, pick_examples, task_file, write_examples
from vlm2vec.evaluation.scores import (
    MODALITIES,
    SCORES,
    DatasetScores,
    ModelScores,
    Text,
    read_scores,
    write_scores,
)
from vlm2vec.evaluation.scoring import Ranking
from vlm2vec.files import locked, remove_drafts, write_atomically, writing
from vlm2vec.tasks.data import TaskData, TaskSpec
from vlm2vec.tasks.registry import get_tasks

PREDICTIONS = "predictions"
"""The folder of an evaluation that rankings lie in."""

RUN = "run.json"
"""The file of an evaluation that says of which model and settings it is."""

_LOCK = "scores.lock"


class RunSettings(BaseModel, frozen=True):
    """Two runs must have these in common to share a folder.

    Args:
        benchmark, model: their names.
        fingerprint: of the model.
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

    def __init__(self, path: Path, settings: RunSettings, *, patience_s: float = 60.0) -> None:
        self.path = path
        self.settings = settings
        self._patience_s = patience_s

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
        for place in (path, path / PREDICTIONS, path / EXAMPLES):
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
        examples = pick_examples(task.name, data, ranking.indices, ranking.scores, ranking.per_query, task.metric)
        write_examples(self.path / EXAMPLES, task.name, examples)
        # Last, so that a task with a score has all the rest too.
        self._change(task.name, scores)

    def drop(self, task: TaskSpec) -> None:
        """Remove the results of a task; without any task left there is no score file.

        Raises:
            StorageError: the folder cannot be written.
        """
        self._change(task.name, None)
        with writing(self.path, "other_out"):
            task_file(self.path / PREDICTIONS, task.name, ".jsonl").unlink(missing_ok=True)
            task_file(self.path / EXAMPLES, task.name, ".json").unlink(missing_ok=True)

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
            best = _named(data.candidate_names, places.tolist(), scores.tolist())
            lines.append(json.dumps({"query": query, "ranked": best, "relevant": dict(data.relevant[query])}) + "\n")
        folder = self.path / PREDICTIONS
        with writing(folder, "other_out"):
            folder.mkdir(exist_ok=True)
            write_atomically(task_file(folder, task.name, ".jsonl"), "".join(lines))

    def _locked(self) -> AbstractContextManager[None]:
        path = self.path / _LOCK
        return locked(path, f"another run has held {path} for {self._patience_s:.0f} s", patience_s=self._patience_s)


def _named(names: Sequence[str], places: list[int], scores: list[float]) -> list[list[object]]:
    """Ranked candidates with their scores; nothing has the score of one that is empty."""
    return [
        [names[place], round(score, 6) if np.isfinite(score) else None]
        for place, score in zip(places, scores, strict=True)
        if place >= 0
    ]
