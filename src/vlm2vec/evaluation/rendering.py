"""How is a report shown: as text, as Markdown, and as a page that needs nothing but itself?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from vlm2vec.evaluation.report import ModelRow, Report
from vlm2vec.evaluation.run_folder import Example
from vlm2vec.evaluation.scores import OVERALL, Mean
from vlm2vec.pages import page
from vlm2vec.tasks.data import TaskSpec
from vlm2vec.text import aligned, counted, markdown, printable

_METRICS: Mapping[str, tuple[str, ...]] = MappingProxyType({"retrieval": ("hit@1", "hit@5", "hit@10")})
"""Metrics shown of each dataset of a benchmark, the main one first; of other benchmarks that one alone."""

_TEMPLATES = Path(__file__).with_name("pages")

# Sizes of the plots in units of their own, which are about a pixel on a page of full width.
_LETTER = 6.4
_GROUP_WIDTH, _GROUP_NAME, _GROUP_NUMBER = 360, 170, 44
_DIFFERENCE_WIDTH, _DIFFERENCE_NAME, _DIFFERENCE_NUMBER = 540, 240, 46


def as_text(report: Report, *, with_datasets: bool = False) -> str:
    """Two tables for a terminal, of overall and modalities and of groups, and the notes.

    Args:
        with_datasets: a third table, of every dataset that the first model has a score for, controls last. It is there
            anyway if a benchmark shows several metrics, for means are of the main one only.
    """
    table = _summary_table(report)
    # Name, number of datasets, overall, modalities; then groups.
    split = 3 + len(report.modalities)
    rows = [[cell.text for cell in row] for row in table.rows]
    coarse = [[name, f"{found}/{len(report.tasks)}", *means[: split - 2]] for name, found, *means in rows]
    fine = [[row[0], *row[split:]] for row in rows]
    # "VD-OOD" above two lines, so that twelve columns of five figures fit beside a name.
    parted = (name.split("-", 1) if "-" in name else ("", name) for name in table.heads[split:])
    first, second = zip(*parted, strict=True)
    parts = [
        aligned([[report.benchmark, "datasets", *table.heads[2:split]], *coarse]),
        aligned([["", *first], ["groups", *second], *fine]),
        "\n".join(_notes(report)),
        _datasets_text(report) if with_datasets or report.benchmark in _METRICS else "",
    ]
    return "\n\n".join(part for part in parts if part)


def as_markdown(report: Report) -> str:
    """The same as one Markdown table, then every dataset."""
    remarks = "\n".join(f"- {_escaped(note)}" for note in _notes(report))
    parts = [
        f"# {report.benchmark}",
        f"Scores times 100. Overall is the mean over all {len(report.tasks)} datasets.",
        _markdown(_summary_table(report)),
        remarks,
        "## Datasets",
        _markdown(_dataset_table(report)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def report_page(
    report: Report, examples: Mapping[str, Sequence[Example]] | None = None, *, examples_of: int = 0
) -> str:
    """One HTML page: the table, every mean as bars, differences of datasets, all datasets, examples. It loads nothing.

    Light or dark as the reader's system is. Without scripts it shows the same, only tables cannot be sorted.

    Args:
        examples: of one model, by dataset (`read_examples`). Those of datasets that the benchmark lacks are not shown.
        examples_of: which row of the report that model is.
    """
    whose = report.rows[examples_of]
    return page(
        _TEMPLATES,
        "report.html",
        title=f"{report.benchmark}: {counted(len(report.rows), 'model')}",
        num_datasets=len(report.tasks),
        summary=_sortable(_summary_table(report), mark_best=len(report.rows) > 1),
        notes=_notes(report),
        groups=_groups(report),
        first=report.rows[0].label,
        differences=_differences(report),
        datasets=_sortable(_dataset_table(report)),
        examples_of=whose.label,
        examples=[
            (task.name, f"{task.metric} {_score_text(whose.by_dataset[task.name], 1)}", of_dataset)
            for task in (*report.tasks, *report.controls)
            if (of_dataset := (examples or {}).get(task.name))
        ],
    )


class _Cell(NamedTuple):
    """A text of a table, and the score that it says, if it says one."""

    text: str
    score: float | None = None


class _ScoreTable(NamedTuple):
    """Rows below heads; the first cell of a row is its name."""

    heads: Sequence[str]
    rows: Sequence[Sequence[_Cell]]


def _summary_table(report: Report) -> _ScoreTable:
    """Every model with the number of its datasets and all means."""
    named = _means_shown(report)
    rows = [
        [_Cell(row.label), _Cell(str(row.means[OVERALL].found))]
        + [_Cell(_mean_text(row.means[name], decimals), row.means[name].score) for name, decimals in named]
        for row in report.rows
    ]
    return _ScoreTable(["model", "n", *(name for name, _ in named)], rows)


def _dataset_table(report: Report) -> _ScoreTable:
    """Every dataset that counts, with its group, its main metric, and what is shown of each model."""
    metrics = _metrics(report)
    heads = [row.label if metric is None else f"{row.label} {metric}" for row in report.rows for metric in metrics]
    rows = [[_Cell(task.name), _Cell(task.group), _Cell(task.metric), *_scores(report, task)] for task in report.tasks]
    return _ScoreTable(["dataset", "group", "metric", *heads], rows)


def _means_shown(report: Report) -> list[tuple[str, int]]:
    """Names of the means in the order of a table, with the decimals that are published of each."""
    coarse = {OVERALL, *report.modalities}
    return [(name, 2 if name in coarse else 1) for name in report.rows[0].means]


def _mean_text(mean: Mean, decimals: int) -> str:
    """A mean for a table: with a star if datasets are missing from it, a dash if it has no score."""
    return _score_text(mean.score, decimals) + ("*" if mean.missing and mean.score is not None else "")


def _score_text(score: float | None, decimals: int) -> str:
    """A score for a table; a dash for none."""
    # First to four decimals, as the published averages are: so 72.85 is rounded as that number and not by the error of
    # the sum that gave it.
    return "-" if score is None else f"{round(score, 4):.{decimals}f}"


def _notes(report: Report) -> list[str]:
    """What a reader must know beside the numbers: which datasets are missing from whose means, which do not count."""
    return [
        *_dataset_notes(report),
        *_query_notes(report),
        *_run_notes(report),
        *_control_notes(report),
    ]


def _dataset_notes(report: Report) -> Iterator[str]:
    lacking: dict[str, list[str]] = {}
    for row in report.rows:
        if row.means[OVERALL].missing:
            lacking.setdefault(_missing(report, row), []).append(row.label)
    for names, labels in lacking.items():
        yield f"* without {names}: {_who(report, labels)}"
    few = [row.label for row in report.rows if any(mean.found and mean.score is None for mean in row.means.values())]
    if few:
        yield f"- where more than half of the datasets of {report.rows[0].label} are missing: {_who(report, few)}"
    unlisted: dict[str, list[str]] = {}
    for row in report.rows:
        if row.unlisted:
            unlisted.setdefault(", ".join(row.unlisted), []).append(row.label)
    for names, labels in unlisted.items():
        yield f"not counted, for {report.benchmark} has no such dataset: {names} ({_who(report, labels)})"


def _query_notes(report: Report) -> Iterator[str]:
    """Of which models only some queries were asked, and of which datasets different numbers of them."""
    for row in report.rows:
        if row.scores.limit is not None:
            yield (
                f"only the first {row.scores.limit} queries of each dataset, and of candidates that come with queries "
                f"only theirs, so not to be compared with whole datasets: {row.label}"
            )
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
        if dropped := row.scores.dropped_frames:
            counts = ", ".join(f"{count:,} of {name}" for name, count in dropped.items())
            yield f"{row.label}: damaged frames were left out of videos, as published: {counts}"
    for row in report.rows:
        if row.scores.note:
            yield f"{row.label}: {printable(row.scores.note)}"


def _control_notes(report: Report) -> Iterator[str]:
    for task in report.controls:
        found = [(row.label, score) for row in report.rows if (score := row.by_dataset[task.name]) is not None]
        if found:
            scores = ", ".join(f"{label} {_score_text(score, 1)}" for label, score in found)
            yield f"control {task.name}, which counts for no mean ({task.metric}): {scores}"


def _missing(report: Report, row: ModelRow) -> str:
    """Missing datasets by name, or by modality or group where all of one are missing."""
    missing = set(row.means[OVERALL].missing)
    words = []
    for modality in report.modalities:
        of_modality = [task for task in report.tasks if task.modality == modality]
        of_group: dict[str, list[TaskSpec]] = {}
        for task in of_modality:
            of_group.setdefault(task.group, []).append(task)
        for name, members in [(modality, of_modality), *of_group.items()]:
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


def _scores(report: Report, task: TaskSpec) -> list[_Cell]:
    """What is shown of a dataset, one model after another."""
    scores = [row.scores.score(task, metric) for row in report.rows for metric in _metrics(report)]
    return [_Cell(_score_text(score, 1), score) for score in scores]


def _markdown(table: _ScoreTable) -> str:
    rows = [[_escaped(name.text), *(cell.text for cell in cells)] for name, *cells in table.rows]
    return markdown([[_escaped(head) for head in table.heads], *rows])


def _escaped(text: str) -> str:
    # Else a note's star would open a list within the list.
    return text.replace("|", "\\|").replace("*", "\\*")


class _Bar(NamedTuple):
    """A bar with its name at the left of the plot and its number at the bar's end."""

    kind: str
    name: str
    short_name: str
    left: float
    length: float
    number: str
    number_x: float
    anchor: str


class _Plot(NamedTuple):
    """Bars below each other; with `zero` at both sides of a line."""

    label: str
    width: int
    bars: Sequence[_Bar]
    zero: float | None = None


class _Differences(NamedTuple):
    """The first model beside another one, a plot for each modality."""

    model: str
    outcome: str
    plots: Sequence[tuple[str, _Plot]]


def _sortable(table: _ScoreTable, *, mark_best: bool = False) -> dict[str, object]:
    """A table for the template: by which columns it can be sorted, and what is shown as the best of each."""
    columns = [[cell.score for cell in column if cell.score is not None] for column in zip(*table.rows, strict=True)]
    return {
        "heads": table.heads,
        "rows": table.rows,
        "sorts": [bool(scores) for scores in columns],
        "best": [max(scores) if mark_best and len(scores) > 1 else None for scores in columns],
    }


def _groups(report: Report) -> list[tuple[str, str, _Plot]]:
    """Each mean by name, with the number of its datasets and a bar for every model."""
    groups = []
    for name, decimals in _means_shown(report):
        bars = []
        for place, row in enumerate(report.rows):
            mean = row.means[name]
            length = (mean.score or 0) / 100 * (_GROUP_WIDTH - _GROUP_NAME - _GROUP_NUMBER)
            kind = "other" if place else "first"
            bars.append(_bar(kind, row.label, _GROUP_NAME, _GROUP_NAME, length, _mean_text(mean, decimals)))
        datasets = report.rows[0].means[name]
        size = counted(datasets.found + len(datasets.missing), "dataset")
        groups.append((name, size, _Plot(f"{name} of every model", _GROUP_WIDTH, bars)))
    return groups


def _differences(report: Report) -> list[_Differences]:
    first, *others = report.rows
    found = []
    for other in others:
        pairs = [
            (task, mine - theirs)
            for task in report.tasks
            if (mine := first.by_dataset[task.name]) is not None and (theirs := other.by_dataset[task.name]) is not None
        ]
        pairs.sort(key=lambda pair: -pair[1])
        # One scale for the plots of all modalities.
        largest = max((abs(difference) for _, difference in pairs), default=0.0) or 1.0
        plots = [
            (modality, _diverging(chosen, largest))
            for modality in report.modalities
            if (chosen := [(task.name, difference) for task, difference in pairs if task.modality == modality])
        ]
        wins = sum(difference > 0 for _, difference in pairs)
        losses = sum(difference < 0 for _, difference in pairs)
        found.append(_Differences(other.label, f"better on {wins}, worse on {losses} of {len(pairs)}", plots))
    return found


def _diverging(differences: Sequence[tuple[str, float]], largest: float) -> _Plot:
    """Bars to the right of a line where the first model is better, to the left where it is worse."""
    reach = (_DIFFERENCE_WIDTH - _DIFFERENCE_NAME) / 2 - _DIFFERENCE_NUMBER
    zero = _DIFFERENCE_NAME + _DIFFERENCE_NUMBER + reach
    bars = []
    for name, difference in differences:
        length = abs(difference) / largest * reach
        kind, left = ("better", zero) if difference >= 0 else ("worse", zero - length)
        bars.append(_bar(kind, name, _DIFFERENCE_NAME, left, length, f"{difference:+.1f}"))
    return _Plot("differences by dataset", _DIFFERENCE_WIDTH, bars, zero)


def _bar(kind: str, name: str, name_width: int, left: float, length: float, number: str) -> _Bar:
    """A bar; the middle of a name that is too long is cut out."""
    most = int(name_width / _LETTER) - 1
    short = name if len(name) <= most else f"{name[: most // 2]}\u2026{name[-(most // 2) :]}"
    number_x, anchor = (left - 5, "end") if kind == "worse" else (left + length + 5, "start")
    return _Bar(kind, name, short, round(left, 1), round(length, 1), number, round(number_x, 1), anchor)
