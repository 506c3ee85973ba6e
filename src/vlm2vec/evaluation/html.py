"""How does a report look as a page that needs nothing but itself?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from vlm2vec.evaluation.aggregate import OVERALL, modalities
from vlm2vec.evaluation.examples import Example
from vlm2vec.evaluation.html_examples import EXAMPLES_STYLE, examples_section
from vlm2vec.evaluation.report import Report, Row, cell, columns, dataset_columns, notes, number
from vlm2vec.tasks.data import TaskSpec

# Sizes of the plots in units of their own, which are about a pixel on a page of full width.
_ROW, _LETTER = 20, 6.4
_GROUP_WIDTH, _GROUP_NAME, _GROUP_NUMBER = 360, 170, 44
_DIFFERENCE_WIDTH, _DIFFERENCE_NAME, _DIFFERENCE_NUMBER = 540, 240, 46

_STYLE = """
:root { color-scheme: light dark; --line: #d8d8de; --soft: #62626c; --paper: #f5f5f7; --card: #ffffff; --text: #1d1d20;
  --bar: #3b6fd4; --other: #b4b8c4; --worse: #c8641e; }
@media (prefers-color-scheme: dark) {
  :root { --line: #36363e; --soft: #a2a2ae; --paper: #17171a; --card: #212126; --text: #ececf1;
    --bar: #7ba3f0; --other: #5a5e6b; --worse: #e0935a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 78rem; background: var(--paper); color: var(--text);
  font: 1rem/1.45 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.6rem; font-weight: 600; }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.2rem; font-weight: 600; }
h3 { margin: 0 0 .4rem; font-size: .95rem; font-weight: 600; overflow-wrap: anywhere; }
h3 span, header p, .notes { color: var(--soft); font-weight: 400; }
header p { margin: .25rem 0 1.5rem; }
.notes { margin: .75rem 0 0; padding: 0; list-style: none; font-size: .9rem; overflow-wrap: anywhere; }
.wide { overflow: auto; max-height: 44rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .75rem; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .45rem; text-align: right; white-space: nowrap; }
thead th { position: sticky; top: 0; background: var(--card); box-shadow: inset 0 -1px var(--line);
  white-space: normal; vertical-align: bottom; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
tbody th { font-weight: 400; }
tr > :first-child { text-align: left; position: sticky; left: 0; background: var(--card); }
thead tr > :first-child { z-index: 1; }
td.best { font-weight: 700; }
th button { all: unset; cursor: pointer; }
th button:focus-visible, summary:focus-visible { outline: 2px solid var(--bar); outline-offset: 2px; }
th[aria-sort=descending] button::after { content: " \\2193"; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
.plots { columns: 2 28rem; column-gap: 2rem; }
.plots > div { break-inside: avoid; padding-bottom: 1rem; }
.card, details { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: .8rem 1rem; }
details + details { margin-top: .75rem; }
summary { cursor: pointer; font-weight: 600; overflow-wrap: anywhere; }
details[open] summary { margin-bottom: .8rem; }
svg { display: block; width: 100%; height: auto; font: 11px system-ui, sans-serif; fill: var(--text); }
svg .first, svg .better { fill: var(--bar); }
svg .other { fill: var(--other); }
svg .worse { fill: var(--worse); }
svg .zero { stroke: var(--line); }
svg .number { font-variant-numeric: tabular-nums; }
"""

# Sorts a table by the column whose head is clicked, the largest first; what has no number goes last.
_SCRIPT = """
for (const button of document.querySelectorAll("th button")) button.onclick = () => {
  const head = button.parentElement, table = head.closest("table"), body = table.tBodies[0];
  const turn = head.ariaSort === "descending" ? 1 : -1;
  for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
  head.ariaSort = turn === 1 ? "ascending" : "descending";
  const value = row => parseFloat(row.cells[head.cellIndex].dataset.value ?? "nan");
  const order = (a, b) => isNaN(a) - isNaN(b) || turn * (a - b) || 0;
  body.append(...[...body.rows].sort((a, b) => order(value(a), value(b))));
};
"""


def report_page(
    report: Report, examples: Mapping[str, Sequence[Example]] | None = None, *, examples_of: int = 0
) -> str:
    """One HTML page: the table, every mean as bars, differences of datasets, all datasets, examples. It loads nothing.

    Light or dark as the reader's system is. Without scripts it shows the same, only tables cannot be sorted.

    Args:
        examples: of one model, by dataset (`read_examples`).
        examples_of: which row of the report that model is.
    """
    count = "1 model" if len(report.rows) == 1 else f"{len(report.rows)} models"
    title = f"{report.benchmark}: {count}"
    remarks = "".join(f"<li>{escape(note)}</li>" for note in notes(report))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}{EXAMPLES_STYLE}</style>
</head>
<body>
<header><h1>{escape(title)}</h1>
<p>Scores times 100. Overall is the mean over all {len(report.tasks)} datasets.</p></header>
{_summary(report)}
<ul class="notes">{remarks}</ul>
<h2>Groups</h2>
<div class="cards">
{_groups(report)}
</div>
{_differences(report)}
<h2>Datasets</h2>
{_datasets(report)}
{examples_section(report, examples or {}, report.rows[examples_of])}
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _summary(report: Report) -> str:
    named = columns(report)
    rows = [
        (
            row.label,
            [(str(row.means[OVERALL].found), None)]
            + [(cell(row.means[name], decimals), row.means[name].score) for name, decimals in named],
        )
        for row in report.rows
    ]
    heads = ["model", "n", *(name for name, _ in named)]
    best = [_best([row.means[name].score for row in report.rows]) for name, _ in named]
    return _table(heads, rows, [None, *best])


def _datasets(report: Report) -> str:
    shown = dataset_columns(report)
    rows: list[tuple[str, list[tuple[str, float | None]]]] = []
    for task in report.tasks:
        scores = [column.score(task) for column in shown]
        rows.append(
            (task.name, [(task.group, None), (task.metric, None), *((number(score, 1), score) for score in scores)])
        )
    return _table(["dataset", "group", "metric", *(column.head for column in shown)], rows, None)


def _best(scores: Sequence[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return max(known) if len(known) > 1 else None


def _table(
    heads: Sequence[str], rows: Sequence[tuple[str, list[tuple[str, float | None]]]], best: list[float | None] | None
) -> str:
    """Rows of a name and of texts with the numbers to sort them by; in bold what is the best of its column."""
    sortable = {place for _, cells in rows for place, (_, value) in enumerate(cells, start=1) if value is not None}
    head = "".join(
        f'<th scope="col">{f"<button>{escape(text)}</button>" if place in sortable else escape(text)}</th>'
        for place, text in enumerate(heads)
    )
    body = []
    for name, cells in rows:
        shown = ""
        for place, (text, value) in enumerate(cells):
            mark = ' class="best"' if best and value is not None and value == best[place] else ""
            data = "" if value is None else f' data-value="{value:.6f}"'
            shown += f"<td{mark}{data}>{escape(text)}</td>"
        body.append(f'<tr><th scope="row">{escape(name)}</th>{shown}</tr>')
    lines = "\n".join(body)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table></div>'


def _groups(report: Report) -> str:
    cards = []
    for name, decimals in columns(report):
        bars = []
        for place, row in enumerate(report.rows):
            mean, top = row.means[name], place * _ROW
            length = (mean.score or 0) / 100 * (_GROUP_WIDTH - _GROUP_NAME - _GROUP_NUMBER)
            bars.append(
                _name(row.label, top, _GROUP_NAME)
                + f'<rect class="{"other" if place else "first"}" x="{_GROUP_NAME}" y="{top + 4}" width="{length:.1f}" '
                f'height="12" rx="2"/><text class="number" x="{_GROUP_NAME + length + 5:.1f}" y="{top + 14}">'
                f"{cell(mean, decimals)}</text>"
            )
        datasets = report.rows[0].means[name]
        size = datasets.found + len(datasets.missing)
        plot = _svg(_GROUP_WIDTH, len(bars), f"{name} of every model", bars)
        cards.append(
            f'<div class="card"><h3>{escape(name)} <span>{size} dataset{"s" * (size != 1)}</span></h3>{plot}</div>'
        )
    return "\n".join(cards)


def _differences(report: Report) -> str:
    if len(report.rows) < 2:
        return ""
    first, *others = report.rows
    parts = [f"<h2>{escape(first.label)} beside the others, by dataset</h2>"]
    for place, other in enumerate(others):
        pairs = _pairs(first, other, report.tasks)
        # One scale for the plots of all modalities.
        largest = max((abs(difference) for _, difference in pairs), default=0.0) or 1.0
        plots = []
        for modality in modalities(report.tasks):
            chosen = [(task.name, difference) for task, difference in pairs if task.modality == modality]
            if chosen:
                plots.append(f"<div><h3>{escape(modality)}</h3>{_diverging(chosen, largest)}</div>")
        wins = sum(difference > 0 for _, difference in pairs)
        losses = sum(difference < 0 for _, difference in pairs)
        parts.append(
            f"<details{'' if place else ' open'}><summary>{escape(first.label)} less {escape(other.label)}: "
            f"better on {wins}, worse on {losses} of {len(pairs)}</summary>"
            f'<div class="plots">{"".join(plots)}</div></details>'
        )
    return "\n".join(parts)


def _pairs(first: Row, other: Row, tasks: Sequence[TaskSpec]) -> list[tuple[TaskSpec, float]]:
    """Differences of the datasets that both have, the largest first."""
    pairs = []
    for task in tasks:
        mine, theirs = first.by_dataset[task.name], other.by_dataset[task.name]
        if mine is not None and theirs is not None:
            pairs.append((task, mine - theirs))
    return sorted(pairs, key=lambda pair: -pair[1])


def _diverging(differences: Sequence[tuple[str, float]], largest: float) -> str:
    """Bars to the right of a line where the first model is better, to the left where it is worse."""
    reach = (_DIFFERENCE_WIDTH - _DIFFERENCE_NAME) / 2 - _DIFFERENCE_NUMBER
    zero = _DIFFERENCE_NAME + _DIFFERENCE_NUMBER + reach
    bars = []
    for place, (name, difference) in enumerate(differences):
        top, length = place * _ROW, abs(difference) / largest * reach
        better = difference >= 0
        side, left, text = ("start", zero, zero + length + 5) if better else ("end", zero - length, zero - length - 5)
        bars.append(
            _name(name, top, _DIFFERENCE_NAME)
            + f'<rect class="{"better" if better else "worse"}" x="{left:.1f}" y="{top + 4}" width="{length:.1f}" '
            f'height="12"/><text class="number" x="{text:.1f}" y="{top + 14}" text-anchor="{side}">'
            f"{difference:+.1f}</text>"
        )
    bars.append(f'<line class="zero" x1="{zero}" x2="{zero}" y1="0" y2="{len(differences) * _ROW}"/>')
    return _svg(_DIFFERENCE_WIDTH, len(differences), "differences by dataset", bars)


def _svg(width: int, rows: int, label: str, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return f'<svg viewBox="0 0 {width} {rows * _ROW}" role="img" aria-label="{escape(label)}">\n{body}\n</svg>'


def _name(name: str, top: int, width: int) -> str:
    """A name at the left of a bar, its middle cut out if it is too long; the whole shows when pointed at."""
    most = int(width / _LETTER) - 1
    short = name if len(name) <= most else f"{name[: most // 2]}\u2026{name[-(most // 2) :]}"
    return f'<text x="0" y="{top + 14}">{escape(short)}<title>{escape(name)}</title></text>'
