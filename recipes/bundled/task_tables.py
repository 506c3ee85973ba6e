"""Which numbers stand on the charts that are trained? Series of tables that are not held out, and invented ones."""

from __future__ import annotations

import csv
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import fmean
from typing import Any

from holdouts import bucket
from wordings import read_words

HELD_TABLES = 33
"""Percent of the tables of vega-datasets that are never trained."""

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Series:
    """Numbers by category.

    Args:
        about: what is measured, of what.
        unit: of the numbers.
        kind: what the categories are, such as "month".
        values: by category, in the order of the categories.
    """

    about: str
    unit: str
    kind: str
    values: Mapping[str, float]


def read_table(name: str) -> list[dict[str, Any]]:
    """The rows of a table.

    Raises:
        ValueError: the table is held out.
    """
    if bucket(name) < HELD_TABLES:
        raise ValueError(f"the table {name} is held out")
    folder = files("vega_datasets") / "_data"
    if (folder / f"{name}.json").is_file():
        rows: list[dict[str, Any]] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        return rows
    return list(csv.DictReader((folder / f"{name}.csv").read_text(encoding="utf-8").splitlines()))


@cache
def real_series() -> tuple[Series, ...]:
    """Every series of the training tables, in a fixed order."""
    return (*_barley(), *_electricity(), *_weather(), *_iris(), *_wheat(), *_airports(), *_shares())


def _barley() -> Iterable[Series]:
    rows = read_table("barley")
    for year in (1931, 1932):
        for column in ("site", "variety"):
            pairs = ((row[column], float(row["yield"])) for row in rows if row["year"] == year)
            yield Series(f"Barley harvest of {year}", "bushels", column, _means(pairs))
    for site in sorted({row["site"] for row in rows}):
        pairs = ((row["variety"], float(row["yield"])) for row in rows if row["site"] == site)
        yield Series(f"Barley at {site}", "bushels", "variety", _means(pairs))


def _electricity() -> Iterable[Series]:
    rows = read_table("iowa-electricity")
    for source in sorted({row["source"] for row in rows}):
        pairs = ((row["year"][:4], float(row["net_generation"])) for row in rows if row["source"] == source)
        yield Series(f"Electricity in Iowa from {source.lower()}", "gigawatt hours", "year", _means(pairs))


def _weather() -> Iterable[Series]:
    rows = read_table("seattle-weather")
    columns = {"precipitation": ("Rain", "mm"), "temp_max": ("Warmest hour", "°C"), "wind": ("Wind", "m/s")}
    for year in range(2012, 2016):
        for column, (about, unit) in columns.items():
            days = [row for row in rows if row["date"].startswith(str(year))]
            pairs = ((MONTHS[int(row["date"][5:7]) - 1], float(row[column])) for row in days)
            yield Series(f"{about} in Seattle, {year}", unit, "month", _means(pairs, MONTHS))
    for table, town in (("sf-temps", "San Francisco"), ("seattle-temps", "Seattle")):
        pairs = ((MONTHS[int(row["date"][5:7]) - 1], float(row["temp"])) for row in read_table(table))
        yield Series(f"Temperature in {town}", "°F", "month", _means(pairs, MONTHS))


def _iris() -> Iterable[Series]:
    for column in ("sepalLength", "sepalWidth", "petalLength", "petalWidth"):
        about = column.replace("Length", " length").replace("Width", " width").capitalize()
        pairs = ((row["species"], float(row[column])) for row in read_table("iris"))
        yield Series(f"{about} of irises", "cm", "species", _means(pairs))


def _wheat() -> Iterable[Series]:
    for column, about in (("wheat", "Price of wheat"), ("wages", "Weekly wages")):
        rows = [row for row in read_table("wheat") if row.get(column) is not None]
        yield Series(f"{about} in England", "shillings", "year", {row["year"]: float(row[column]) for row in rows})


def _airports() -> Iterable[Series]:
    counts: dict[str, float] = defaultdict(float)
    for row in read_table("airports"):
        if row["country"] == "USA":
            counts[row["state"]] += 1
    yield Series("Airports of the United States", "airports", "state", dict(sorted(counts.items())))


def _shares() -> Iterable[Series]:
    rows = read_table("ohlc")
    for column, about in (("close", "Closing price"), ("high", "Highest price")):
        values = {f"{int(row['date'][8:])} June": float(row[column]) for row in rows if row["date"][5:7] == "06"}
        yield Series(f"{about} in June 2009", "dollars", "day", values)


def _means(pairs: Iterable[tuple[str, float]], order: Iterable[str] = ()) -> dict[str, float]:
    groups: dict[str, list[float]] = defaultdict(list)
    for category, value in pairs:
        groups[category].append(value)
    return {category: fmean(groups[category]) for category in order or sorted(groups)}


# -- invented ------------------------------------------------------------------------------------------------------

TOPICS, CATEGORIES = (read_words("tables")[name] for name in ("topics", "categories"))


def invented_series(rng: random.Random, number: int) -> Series:
    """`number` invented numbers, or fewer where there are not so many categories."""
    topic = rng.choice(sorted(TOPICS))
    kind = rng.choice(("year", "year", *CATEGORIES))
    if kind == "year":
        start, step = rng.randint(1900, 2015), rng.choice((1, 1, 1, 2, 5, 10))
        names = [str(start + step * turn) for turn in range(number)]
    else:
        pool = list(CATEGORIES[kind])
        number = min(number, len(pool))
        start = rng.randint(0, len(pool) - number)
        names = (
            pool[start : start + number] if kind in ("month", "day", "quarter", "season") else rng.sample(pool, number)
        )
    top = 10 ** rng.uniform(0.7, 4)
    about = rng.choice((f"{topic} by {kind}", topic, f"{topic} per {kind}", f"{topic}, by {kind}"))
    return Series(about, TOPICS[topic], kind, {name: top * rng.uniform(0.1, 1.0) for name in names})


def some_series(rng: random.Random, number: int, *, held: bool = False) -> Series:
    """A stretch of a real series a third of the time, else an invented one; `number` categories or a few less.

    Held rows are of invented series alone: which real tables are held out is mmeb-mini's affair.
    """
    if held or rng.random() < 0.66:
        return invented_series(rng, number)
    whole = rng.choice(real_series())
    names = list(whole.values)
    number = min(number, len(names))
    if whole.kind in ("year", "month", "day"):
        start = rng.randint(0, len(names) - number)
        names = names[start : start + number]
    else:
        names = rng.sample(names, number)
    return Series(whole.about, whole.unit, whole.kind, {name[:14]: whole.values[name] for name in names})
