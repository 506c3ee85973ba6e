"""What lies in the folder of an evaluation, and how do several runs share it?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from vlm2vec.documents import load_json
from vlm2vec.errors import ConfigError
from vlm2vec.evaluation.examples import EXAMPLES, pick_examples, task_file, write_examples
from vlm2vec.evaluation.scores import MODALITIES, SCORES, DatasetScores, ModelScores, read_scores, write_scores
from vlm2vec.evaluation.scoring import Ranking
from vlm2vec.files import atomic_writer, remove_drafts
from vlm2vec.tasks.data import TaskData, TaskSpec
from vlm2vec.tasks.registry import get_tasks

PREDICTIONS = "predictions"
"""The folder of an evaluation that rankings lie in."""

RUN = "run.json"
_LOCK = "scores.lock"
# Held for as long as it takes to read and write a file of some 100 kB.
_PATIENCE_S = 60.0


class RunSettings(NamedTuple):
    """What two runs must have in common to share a folder.

    Args:
        benchmark, model: their names.
        fingerprint: of the model.
        limit: only so many queries of each task; None: all.
        root: the data root; None: the benchmark's own data in this package.
        late_interaction: whether vectors of tokens are ranked.
    """

    benchmark: str
    model: str
    fingerprint: str
    limit: int | None
    root: str | None
    late_interaction: bool


class RunFolder:
    """The results of one model with one choice of settings. Make one with `RunFolder.claim`.

    Several runs may write to it at once, each its own tasks: the score file is read again before each change, under a
    lock.
    """

    def __init__(self, path: Path, settings: RunSettings) -> None:
        self.path = path
        self.settings = settings

    @classmethod
    def claim(cls, path: Path, settings: RunSettings) -> RunFolder:
        """Take a folder, which is made if it is missing, for runs with these settings, and clear it of drafts.

        Raises:
            ConfigError: it cannot be written, holds results of other settings, or its score file is damaged.
        """
        folder = cls(path, settings)
        try:
            path.mkdir(parents=True, exist_ok=True)
            with folder._locked():
                folder._check_settings()
            for place in (path, path / PREDICTIONS, path / EXAMPLES):
                remove_drafts(place)
        except (OSError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"cannot use {path} for an evaluation: {error}; give another folder with --out"
            ) from error
        folder.scores()
        return folder

    def scores(self) -> ModelScores:
        """What has been measured here so far, by this run and others.

        Raises:
            ConfigError: the score file is damaged.
        """
        return self._as_scores(self._known())

    def keep(self, task: TaskSpec, data: TaskData, ranking: Ranking, scores: DatasetScores) -> None:
        """Write what a task has given, in place of what it gave before.

        Raises:
            ConfigError: the folder cannot be written.
        """
        self._write_predictions(task, data, ranking)
        examples = pick_examples(task.name, data, ranking.indices, ranking.scores, ranking.per_query, task.metric)
        write_examples(self.path / EXAMPLES, task.name, examples)
        # Last, so that a task with a score has all the rest too.
        self._change(task.name, scores)

    def drop(self, task: TaskSpec) -> None:
        """Remove what a task gave before; without any task left there is no score file.

        Raises:
            ConfigError: the folder cannot be written.
        """
        self._change(task.name, None)
        try:
            task_file(self.path / PREDICTIONS, task.name, ".jsonl").unlink(missing_ok=True)
            task_file(self.path / EXAMPLES, task.name, ".json").unlink(missing_ok=True)
        except OSError as error:
            raise self._not_written(error) from error

    def _check_settings(self) -> None:
        path = self.path / RUN
        if not path.is_file():
            if (self.path / SCORES).exists():
                # Else scores of who knows which model would go on under this one's name.
                raise ConfigError(
                    f"{self.path} holds a {SCORES} and no {RUN} that says what it is of; give another folder with --out"
                )
            with atomic_writer(path) as stream:
                stream.write(json.dumps(self.settings._asdict(), indent=1).encode("ascii") + b"\n")
            return
        earlier = load_json(path)
        same_model = earlier.get("fingerprint") == self.settings.fingerprint
        for name, value in self.settings._asdict().items():
            # The name of a folder may be written in many ways.
            if earlier.get(name) != value and not (name == "model" and same_model):
                raise ConfigError(
                    f"{self.path} holds an evaluation with {name} {json.dumps(earlier.get(name))}, not "
                    f"{json.dumps(value)}; give another folder with --out"
                )

    def _known(self) -> dict[str, DatasetScores]:
        if not (self.path / SCORES).is_file():
            return {}
        datasets = read_scores(self.path / SCORES).datasets.values()
        return {name: one for of_modality in datasets for name, one in of_modality.items()}

    def _change(self, task: str, scores: DatasetScores | None) -> None:
        try:
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
                    (self.path / SCORES).unlink()
        except OSError as error:
            raise self._not_written(error) from error

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
        try:
            folder.mkdir(exist_ok=True)
            with atomic_writer(task_file(folder, task.name, ".jsonl")) as stream:
                stream.write("".join(lines).encode("ascii"))
        except OSError as error:
            raise self._not_written(error) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = FileLock(self.path / _LOCK)
        try:
            lock.acquire(timeout=_PATIENCE_S)
        except Timeout as error:
            raise ConfigError(
                f"another run has held {self.path / _LOCK} for {_PATIENCE_S:.0f} s: end it if it hangs, or delete the "
                "file if there is no such run"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _not_written(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"cannot write to {self.path}: {error.strerror}; free some space or give another folder with --out"
        )


def _named(names: Sequence[str], places: list[int], scores: list[float]) -> list[list[object]]:
    """Ranked candidates with their scores; nothing has the score of one that is empty."""
    return [
        [names[place], round(score, 6) if np.isfinite(score) else None]
        for place, score in zip(places, scores, strict=True)
        if place >= 0
    ]
