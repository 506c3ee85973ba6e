"""How does a report look as a page that needs nothing but itself?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vlm2vec.evaluation.aggregate import modalities
from vlm2vec.evaluation.examples import Example
from vlm2vec.evaluation.report import ModelRow, Report
from vlm2vec.evaluation.tables import (
    ScoreTable,
    dataset_table,
    mean_text,
    means_shown,
    notes,
    score_text,
    summary_table,
)
from vlm2vec.pages import page
from vlm2vec.tasks.data import TaskSpec
from vlm2vec.text import counted

_TEMPLATES = Path(__file__).with_name("pages")

# Sizes of the plots in units of their own, which are about a pixel on a page of full width.
_BAR, _LETTER = 20, 6.4
_GROUP_WIDTH, _GROUP_NAME, _GROUP_NUMBER = 360, 170, 44
_DIFFERENCE_WIDTH, _DIFFERENCE_NAME, _DIFFERENCE_NUMBER = 540, 240, 46


class _Bar(NamedTuple):
    """A bar with its name at the left of the plot and its number at the bar's end."""

    kind: str
    name: str
    short_name: str
    top: int
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

    @property
    def height(self) -> int:
        return len(self.bars) * _BAR


class _Differences(NamedTuple):
    """The first model beside another one, a plot for each modality."""

    model: str
    outcome: str
    plots: Sequence[tuple[str, _Plot]]


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
        summary=_sortable(summary_table(report), mark_best=len(report.rows) > 1),
        notes=notes(report),
        groups=_groups(report),
        first=report.rows[0].label,
        differences=_differences(report),
        datasets=_sortable(dataset_table(report)),
        examples_of=whose.label,
        examples=[
            (task.name, f"{task.metric} {score_text(whose.by_dataset[task.name], 1)}", of_dataset)
            for task in (*report.tasks, *report.controls)
            if (of_dataset := (examples or {}).get(task.name))
        ],
    )


def _sortable(table: ScoreTable, *, mark_best: bool = False) -> dict[str, object]:
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
    for name, decimals in means_shown(report):
        bars = []
        for place, row in enumerate(report.rows):
            mean = row.means[name]
            length = (mean.score or 0) / 100 * (_GROUP_WIDTH - _GROUP_NAME - _GROUP_NUMBER)
            kind = "other" if place else "first"
            bars.append(_bar(kind, row.label, _GROUP_NAME, place, _GROUP_NAME, length, mean_text(mean, decimals)))
        datasets = report.rows[0].means[name]
        size = counted(datasets.found + len(datasets.missing), "dataset")
        groups.append((name, size, _Plot(f"{name} of every model", _GROUP_WIDTH, bars)))
    return groups


def _differences(report: Report) -> list[_Differences]:
    first, *others = report.rows
    found = []
    for other in others:
        pairs = _pairs(first, other, report.tasks)
        # One scale for the plots of all modalities.
        largest = max((abs(difference) for _, difference in pairs), default=0.0) or 1.0
        plots = [
            (modality, _diverging(chosen, largest))
            for modality in modalities(report.tasks)
            if (chosen := [(task.name, difference) for task, difference in pairs if task.modality == modality])
        ]
        wins = sum(difference > 0 for _, difference in pairs)
        losses = sum(difference < 0 for _, difference in pairs)
        found.append(_Differences(other.label, f"better on {wins}, worse on {losses} of {len(pairs)}", plots))
    return found


def _pairs(first: ModelRow, other: ModelRow, tasks: Sequence[TaskSpec]) -> list[tuple[TaskSpec, float]]:
    """Differences of the datasets that both have, the largest first."""
    pairs = []
    for task in tasks:
        mine, theirs = first.by_dataset[task.name], other.by_dataset[task.name]
        if mine is not None and theirs is not None:
            pairs.append((task, mine - theirs))
    return sorted(pairs, key=lambda pair: -pair[1])


def _diverging(differences: Sequence[tuple[str, float]], largest: float) -> _Plot:
    """Bars to the right of a line where the first model is better, to the left where it is worse."""
    reach = (_DIFFERENCE_WIDTH - _DIFFERENCE_NAME) / 2 - _DIFFERENCE_NUMBER
    zero = _DIFFERENCE_NAME + _DIFFERENCE_NUMBER + reach
    bars = []
    for place, (name, difference) in enumerate(differences):
        length = abs(difference) / largest * reach
        kind, left = ("better", zero) if difference >= 0 else ("worse", zero - length)
        bars.append(_bar(kind, name, _DIFFERENCE_NAME, place, left, length, f"{difference:+.1f}"))
    return _Plot("differences by dataset", _DIFFERENCE_WIDTH, bars, zero)


def _bar(kind: str, name: str, name_width: int, place: int, left: float, length: float, number: str) -> _Bar:
    """A bar in its place from the top; the middle of a name that is too long is cut out."""
    most = int(name_width / _LETTER) - 1
    short = name if len(name) <= most else f"{name[: most // 2]}\u2026{name[-(most // 2) :]}"
    number_x, anchor = (left - 5, "end") if kind == "worse" else (left + length + 5, "start")
    return _Bar(kind, name, short, place * _BAR, round(left, 1), round(length, 1), number, round(number_x, 1), anchor)
