"""Which models does a report compare, on which datasets, and by which scores?

Models of the MMEB-V2 publication are in `published/`, as its own score files; README.md there says whence.
"""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vlm2vec.errors import ConfigError, DataError, Hint, InputError
from vlm2vec.evaluation.run_folder import RUN, Example, read_examples
from vlm2vec.evaluation.scores import SCORES, Mean, ModelScores, read_score_list
from vlm2vec.tasks.data import TaskSpec
from vlm2vec.tasks.registry import get_tasks, packaged_root
from vlm2vec.text import printable

VERSIONS = ("v2.0.0", "v2.0.1", "v2.1")
"""Of the published scores, oldest first."""

_PUBLISHED = "published"


@dataclass(frozen=True, slots=True)
class Entry:
    """One model's scores.

    Args:
        origin: where they are from, in words short enough for a table.
        folder: of the evaluation that they are of; None if they are not of one.
    """

    scores: ModelScores
    origin: str
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model of a report: means by name, scores times 100 by dataset, and datasets that do not count.

    A mean has no score if it lacks more than half of the datasets that the first model of the report has.
    """

    label: str
    scores: ModelScores
    means: dict[str, Mean]
    by_dataset: dict[str, float | None]
    unlisted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Models on the datasets of one benchmark; the first row is the one that others are compared with.

    Args:
        tasks: that count.
        controls: that show what a model must not be able to do.
    """

    benchmark: str
    tasks: tuple[TaskSpec, ...]
    controls: tuple[TaskSpec, ...]
    rows: tuple[ModelRow, ...]

    @property
    def modalities(self) -> list[str]:
        """Each modality once, in the order of the tasks."""
        return list(dict.fromkeys(task.modality for task in self.tasks))


def read_entries(paths: Iterable[Path]) -> list[Entry]:
    """Score files in the order given. A folder stands for its `scores.json`, else for all its .json files by name.

    Raises:
        DataError: a file is missing or no score file, or a folder holds none.
    """
    entries = []
    for path in paths:
        files = [path]
        if path.is_dir():
            if (path / RUN).is_file() and not (path / SCORES).is_file():
                raise DataError(
                    f"{path} holds an evaluation of which no task has a score yet", Hint("evaluate", str(path))
                )
            files = [path / SCORES] if (path / SCORES).is_file() else sorted(path.glob("*.json"))
            if not files:
                raise DataError(f"there is no .json file in {path}; give the folder of an evaluation or a score file")
        for file in files:
            # Beside score files of other names there may be an evaluation of any model.
            folder = file.parent if file.name == SCORES else None
            entries += [Entry(one, file.resolve().parent.name, folder) for one in read_score_list(file)]
    return entries


def published_entries(name: str) -> list[Entry]:
    """The eight published models in the order of their names.

    Args:
        name: "published:" and one of `VERSIONS`, as it was published; or "published" for the newest, v2.1, made whole:
            the two datasets that it lacks, ViDoSeek-doc and MMLongBench-doc, are taken from v2.0.1.

    Raises:
        ConfigError: there is no such name.
    """
    if name == _PUBLISHED:
        return [
            Entry(_completed(newest, older), _PUBLISHED)
            for newest, older in zip(_read_published("v2.1"), _read_published("v2.0.1"), strict=True)
        ]
    version = name.removeprefix(f"{_PUBLISHED}:")
    if version == name or version not in VERSIONS:
        known = [_PUBLISHED, *(f"{_PUBLISHED}:{version}" for version in VERSIONS)]
        raise ConfigError(f"nothing named {name!r} to compare with; there are {', '.join(known)}")
    return [Entry(scores, f"{_PUBLISHED} {version}") for scores in _read_published(version)]


def first_examples(entries: Sequence[Entry]) -> tuple[int, dict[str, list[Example]]]:
    """The examples of the first evaluation that has kept some, by dataset, and the place of its entry; (0, {}) if none.

    Raises:
        DataError: they are damaged.
    """
    for place, entry in enumerate(entries):
        if entry.folder is not None and (found := read_examples(entry.folder)):
            return place, found
    return 0, {}


def run_report(scores: ModelScores, folder: Path) -> Report:
    """A run's own scores, and beside them the baselines that come with its benchmark, on the datasets of the run.

    Raises:
        ConfigError: the benchmark is unknown.
    """
    root = packaged_root(scores.benchmark)
    # Where candidates come with the queries, fewer queries have fewer candidates: whole baselines say nothing then.
    baselines = [] if root is None or scores.limit is not None else read_entries([root / "baselines"])
    # Means over other datasets than the run's could not be compared with its own.
    return build_report([Entry(scores, str(folder), folder), *(_limited_to(one, scores) for one in baselines)])


def build_report(entries: Sequence[Entry]) -> Report:
    """Put models side by side. Models of the same name are told apart by where their scores are from.

    Raises:
        InputError: there are no models, or they are from different benchmarks.
        ConfigError: the benchmark is unknown.
    """
    benchmarks = sorted({entry.scores.benchmark for entry in entries})
    if len(benchmarks) != 1:
        found = ", ".join(benchmarks) or "none"
        raise InputError(f"a report compares models on one benchmark; the scores are from: {found}")
    listed = get_tasks(benchmarks[0])
    tasks = tuple(task for task in listed if not task.control)
    controls = tuple(task for task in listed if task.control)
    rows = [_row(label, entry.scores, tasks, controls) for label, entry in zip(_labels(entries), entries, strict=True)]
    first = rows[0].means
    shown = [
        replace(row, means={name: _comparable(mean, first[name]) for name, mean in row.means.items()}) for row in rows
    ]
    return Report(benchmarks[0], tasks, controls, tuple(shown))


def _read_published(version: str) -> list[ModelScores]:
    with zipfile.ZipFile(Path(__file__).with_name("published") / f"{version}.zip") as archive:
        return [ModelScores.of_document(json.loads(archive.read(name)), name) for name in sorted(archive.namelist())]


def _completed(scores: ModelScores, older: ModelScores) -> ModelScores:
    """The scores, with those datasets of the older ones that they lack."""
    datasets = {modality: {**older.datasets[modality], **scores.datasets[modality]} for modality in older.datasets}
    return replace(scores, datasets=datasets)


def _comparable(mean: Mean, reference: Mean) -> Mean:
    """The mean, without its score if it lacks more than half of the datasets that a reference has.

    A mean over a few datasets of many says more about which these are than about the model.
    """
    # Both are over one list, so the reference has all that it does not miss.
    lacking = len(set(mean.missing) - set(reference.missing))
    return replace(mean, score=None) if 2 * lacking > reference.found else mean


def _limited_to(entry: Entry, scores: ModelScores) -> Entry:
    """An entry with only those datasets that other scores have too."""
    datasets = {
        modality: {name: one for name, one in of_modality.items() if name in scores.datasets.get(modality, {})}
        for modality, of_modality in entry.scores.datasets.items()
    }
    return replace(entry, scores=replace(entry.scores, datasets=datasets))


def _row(label: str, scores: ModelScores, tasks: Sequence[TaskSpec], controls: Sequence[TaskSpec]) -> ModelRow:
    listed = {(task.modality, task.name) for task in (*tasks, *controls)}
    given = ((modality, name) for modality, datasets in scores.datasets.items() for name in datasets)
    unlisted = [printable(named[1]) for named in given if named not in listed]
    by_dataset = {task.name: scores.score(task) for task in (*tasks, *controls)}
    return ModelRow(label, scores, scores.means(tasks), by_dataset, tuple(unlisted))


def _labels(entries: Sequence[Entry]) -> list[str]:
    """Names of the models; with their origins where names are equal, and with numbers where origins are equal too."""
    names = Counter(entry.scores.model for entry in entries)
    labels = [
        entry.scores.model if names[entry.scores.model] == 1 else f"{entry.scores.model} ({entry.origin})"
        for entry in entries
    ]
    same, seen = Counter(labels), Counter[str]()
    for place, label in enumerate(labels):
        if same[label] > 1:
            seen[label] += 1
            labels[place] = f"{label} {seen[label]}"
    return [printable(label) for label in labels]
