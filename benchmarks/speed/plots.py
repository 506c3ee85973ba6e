"""The figures of docs/performance.md and docs/ablation.md, from the files in benchmarks/results.

    python benchmarks/speed/plots.py     writes docs/embedding.png, searching.png and ablation.png

A figure holds the hash of its results, which a test compares, so that none is older than the tables.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from io import BytesIO
from statistics import mean
from typing import Any

from size import RESULTS, TOY
from tables import DOCS, ablation_scores, by_workload

COLORS = {
    "floor": "#bbbbbb",
    "packed": "#1f5fa8",
    "sentence-transformers": "#74a892",
    "padded": "#e0a458",
    "published": "#b5533c",
}
NAMES = {"packed": "ours"}
MODALITY_COLORS = {"overall": "#444444", "image": "#1f5fa8", "video": "#b5533c", "visdoc": "#e0a458"}


def main() -> None:
    """Draw all."""
    from matplotlib.figure import Figure

    for name, (results, draw, size) in FIGURES.items():
        figure = Figure(figsize=size, layout="constrained")
        draw(figure, json.loads((RESULTS / f"{results}.json").read_text("utf-8")))
        figure.savefig(BytesIO() if TOY else DOCS / f"{name}.png", dpi=100, metadata={"results": fingerprint(results)})


def fingerprint(results: str) -> str:
    """What the figure says it was made from."""
    return f"{results}.json {hashlib.sha256((RESULTS / f'{results}.json').read_bytes()).hexdigest()}"


def _embedding(figure: Any, document: dict[str, Any]) -> None:
    """A panel for each model, a group for each workload, a bar for each way."""
    panels: dict[tuple[str, str], dict[str, dict[str, dict[str, Any]]]] = {}
    for (model, dtype, workload), ways in by_workload(document).items():
        panels.setdefault((model, dtype), {})[workload] = ways
    for axes, ((model, dtype), workloads) in zip(
        figure.subplots(1, len(panels), sharey=True), panels.items(), strict=True
    ):
        for place, ways in enumerate(workloads.values()):
            present = [way for way in COLORS if way in ways]
            width = 0.8 / len(present)
            for number, way in enumerate(present):
                at = place - 0.4 + (number + 0.5) * width
                axes.bar(at, ways[way]["ratio_to_packed"], width * 0.9, color=COLORS[way])
        axes.axhline(1, color=COLORS["packed"], linewidth=0.8, zorder=0)
        axes.set_xticks(range(len(workloads)), list(workloads))
        axes.set_title(f"{model}, {dtype}", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("time / ours")
    bars = [figure.axes[0].bar(0, 0, color=color) for color in COLORS.values()]
    figure.legend(
        bars, [NAMES.get(way, way) for way in COLORS], loc="outside lower center", ncols=len(COLORS), frameon=False
    )


def _searching(figure: Any, document: dict[str, Any]) -> None:
    """Time and recall over the number of rows. No lines: between two sizes may lie the step from exact to indexed."""
    time, recall = figure.subplots(1, 2)
    for kind, color in (("centres", COLORS["packed"]), ("isotropic", COLORS["published"])):
        rows = [row for row in document["rows"] if row["vectors"] == kind]
        at = [row["rows"] for row in rows]
        time.plot(at, [row["median_ms"] for row in rows], "o", color=color, label=f"{kind}, median")
        time.plot(at, [row["p95_ms"] for row in rows], "_", color=color, label=f"{kind}, 95 %")
        recall.plot(at, [row["recall_at_10"] for row in rows], "o", color=color, label=kind)
    time.set(xscale="log", yscale="log", xlabel="rows", ylabel="ms a question")
    recall.set(xscale="log", xlabel="rows", ylabel="recall at 10", ylim=(0, 1.05))
    for axes in (time, recall):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)


def _ablation(figure: Any, document: dict[str, Any]) -> None:
    """Means over seeds as lines or bars, each seed as a point; the model before dotted, and as the first bars."""
    sizes, mixes = figure.subplots(1, 2)
    found = ablation_scores(document, "sub_batch")
    [before] = found.pop("before")
    for modality, color in MODALITY_COLORS.items():
        runs = [[run[modality] for run in seeds] for seeds in found.values()]
        sizes.plot([mean(values) for values in runs], color=color, label=modality)
        for place, values in enumerate(runs):
            sizes.plot([place] * len(values), values, ".", color=color)
        sizes.axhline(before[modality], color=color, linestyle=":", linewidth=1)
    sizes.set_xticks(range(len(found)), list(found))
    sizes.set(xlabel="sub-batch", ylabel="mmeb-mini", ylim=(0, None))
    found = ablation_scores(document, "mix")
    width = 0.8 / len(MODALITY_COLORS)
    for place, seeds in enumerate(found.values()):
        for number, (modality, color) in enumerate(MODALITY_COLORS.items()):
            at = place - 0.4 + (number + 0.5) * width
            values = [run[modality] for run in seeds]
            mixes.bar(at, mean(values), width * 0.9, color=color)
            mixes.plot([at] * len(values), values, ".", color="black", markersize=3)
    mixes.set_xticks(range(len(found)), list(found))
    mixes.set(xlabel="trained on", ylim=(0, None))
    for axes in (sizes, mixes):
        axes.spines[["top", "right"]].set_visible(False)
    sizes.legend(fontsize=8, frameon=False, ncols=2)


FIGURES: dict[str, tuple[str, Callable[[Any, dict[str, Any]], None], tuple[float, float]]] = {
    "embedding": ("encode", _embedding, (10, 3.4)),
    "searching": ("search", _searching, (8, 3)),
    "ablation": ("ablation", _ablation, (9, 3.4)),
}
"""Of each figure the results, what draws it, and its size in inches."""


if __name__ == "__main__":
    main()
