"""The tables of docs/performance.md, training.md, ablation.md, models.md and the default model's card, from results.

    python benchmarks/speed/tables.py     writes them between the marks in these pages

A test compares the pages with this, so that no number in a table is written by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import default_tables
from size import RESULTS, TOY

from vlm2vec.tasks.registry import get_tasks

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def main() -> None:
    """Renew the pages."""
    for name in PAGES:
        path = DOCS / name
        page = renewed(name, path.read_text("utf-8"))
        if not TOY:
            path.write_text(page, "utf-8")


def renewed(page_name: str, page: str) -> str:
    """The page with every table made anew from its results."""
    for name, (results, make) in PAGES[page_name].items():
        document = json.loads((RESULTS / f"{results}.json").read_text("utf-8"))
        # Scores alone do not depend on the machine.
        told = [f"`{document['command']}`"] if "command" in document else []
        told += [_machine(document["machine"])] if "machine" in document else []
        table = f"{make(document)}\n\n{', '.join(told)}."
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        pattern = f"{re.escape(begin)}.*?{re.escape(end)}"
        page, count = re.subn(pattern, lambda _, text=f"{begin}\n{table}\n{end}": text, page, flags=re.DOTALL)
        assert count == 1, f"{page_name} must have both marks of {name} once"
    return page


Workload = tuple[str, str, str]
"""Model, numbers, workload."""


def by_workload(document: dict[str, Any]) -> dict[Workload, dict[str, dict[str, Any]]]:
    """Rows of encode.json: of each workload, the ways."""
    found: dict[Workload, dict[str, dict[str, Any]]] = {}
    for row in document["rows"]:
        found.setdefault((row["model"], row["dtype"], row["workload"]), {})[row["way"]] = row
    return found


def _encode(document: dict[str, Any]) -> str:
    """One line a workload: ours, and how many times as long the others take."""
    lines = []
    for workload, ways in by_workload(document).items():
        ours = ways["packed"]
        others = ("padded", "sentence-transformers", "published")
        lines.append(
            [
                *(*workload, f"{ours['items_per_s']:.1f}", f"{ours['tokens_per_s']:,.0f}"),
                *(f"{ways[way]['ratio_to_packed']:.2f}" if way in ways else "-" for way in others),
                f"{1 / ways['floor']['ratio_to_packed']:.2f}",
                f"{100 * ways['padded']['padding_share']:.0f} %",
            ]
        )
    head = [
        *("model", "numbers", "workload", "items/s", "tokens/s", "padded / ours", "s-t / ours", "published / ours"),
        *("ours / floor", "padding"),
    ]
    return _table(head, lines)


def _parts(document: dict[str, Any]) -> str:
    """Where the time goes, in milliseconds an item."""
    lines = []
    for workload, ways in by_workload(document).items():
        ours, padded = ways["packed"], ways["padded"]
        parts = [(ours, "decode_s"), (ours, "prepare_s"), (padded, "prepare_s")]
        forward = [(ours, "forward_s"), (padded, "forward_s")]
        lines.append(
            [
                *workload,
                *(f"{1000 * row[part] / row['items']:.1f}" for row, part in parts),
                f"{ours['prepare_s'] / padded['prepare_s']:.2f}",
                *(f"{1000 * row[part] / row['items']:.1f}" for row, part in forward),
            ]
        )
    head = [
        *("model", "numbers", "workload", "decode", "prepare", "processor", "prepare / processor", "forward"),
        "forward, padded",
    ]
    return _table(head, lines)


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


def _store(document: dict[str, Any]) -> str:
    return _table(
        [
            *("store", "rows/s written", "MB", "cold import, s", "cold search, s", "cold list of files, s"),
            *("product, ms", "warm search, ms", "warm / product"),
        ],
        [
            [
                *(row["store"], f"{row['rows_per_s']:,}", row["mb"], row["cold_import_s"], row["cold_search_s"]),
                *(row["cold_files_s"], row["product_ms"], row["warm_ms"], row["warm_to_product"]),
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


def _training_step(document: dict[str, Any]) -> str:
    names = {"packed": "ours", "published": "published"}
    return _table(
        [f"step of {document['pairs']} pairs", "s", "pairs/s", "time / ours", "memory, MB"],
        [
            [
                *(names[row["way"]], f"{row['seconds']:.1f}", f"{row['pairs_per_s']:.2f}"),
                *(f"{row['ratio_to_packed']:.2f}", row["peak_mb"]),
            ]
            for row in document["rows"]
        ],
    )


def _gradient_cache(document: dict[str, Any]) -> str:
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for row in document["gradient_cache"]:
        found.setdefault(row["batch"], {})[row["way"]] = row
    return _table(
        ["pairs in a batch", "whole graph, GB", "s", "cached, `token_budget` 1,024, GB", "s"],
        [
            [
                batch,
                *(
                    value
                    for way in ("plain", "cached")
                    for value in (f"{ways[way]['peak_mb'] / 1000:.2f}", f"{ways[way]['step_s']:.1f}")
                ),
            ]
            for batch, ways in found.items()
        ],
    )


def _allocator(document: dict[str, Any]) -> str:
    return _table(
        [f"{document['steps']} steps of {document['batch_size']}", "s", "tokens/s, last quarter", "memory, MB"],
        [
            [row["allocator"], f"{row['seconds']:.0f}", *(f"{row[key]:,}" for key in ("tokens_per_s_last", "peak_mb"))]
            for row in document["rows"]
        ],
    )


def _training_parts(document: dict[str, Any]) -> str:
    frozen, schedules = document["frozen_vision"], document["schedule"]
    longest = {name: max(row[name] for row in schedules) for name in ("build_s", "peak_mb", "step_ms")}
    return _table(
        ["what", "cost"],
        [
            ["a step of 64 pairs, frozen vision tower run once", f"{frozen['once_s']:.2f} s"],
            ["the same, vision tower run twice", f"{frozen['twice_s']:.2f} s"],
            ["plan 100,000 steps of 1,024 rows over the paper's 25 sources, at most", f"{longest['build_s']:.2f} s"],
            ["memory of that plan, at most", f"{longest['peak_mb']:.0f} MB"],
            ["read any step of it, median, at most", f"{longest['step_ms']:.2f} ms"],
        ],
    )


def _mini(document: dict[str, Any]) -> str:
    rows = document["rows"]
    heads = ["mmeb-mini, scores of 100", *(row["what"] for row in rows)]
    names = [*(("means", name) for name in rows[0]["means"]), *(("tasks", name) for name in rows[0]["tasks"])]
    lines = []
    for kind, name in names:
        scores = [row[kind].get(name) for row in rows]
        shown = f"**{name}**" if kind == "means" else f"`{name}`"
        lines.append([shown, *("-" if score is None else f"{score:.1f}" for score in scores)])
    return _table(heads, lines)


def bounds_table(document: dict[str, Any]) -> str:
    """Rows of bounds.json: the least value of each on the code before and on the code after."""
    commits = document["commits"]
    return _table(
        ["measured", "unit", f"before ({commits.get('before', '-')})", f"after ({commits['after']})", "before / after"],
        [
            [
                *(row["row"], row["unit"] or "-"),
                *(_bound(row, name) for name in ("before", "after")),
                f"{row['before']['least'] / row['after']['least']:.2f}"
                if "before" in row and row.get("after", {}).get("least")
                else "-",
            ]
            for row in document["rows"]
        ],
    )


def _bound(row: dict[str, Any], name: str) -> str:
    """Three figures at least, or why there is no number."""
    if name in row:
        value = row[name]["least"]
        return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
    return row["failures"].get(name, "-").replace("|", "\\|")


MODALITIES = ("overall", "image", "video", "visdoc")
SMALL = "chart-kind"
"""The image task whose own training source has the least weight among those of classes."""
OTHERS = f"image but {SMALL}"


def quality_table(document: dict[str, Any]) -> str:
    """Of the benchmark of search: hit@1 and hit@5 by kind and mode, questions without an answer, and costs."""
    modes, rows = document["modes"], {(row["kind"], row["mode"]): row for row in document["rows"]}
    best, answered, empty = modes[-1], [], []
    for kind in dict.fromkeys(kind for kind, _ in rows):
        number = rows[kind, best]["num_questions"]
        if kind.startswith("nonsense"):
            empty.append([kind, number, *(rows[kind, mode]["weak_only"] for mode in modes)])
        else:
            scores = [f"{rows[kind, way]['hit_at_1']} / {rows[kind, way]['hit_at_5']}" for way in ("bm25", *modes)]
            strong = rows[kind, best]["not_weak"]
            answered.append([kind, number, *scores, "-" if strong is None else strong])
    costs = {"indexing": document["indexing"]}
    costs |= {f"a question, {way}": cost for way, cost in document["one_question"].items()}
    not_weak = f"right in the first five of {best}: not weak"
    parts = (
        _table(["question", "number", "BM25", *modes, not_weak], answered),
        _table(["weak hits only", "number", *modes], empty),
        _table(["step", "seconds", "processor seconds"], [[name, *cost.values()] for name, cost in costs.items()]),
    )
    return "\n\n".join(parts)


def ablation_scores(document: dict[str, Any], by: str) -> dict[str, list[dict[str, float]]]:
    """Scores of the runs of each seed, by "sub_batch" or by "mix", with the start in front."""
    # The run of all sources at the mixes' sub-batch belongs to both.
    [mixed] = {row["sub_batch"] for row in document["rows"] if row["mix"] == "image"}
    images = [task.name for task in get_tasks("mmeb-mini", modality="image") if task.name != SMALL]
    found: dict[str, list[dict[str, float]]] = {}
    for row in document["rows"]:
        scores = row["means"] | {SMALL: row["tasks"][SMALL], OTHERS: mean(row["tasks"][name] for name in images)}
        if row["mix"] == "before":
            found["before"] = [scores]
        elif by == "sub_batch" and row["mix"] == "all":
            whole = " (all)" if row["sub_batch"] == document["batch"] else ""
            found.setdefault(f"{row['sub_batch']}{whole}", []).append(scores)
        elif by == "mix" and row["sub_batch"] == mixed:
            found.setdefault(row["mix"], []).append(scores)
    return found


def _ablation(by: str, name: str, shown: Sequence[str], document: dict[str, Any]) -> str:
    return _table(
        [name, "seeds", *shown],
        [
            [value, "-" if value == "before" else len(runs), *(_spread([run[m] for run in runs]) for m in shown)]
            for value, runs in ablation_scores(document, by).items()
        ],
    )


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


PAGES: dict[str, dict[str, tuple[str, Callable[[dict[str, Any]], str]]]] = {
    "performance.md": {
        "encode": ("encode", _encode),
        "parts": ("encode", _parts),
        "memory": ("memory", _memory),
        "mixed": ("mixed", _mixed),
        "store": ("store", _store),
        "search": ("search", _search),
        "start": ("start", _start),
        "attention": ("attention", _attention),
        "training_step": ("training_step", _training_step),
        "bounds": ("bounds", bounds_table),
    },
    "training.md": {
        "gradient_cache": ("training", _gradient_cache),
        "training_parts": ("training", _training_parts),
        "allocator": ("allocator", _allocator),
    },
    "ablation.md": {
        "sub_batches": ("ablation", partial(_ablation, "sub_batch", "sub-batch", (*MODALITIES, SMALL, OTHERS))),
        "mixes": ("ablation", partial(_ablation, "mix", "trained on", MODALITIES)),
    },
    "search.md": {"quality": ("search_quality", quality_table)},
    "models.md": {
        "cold": ("default_model_cold", default_tables.cold),
        "speed": ("default_model_speed", default_tables.speed),
        "drafts": ("default_model_drafts", default_tables.drafts),
        "films": ("default_model_films", default_tables.films),
        "texts": ("default_model_texts", default_tables.texts),
        "exact": ("default_model_exact", default_tables.exact),
    },
    "../recipes/default/README.md": {"seeds": ("default_model_seeds", default_tables.seeds)},
    "../src/vlm2vec/bundled/README.md": {
        "scores": ("default_model", default_tables.scores),
        "halves": ("default_model", default_tables.halves),
        "mini": ("mini", _mini),
    },
}
"""Of each page, from docs/, the marks, the results between them, and what makes the table."""


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _machine(machine: dict[str, Any]) -> str:
    torch = machine.get("torch") or machine["versions"]["torch"]
    return f"{machine['cores']} cores{' of ' + machine['cpu'] if 'cpu' in machine else ''}, torch {torch}"


if __name__ == "__main__":
    main()
