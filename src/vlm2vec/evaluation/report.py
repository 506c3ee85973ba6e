"""How do models compare on a benchmark? One table, for a terminal, in Markdown or for submission."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from vlm2vec.errors import ConfigError, DataError, Hint, InputError
from vlm2vec.evaluation.aggregate import OVERALL, Mean, comparable, dataset_score, groups, means, modalities
from vlm2vec.evaluation.examples import EXAMPLES, Example, read_examples
from vlm2vec.evaluation.published import VERSIONS, read_published
from vlm2vec.evaluation.run_folder import RUN
from vlm2vec.evaluation.scores import SCORES, ModelScores, dropped_frames, read_score_list
from vlm2vec.tasks.data import TaskSpec
from vlm2vec.tasks.registry import get_tasks, packaged_root
from vlm2vec.text import aligned, markdown, printable

SHOWN_METRICS: Mapping[str, tuple[str, ...]] = MappingProxyType({"retrieval": ("hit@1", "hit@5", "hit@10")})
"""What is shown of each dataset of a benchmark, the main metric first; of others that one alone."""

_PUBLISHED = "published"


@dataclass(frozen=True, slots=True)
class Entry:
    """One model's scores.

    Args:
        scores: of the model.
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


class Cell(NamedTuple):
    """A text of a table, and the score that it says, if it says one."""

    text: str
    score: float | None = None


class ScoreTable(NamedTuple):
    """Rows below heads; the first cell of a row is its name."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]


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
    """The published models by name: "published" for the newest scores, or a version such as "published:v2.0.0".

    Raises:
        ConfigError: there is no such name.
    """
    word, _, version = name.partition(":")
    if word != _PUBLISHED or (version and version not in VERSIONS):
        known = [_PUBLISHED, *(f"{_PUBLISHED}:{version}" for version in VERSIONS)]
        raise ConfigError(f"nothing named {name!r} to compare with; there are {', '.join(known)}")
    return [Entry(scores, f"{_PUBLISHED} {version}".rstrip()) for scores in read_published(version or None)]


def first_examples(entries: Sequence[Entry]) -> tuple[int, dict[str, list[Example]]]:
    """The examples of the first evaluation that has kept some, by dataset, and the place of its entry; (0, {}) if none.

    Raises:
        ConfigError: they are damaged.
    """
    for place, entry in enumerate(entries):
        if entry.folder is not None and (found := read_examples(entry.folder / EXAMPLES)):
            return place, found
    return 0, {}


def run_report(scores: ModelScores, folder: Path) -> Report:
    """A run's own scores, and beside them the baselines that come with its benchmark, on the datasets of the run.

    Args:
        folder: of the run.

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
        replace(row, means={name: comparable(mean, first[name]) for name, mean in row.means.items()}) for row in rows
    ]
    return Report(benchmarks[0], tasks, controls, tuple(shown))


def means_shown(report: Report) -> list[tuple[str, int]]:
    """Names of the means in the order of a table, with the decimals that are published of each."""
    coarse = [OVERALL, *modalities(report.tasks)]
    return [(name, 2) for name in coarse] + [(name, 1) for name in groups(report.tasks)]


def mean_text(mean: Mean, decimals: int) -> str:
    """A mean for a table: with a star if datasets are missing from it, a dash if it has no score."""
    return score_text(mean.score, decimals) + ("*" if mean.missing and mean.score is not None else "")


def score_text(score: float | None, decimals: int) -> str:
    """A score for a table; a dash for none."""
    # First to four decimals, as the published averages are: so 72.85 is rounded as that number and not by the error of
    # the sum that gave it.
    return "-" if score is None else f"{round(score, 4):.{decimals}f}"


def summary_table(report: Report) -> ScoreTable:
    """Every model with the number of its datasets and all means."""
    named = means_shown(report)
    rows = [
        [Cell(row.label), Cell(str(row.means[OVERALL].found))]
        + [Cell(mean_text(row.means[name], decimals), row.means[name].score) for name, decimals in named]
        for row in report.rows
    ]
    return ScoreTable(["model", "n", *(name for name, _ in named)], rows)


def dataset_table(report: Report) -> ScoreTable:
    """Every dataset that counts, with its group, its main metric, and what is shown of each model."""
    metrics = _metrics(report)
    heads = [row.label if metric is None else f"{row.label} {metric}" for row in report.rows for metric in metrics]
    rows = [[Cell(task.name), Cell(task.group), Cell(task.metric), *_scores(report, task)] for task in report.tasks]
    return ScoreTable(["dataset", "group", "metric", *heads], rows)


def notes(report: Report) -> list[str]:
    """What a reader must know beside the numbers: which datasets are missing from whose means, which do not count."""
    lacking: dict[str, list[str]] = {}
    unlisted: dict[str, list[str]] = {}
    few = [row.label for row in report.rows if any(mean.found and mean.score is None for mean in row.means.values())]
    for row in report.rows:
        if row.means[OVERALL].missing:
            lacking.setdefault(_missing(report, row), []).append(row.label)
        if row.unlisted:
            unlisted.setdefault(", ".join(row.unlisted), []).append(row.label)
    return [
        *(f"* without {names}: {_who(report, labels)}" for names, labels in lacking.items()),
        *(
            [f"- where more than half of the datasets of {report.rows[0].label} are missing: {_who(report, few)}"]
            if few
            else []
        ),
        *(
            f"not counted, for {report.benchmark} has no such dataset: {names} ({_who(report, labels)})"
            for names, labels in unlisted.items()
        ),
        *(
            f"only the first {row.scores.limit} queries of each dataset, and of candidates that come with queries only "
            f"theirs, so not to be compared with whole datasets: {row.label}"
            for row in report.rows
            if row.scores.limit is not None
        ),
        *_other_queries(report),
        *(
            f"{row.label}: damaged frames were left out of videos, as published: "
            + ", ".join(f"{count:,} of {name}" for name, count in dropped.items())
            for row in report.rows
            if (dropped := dropped_frames(row.scores))
        ),
        *(f"{row.label}: {printable(row.scores.note)}" for row in report.rows if row.scores.note),
        *(
            _control(report, task)
            for task in report.controls
            if any(row.by_dataset[task.name] is not None for row in report.rows)
        ),
    ]


def _other_queries(report: Report) -> Iterator[str]:
    """Datasets of which models were asked different numbers of queries; a limit is told of beside."""
    for task in (*report.tasks, *report.controls):
        asked: dict[int, list[str]] = {}
        for row in report.rows:
            found = row.scores.datasets.get(task.modality, {}).get(task.name)
            if found is not None and row.scores.limit is None:
                asked.setdefault(found.num_queries, []).append(row.label)
        if len(asked) > 1:
            each = "; ".join(f"{count:,} to {_who(report, labels)}" for count, labels in sorted(asked.items()))
            yield f"{task.name} was not asked alike, so scores are of different queries: {each}"


def as_text(report: Report) -> str:
    """Two tables for a terminal, of overall and modalities and of groups, and the notes."""
    table = summary_table(report)
    # Name, number of datasets, overall, modalities; then groups.
    split = 3 + len(modalities(report.tasks))
    rows = [[cell.text for cell in row] for row in table.rows]
    coarse = [[name, f"{found}/{len(report.tasks)}", *means[: split - 2]] for name, found, *means in rows]
    fine = [[row[0], *row[split:]] for row in rows]
    # "VD-OOD" above two lines, so that twelve columns of five figures fit beside a name.
    parted = (name.split("-", 1) if "-" in name else ("", name) for name in table.heads[split:])
    first, second = zip(*parted, strict=True)
    parts = [
        aligned([[report.benchmark, "datasets", *table.heads[2:split]], *coarse]),
        aligned([["", *first], ["groups", *second], *fine]),
        "\n".join(notes(report)),
    ]
    return "\n\n".join(part for part in parts if part)


def datasets_text(report: Report) -> str:
    """A table for a terminal of every dataset that the first model has a score for, controls last."""
    rows = [
        [task.name, "control" if task.control else task.group, *(cell.text for cell in _scores(report, task))]
        for task in (*report.tasks, *report.controls)
        if report.rows[0].by_dataset[task.name] is not None
    ]
    metrics, labels = _metrics(report), [row.label for row in report.rows]
    if metrics == (None,):
        return aligned([["dataset", "group", *labels], *rows])
    # A model's name once, above its metrics.
    names = [label if place == 0 else "" for label in labels for place in range(len(metrics))]
    return aligned([["", "", *names], ["dataset", "group", *(str(one) for _ in labels for one in metrics)], *rows])


def as_markdown(report: Report) -> str:
    """The same as one Markdown table, then every dataset."""
    remarks = "\n".join(f"- {_escaped(note)}" for note in notes(report))
    parts = [
        f"# {report.benchmark}",
        f"Scores times 100. Overall is the mean over all {len(report.tasks)} datasets.",
        _markdown(summary_table(report)),
        remarks,
        "## Datasets",
        _markdown(dataset_table(report)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _metrics(report: Report) -> tuple[str | None, ...]:
    """What is shown of each dataset; None stands for its main metric."""
    return SHOWN_METRICS.get(report.benchmark, (None,))


def _scores(report: Report, task: TaskSpec) -> list[Cell]:
    """What is shown of a dataset, one model after another."""
    scores = [dataset_score(row.scores, task, metric) for row in report.rows for metric in _metrics(report)]
    return [Cell(score_text(score, 1), score) for score in scores]


def _markdown(table: ScoreTable) -> str:
    rows = [[_escaped(name.text), *(cell.text for cell in cells)] for name, *cells in table.rows]
    return markdown([[_escaped(head) for head in table.heads], *rows])


def _limited_to(entry: Entry, scores: ModelScores) -> Entry:
    """An entry with only those datasets that other scores have too."""
    datasets = {
        modality: {name: one for name, one in of_modality.items() if name in scores.datasets.get(modality, {})}
        for modality, of_modality in entry.scores.datasets.items()
    }
    return replace(entry, scores=replace(entry.scores, datasets=datasets))


def _row(label: str, scores: ModelScores, tasks: Sequence[TaskSpec], controls: Sequence[TaskSpec]) -> ModelRow:
    listed = {(task.modality, task.name) for task in (*tasks, *controls)}
    unlisted = [
        printable(name)
        for modality, datasets in scores.datasets.items()
        for name in datasets
        if (modality, name) not in listed
    ]
    by_dataset = {task.name: dataset_score(scores, task) for task in (*tasks, *controls)}
    return ModelRow(label, scores, means(scores, tasks), by_dataset, tuple(unlisted))


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


def _control(report: Report, task: TaskSpec) -> str:
    scores = ", ".join(
        f"{row.label} {score_text(row.by_dataset[task.name], 1)}"
        for row in report.rows
        if row.by_dataset[task.name] is not None
    )
    return f"control {task.name}, which counts for no mean ({task.metric}): {scores}"


def _missing(report: Report, row: ModelRow) -> str:
    """Missing datasets by name, or by modality or group where all of one are missing."""
    missing = set(row.means[OVERALL].missing)
    words = []
    for modality in modalities(report.tasks):
        of_modality = [task for task in report.tasks if task.modality == modality]
        for name, members in [(modality, of_modality)] + [
            (group, [task for task in of_modality if task.group == group]) for group in groups(of_modality)
        ]:
            if missing.issuperset(task.name for task in members):
                words.append(f"all {len(members)} of {name}")
                missing -= {task.name for task in members}
        words += [task.name for task in of_modality if task.name in missing]
    return ", ".join(words)


def _who(report: Report, labels: Sequence[str]) -> str:
    if len(labels) == len(report.rows) > 1:
        return "every model"
    return ", ".join(labels) if len(labels) <= 3 else f"{len(labels)} models, such as {labels[0]}"


def _escaped(text: str) -> str:
    # Else a note's star would open a list within the list.
    return text.replace("|", "\\|").replace("*", "\\*")
