"""What is in samples/documents/slides.pdf? Nine slides of our own with charts of invented numbers."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def write_slides(path: Path) -> None:
    """Write the PDF, byte for byte the same each time."""
    with PdfPages(path, metadata={"Title": "Sample slides", "CreationDate": None, "Creator": "vlm2vec"}) as pdf:
        for title, colour, draw in SLIDES:
            figure, axes = plt.subplots(figsize=(8, 6))
            figure.suptitle(title, fontsize=30, fontweight="bold", color=colour, y=0.96)
            figure.subplots_adjust(top=0.8, left=0.13, bottom=0.13, right=0.95)
            axes.tick_params(labelsize=14)
            axes.spines[["top", "right"]].set_visible(False)
            draw(axes, colour)
            pdf.savefig(figure)
            plt.close(figure)


def rainfall(axes: Axes, colour: str) -> None:
    axes.bar(MONTHS, [78, 61, 55, 42, 50, 47, 38, 44, 58, 83, 95, 88], color=colour)
    axes.set_ylabel("millimetres", fontsize=16)


def coffee(axes: Axes, colour: str) -> None:
    axes.barh(("West", "South", "East", "North"), (310, 455, 275, 390), color=colour)
    axes.set_xlabel("tonnes sold", fontsize=16)


def bicycles(axes: Axes, colour: str) -> None:
    axes.plot(DAYS, (4100, 4450, 4600, 4400, 3900, 2300, 1900), color=colour, linewidth=4, marker="o", markersize=10)
    axes.set_ylim(0, 5200)
    axes.set_ylabel("bicycles", fontsize=16)


def energy(axes: Axes, colour: str) -> None:
    parts = {"wind": 31, "sun": 22, "water": 12, "gas": 20, "coal": 9, "other": 6}
    axes.pie(list(parts.values()), labels=list(parts), autopct="%d%%", textprops={"fontsize": 15}, startangle=90)


def museum(axes: Axes, colour: str) -> None:
    visitors = (120, 131, 128, 142, 40, 66, 118, 149, 163)
    axes.fill_between(range(2016, 2025), visitors, color=colour, alpha=0.4)
    axes.plot(range(2016, 2025), visitors, color=colour, linewidth=4)
    axes.set_ylabel("thousand", fontsize=16)


def sea(axes: Axes, colour: str) -> None:
    years = range(1990, 2025)
    axes.plot(years, [15 + 0.025 * (y - 1990) + 0.12 * math.sin(1.7 * y) for y in years], color=colour, linewidth=3)
    axes.set_ylabel("degrees Celsius", fontsize=16)


def delays(axes: Axes, colour: str) -> None:
    axes.bar(DAYS, (9.5, 7.8, 7.1, 7.9, 11.2, 4.0, 3.1), color=colour)
    axes.set_ylabel("minutes late", fontsize=16)


def recycling(axes: Axes, colour: str) -> None:
    parts = {"paper": 42, "glass": 27, "metal": 11, "plastic": 20}
    colours = ("#c8a165", "#6fb98f", "#9aa5b1", "#e07a5f")
    axes.pie(list(parts.values()), labels=list(parts), colors=colours, textprops={"fontsize": 17}, autopct="%d%%")


def heights(axes: Axes, colour: str) -> None:
    weeks = list(range(9))
    axes.plot(weeks, [2 + 18 * w for w in weeks], color=colour, linewidth=4, label="in the sun")
    axes.plot(weeks, [2 + 9 * w for w in weeks], color="#7a7a7a", linewidth=4, linestyle="--", label="in the shade")
    axes.legend(fontsize=16)
    axes.set_xlabel("weeks", fontsize=16)
    axes.set_ylabel("centimetres", fontsize=16)


SLIDES = (
    ("Monthly rainfall", "#1f5fa8", rainfall),
    ("Coffee sales by region", "#7b4a21", coffee),
    ("Bicycle traffic per weekday", "#1b7f4d", bicycles),
    ("Where our energy comes from", "#c0561b", energy),
    ("Museum visitors", "#6b2d8a", museum),
    ("Sea temperature", "#11727a", sea),
    ("Train delays", "#b3202a", delays),
    ("What we recycle", "#3f6d2a", recycling),
    ("How sunflowers grow", "#b88a00", heights),
)
