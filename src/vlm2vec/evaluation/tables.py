"""How is a report said: in tables, and in notes beside them?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from vlm2vec.evaluation.aggregate import OVERALL, Mean, dataset_score, groups, modalities
from vlm2vec.evaluation.report import ModelRow, Report
from vlm2vec.evaluation.scores import dropped_frames
from vlm2vec.tasks.data import TaskSpec
from vlm2vec.text import aligned, markdown, printable

_METRICS: Mapping[str, tuple[str, ...]] = MappingProxyType({"retrieval": ("hit@1", "hit@5", "hit@10")})
"""Metrics shown of each dataset of a benchmark, the main one first; of other benchmarks that one alone."""


class Cell(NamedTuple):
    """A text of a table, and the score that it says, if it says one."""

    text: str
    score: float | None = None


class ScoreTable(NamedTuple):
    """Rows below heads; the first cell of a row is its name."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def as_text(report: Report, *, with_datasets: bool = False) -> str:
    """Two tables for a terminal, of overall and modalities and of groups, and the notes.

    Args:
        with_datasets: a third table, of every dataset that the first model has a score for, controls last. It is there
            anyway if a benchmark shows several metrics, for means are of the main one only.
    """
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
        _datasets_text(report) if with_datasets or report.benchmark in _METRICS else "",
    ]
    return "\n\n".join(part for part in parts if part)


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


def notes(report: Report) -> list[str]:
    """What a reader must know beside the numbers: which datasets are missing from whose means, which do not count."""
    return [
        *_missing_notes(report),
        *_unlisted_notes(report),
        *_limit_notes(report),
        *_query_notes(report),
        *_run_notes(report),
        *_control_notes(report),
    ]


def _missing_notes(report: Report) -> Iterator[str]:
    lacking: dict[str, list[str]] = {}
    for row in report.rows:
        if row.means[OVERALL].missing:
            lacking.setdefault(_missing(report, row), []).append(row.label)
    for names, labels in lacking.items():
        yield f"* without {names}: {_who(report, labels)}"
    few = [row.label for row in report.rows if any(mean.found and mean.score is None for mean in row.means.values())]
    if few:
        yield f"- where more than half of the datasets of {report.rows[0].label} are missing: {_who(report, few)}"


def _unlisted_notes(report: Report) -> Iterator[str]:
    unlisted: dict[str, list[str]] = {}
    for row in report.rows:
        if row.unlisted:
            unlisted.setdefault(", ".join(row.unlisted), []).append(row.label)
    for names, labels in unlisted.items():
        yield f"not counted, for {report.benchmark} has no such dataset: {names} ({_who(report, labels)})"


def _limit_notes(report: Report) -> Iterator[str]:
    for row in report.rows:
        if row.scores.limit is not None:
            yield (
                f"only the first {row.scores.limit} queries of each dataset, and of candidates that come with queries "
                f"only theirs, so not to be compared with whole datasets: {row.label}"
            )


def _query_notes(report: Report) -> Iterator[str]:
    """Datasets of which models were asked different numbers of queries; a limit has a note of its own."""
    for task in (*report.tasks, *report.controls):
        asked: dict[int, list[str]] = {}
        for row in report.rows:
            found = row.scores.datasets.get(task.modality, {}).get(task.name)
            if found is not None and row.scores.limit is None:
                asked.setdefault(found.num_queries, []).append(row.label)
        if len(asked) > 1:
            each = "; ".join(f"{count:,} to {_who(report, labels)}" for count, labels in sorted(asked.items()))
            yield f"{task.name} was not asked alike, so scores are of different queries: {each}"


def _run_notes(report: Report) -> Iterator[str]:
    """What was left out of the runs, and what their score files say of them."""
    for row in report.rows:
        if dropped := dropped_frames(row.scores):
            counts = ", ".join(f"{count:,} of {name}" for name, count in dropped.items())
            yield f"{row.label}: damaged frames were left out of videos, as published: {counts}"
    for row in report.rows:
        if row.scores.note:
            yield f"{row.label}: {printable(row.scores.note)}"


def _control_notes(report: Report) -> Iterator[str]:
    for task in report.controls:
        found = [(row.label, score) for row in report.rows if (score := row.by_dataset[task.name]) is not None]
        if found:
            scores = ", ".join(f"{label} {score_text(score, 1)}" for label, score in found)
            yield f"control {task.name}, which counts for no mean ({task.metric}): {scores}"


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


def _datasets_text(report: Report) -> str:
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


def _metrics(report: Report) -> tuple[str | None, ...]:
    """What is shown of each dataset; None stands for its main metric."""
    return _METRICS.get(report.benchmark, (None,))


def _scores(report: Report, task: TaskSpec) -> list[Cell]:
    """What is shown of a dataset, one model after another."""
    scores = [dataset_score(row.scores, task, metric) for row in report.rows for metric in _metrics(report)]
    return [Cell(score_text(score, 1), score) for score in scores]


def _markdown(table: ScoreTable) -> str:
    rows = [[_escaped(name.text), *(cell.text for cell in cells)] for name, *cells in table.rows]
    return markdown([[_escaped(head) for head in table.heads], *rows])


def _escaped(text: str) -> str:
    # Else a note's star would open a list within the list.
    return text.replace("|", "\\|").replace("*", "\\*")
