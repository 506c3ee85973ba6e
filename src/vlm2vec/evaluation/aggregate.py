"""What do the scores of single datasets amount to? Means over fixed lists, and what is missing from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from vlm2vec.evaluation.scores import ModelScores
from vlm2vec.tasks.data import TaskSpec

OVERALL = "overall"


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of dataset scores.

    Args:
        name: "overall", a modality or a group.
        score: the mean times 100 over those datasets that have a score; None if none has, or so few that it would
            mislead (`comparable`).
        found: how many have one.
        missing: names of the datasets that have none, in the order of the benchmark's table.
    """

    name: str
    score: float | None
    found: int
    missing: tuple[str, ...]


def dataset_score(scores: ModelScores, task: TaskSpec, metric: str | None = None) -> float | None:
    """100 times the dataset's main metric, or another one; None if the file lacks the dataset."""
    found = scores.datasets.get(task.modality, {}).get(task.name)
    return None if found is None else 100 * found.metrics[metric or task.metric]


def means(scores: ModelScores, tasks: Sequence[TaskSpec]) -> dict[str, Mean]:
    """Plain means over all datasets, over those of each modality and of each group, in the order of `tasks`.

    The overall score is the mean over all datasets, not over modalities. Datasets that `tasks` lacks do not count, and
    controls do not. Formula of the published MMEB-V2 averages.
    """
    tasks = [task for task in tasks if not task.control]
    by_name = {
        OVERALL: list(tasks),
        **{modality: [task for task in tasks if task.modality == modality] for modality in modalities(tasks)},
        **{group: [task for task in tasks if task.group == group] for group in groups(tasks)},
    }
    return {name: _mean(name, scores, members) for name, members in by_name.items()}


def comparable(mean: Mean, reference: Mean) -> Mean:
    """The mean, without its score if it lacks more than half of the datasets that a reference has.

    A mean over a few datasets of many says more about which these are than about the model.
    """
    # Both are over one list, so the reference has all that it does not miss.
    missing_in_both = len(set(mean.missing) & set(reference.missing))
    lacking = len(mean.missing) - missing_in_both
    return replace(mean, score=None) if 2 * lacking > reference.found else mean


def modalities(tasks: Sequence[TaskSpec]) -> list[str]:
    """Each modality once, in order."""
    return list(dict.fromkeys(task.modality for task in tasks))


def groups(tasks: Sequence[TaskSpec]) -> list[str]:
    """Each group once, in order."""
    return list(dict.fromkeys(task.group for task in tasks))


def _mean(name: str, scores: ModelScores, tasks: Sequence[TaskSpec]) -> Mean:
    of_task = {task.name: dataset_score(scores, task) for task in tasks}
    found = [score for score in of_task.values() if score is not None]
    return Mean(
        name,
        fmean(found) if found else None,
        len(found),
        tuple(task for task, score in of_task.items() if score is None),
    )
