"""The tables of docs/performance.md, from the files in benchmarks/results.

    python benchmarks/speed/tables.py     writes them between the marks in docs/performance.md

A test compares the page with this, so that no number in it is written by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"


def main() -> None:
    """Renew the page."""
    PAGE.write_text(renewed(PAGE.read_text("utf-8")), "utf-8")


def renewed(page: str) -> str:
    """The page with every table made anew from its results."""
    for name, make in TABLES.items():
        document = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
        table = f"{make(document)}\n\n`{document['command']}`, {_machine(document['machine'])}."
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        pattern = f"{re.escape(begin)}.*?{re.escape(end)}"
        page, count = re.subn(pattern, lambda _, text=f"{begin}\n{table}\n{end}": text, page, flags=re.DOTALL)
        assert count == 1, f"{PAGE} must have the marks of {name} once"
    return page


def _encode(document: dict[str, Any]) -> str:
    """One line a workload: ours, and how many times as long the others take."""
    found: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = {}
    for row in document["rows"]:
        found.setdefault((row["model"], row["dtype"], row["workload"]), {})[row["way"]] = row
    lines = []
    for (model, dtype, workload), ways in found.items():
        ours, floor = ways["packed"], ways["floor"]

        def ratio(way: str, ways: dict[str, dict[str, Any]] = ways) -> str:
            return f"{ways[way]['ratio_to_packed']:.2f}" if way in ways else "-"

        lines.append(
            [
                *(model, dtype, workload, f"{ours['items_per_s']:.1f}", f"{ours['tokens_per_s']:,.0f}"),
                *(ratio("padded"), ratio("sentence-transformers"), ratio("published")),
                f"{1 / floor['ratio_to_packed']:.2f}",
                f"{100 * ways['padded']['padding_share']:.0f} %",
                f"{1000 * ours['prepare_s'] / _items(ours):.1f}",
                f"{1000 * ways['padded']['prepare_s'] / _items(ours):.1f}",
            ]
        )
    head = [
        *("model", "numbers", "workload", "items/s", "tokens/s", "padded / ours", "s-t / ours", "published / ours"),
        *("ours / floor", "padding", "prepare, ms an item", "processor, ms an item"),
    ]
    return _table(head, lines)


def _items(row: dict[str, Any]) -> float:
    return float(row["items_per_s"] * row["seconds"])


def _mixed(document: dict[str, Any]) -> str:
    times = document["median_s"]
    return _table(
        ["items of four tasks", "different", "embedded", "embedded again", "s", "s again", "padded, s"],
        [
            [
                *(document["items"], document["different_items"]),
                *(document["embedded"]["cold"], document["embedded"]["warm"]),
                *(f"{times[name]:.2f}" for name in ("cold", "warm", "padded")),
            ]
        ],
    )


def _search(document: dict[str, Any]) -> str:
    return _table(
        ["vectors of 768", "rows", "rows/s written", "index, s", "median ms", "95 % ms", "recall at 10"],
        [
            [
                *(row["vectors"], f"{row['rows']:,}", f"{row['rows_per_s']:,}", row["tidy_s"]),
                *(row["median_ms"], row["p95_ms"], f"{row['recall_at_10']:.3f}"),
            ]
            for row in document["rows"]
        ],
    )


def _start(document: dict[str, Any]) -> str:
    return _table(
        ["what", "median s", "longest s"],
        [[row["what"], row["median_s"], row["longest_s"]] for row in document["rows"]],
    )


def _attention(document: dict[str, Any]) -> str:
    return _table(
        ["sequences, heads, tokens, head size", "causal", "with graph", "SDPA ms", "products ms", "ratio"],
        [
            [
                ", ".join(map(str, row["shape"])),
                *("yes" if row[name] else "no" for name in ("causal", "graph")),
                *(row["sdpa_ms"], row["products_ms"], row["ratio"]),
            ]
            for row in document["rows"]
        ],
    )


def _memory(document: dict[str, Any]) -> str:
    return _table(
        ["workload", "ours, MB", "padded, MB", "sentence-transformers, MB"],
        [
            [row["workload"], *(row.get(way, "-") for way in ("packed", "padded", "sentence-transformers"))]
            for row in document["rows"]
        ],
    )


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "encode": _encode,
    "memory": _memory,
    "mixed": _mixed,
    "search": _search,
    "start": _start,
    "attention": _attention,
}


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _machine(machine: dict[str, Any]) -> str:
    torch = machine.get("torch") or machine["versions"]["torch"]
    return f"{machine['cores']} cores{' of ' + machine['cpu'] if 'cpu' in machine else ''}, torch {torch}"


if __name__ == "__main__":
    main()
