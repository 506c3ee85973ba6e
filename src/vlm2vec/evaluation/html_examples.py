"""How do a model's best and worst queries look on a report's page?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from vlm2vec.evaluation.examples import Example, Shown
from vlm2vec.evaluation.report import Report, Row, number

# Names of colours are those of the page.
EXAMPLES_STYLE = """
summary span { color: var(--soft); font-weight: 400; }
.about { margin: -.25rem 0 .75rem; color: var(--soft); font-size: .9rem; }
.examples { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(15.5rem, 100%), 1fr)); }
.example { border: 1px solid var(--line); border-left: 4px solid var(--worse); border-radius: .5rem;
  padding: .6rem .8rem .8rem; min-width: 0; }
.example.found { border-left-color: var(--bar); }
.example h4 { margin: 0 0 .2rem; font-size: .9rem; font-weight: 600; overflow-wrap: anywhere; }
.example h4 span { display: block; font-size: .8rem; }
.example h4 span, .example dt { color: var(--soft); font-weight: 400; }
.example dl { margin: 0; display: grid; gap: .5rem; }
.example dt { font-size: .8rem; }
.example dd { margin: .1rem 0 0; display: flex; gap: .7rem; align-items: flex-start; font-size: .9rem; }
.example dd span { min-width: 0; overflow-wrap: anywhere; }
.example dd i { color: var(--soft); }
.example img { flex: none; max-width: 45%; border-radius: .25rem; border: 1px solid var(--line); }
"""


def examples_section(report: Report, examples: Mapping[str, Sequence[Example]], row: Row) -> str:
    """A part of a page, one closed fold a dataset in the order of the table; "" if there is nothing to show.

    Args:
        examples: by dataset. Those of datasets that the benchmark lacks are not shown.
        row: the model that they are of.
    """
    folds = []
    for task in (*report.tasks, *report.controls):
        of_task = examples.get(task.name)
        if of_task:
            score = f"{task.metric} {number(row.by_dataset[task.name], 1)}"
            cards = "\n".join(_card(example) for example in of_task)
            folds.append(
                f"<details><summary>{escape(task.name)} <span>{escape(score)}</span></summary>"
                f'<div class="examples">\n{cards}\n</div></details>'
            )
    if not folds:
        return ""
    return (
        f"<h2>Best and worst queries of {escape(row.label)}</h2>\n"
        '<p class="about">By the metric of the dataset, the best first. The margin is the score of the best right '
        "candidate less that of the best wrong one; not found is what is not among the ranks that were kept.</p>\n"
        + "\n".join(folds)
    )


def _card(example: Example) -> str:
    parts = [_part("query", example.query)]
    if example.rank == 1:
        parts.append(_part("right answer, which came first", example.top))
    else:
        if example.right is not None:
            parts.append(_part("right answer", example.right))
        parts.append(_part("came first instead", example.top))
    found = " found" if example.rank == 1 else ""
    body = "".join(parts)
    return (
        f'<div class="example{found}"><h4>{_outcome(example)} '
        f"<span>query {_text(example.query_id)}, margin {example.margin:+.3f}</span></h4>"
        f"<dl>{body}</dl></div>"
    )


def _outcome(example: Example) -> str:
    if example.rank is not None:
        return f"Rank {example.rank}"
    return "No right answer to find" if example.right is None else "Not found"


def _part(name: str, shown: Shown) -> str:
    picture = "" if shown.picture is None else f'<img src="{escape(shown.picture)}" alt="{escape(name)}">'
    text = f'<span dir="auto">{_text(shown.text)}</span>' if shown.text else ""
    return f"<div><dt>{escape(name)}</dt><dd>{picture + text or '<i>nothing to show</i>'}</dd></div>"


def _text(text: str) -> str:
    # Halves of surrogate pairs, which no file in UTF-8 takes.
    return escape(text.encode("utf-8", "replace").decode("utf-8"))
