"""Which real tables are held out, and which series of numbers do they hold?"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any

from fetch import UNPACKED
from holdouts import bucket

HELD_TABLES = 33
"""Percent of the tables of vega-datasets that `tiny` was not trained on."""

COMPANIES = {"MSFT": "Microsoft", "AMZN": "Amazon", "IBM": "IBM", "GOOG": "Google", "AAPL": "Apple"}
SECTORS = (
    "mining_and_logging", "construction", "manufacturing", "wholesale_trade", "retail_trade",
    "transportation_and_warehousing", "utilities", "information", "financial_activities",
    "professional_and_business_services", "education_and_health_services", "leisure_and_hospitality", "other_services",
    "government",
)  # fmt: skip
MEASURES = {
    "Miles_per_Gallon": ("fuel economy", "miles per gallon"),
    "Horsepower": ("engine power", "horsepower"),
    "Weight_in_lbs": ("weight", "pounds"),
    "Acceleration": ("acceleration", "seconds to 60 mph"),
    "Displacement": ("engine displacement", "cubic inches"),
}
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Series:
    """Numbers by category, with what they are.

    Args:
        table: that it comes from.
        about: what is measured, of what, as a chart's title says it.
        unit: of the numbers.
        kind: what the categories are, such as "year".
        values: by category, in the order of the categories.
    """

    table: str
    about: str
    unit: str
    kind: str
    values: Mapping[str, float]


def read_table(name: str) -> list[dict[str, Any]]:
    """The rows of a held-out table.

    Raises:
        ValueError: the table may be trained on.
    """
    if bucket(name) >= HELD_TABLES:
        raise ValueError(f"the table {name} is not held out")
    folder = UNPACKED / "vega-datasets" / "vega_datasets" / "_data"
    if (folder / f"{name}.json").is_file():
        rows: list[dict[str, Any]] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        return rows
    return list(csv.DictReader((folder / f"{name}.csv").read_text(encoding="utf-8").splitlines()))


@cache
def all_series() -> tuple[Series, ...]:
    """Every series with at least ten categories, in a fixed order."""
    return (*_stocks(), *_employment(), *_driving(), *_cars())


@cache
def prices() -> Mapping[str, Mapping[tuple[int, int], float]]:
    """Share prices by company, year and month (from 0)."""
    found: dict[str, dict[tuple[int, int], float]] = defaultdict(dict)
    for row in read_table("stocks"):
        month, _, year = row["date"].split()
        found[COMPANIES[row["symbol"]]][int(year), MONTHS.index(month)] = float(row["price"])
    return found


@cache
def employment() -> Mapping[str, Mapping[str, float]]:
    """Thousands of employees, mean of the year, by sector and year."""
    found = {}
    for column in SECTORS:
        pairs = ((row["month"][:4], float(row[column])) for row in read_table("us-employment"))
        found[column.replace("_", " ")] = _means(pairs)
    return found


def cars_by(column: str, measure: str, **where: str) -> dict[str, float]:
    """Mean of a measure of the cars by a column; makers are the first word of their cars' names."""
    pairs = []
    for row in read_table("cars"):
        if row[measure] is None or any(row[key] != value for key, value in where.items()):
            continue
        name = str(row[column])
        category = {"Year": name[:4], "Name": name.split()[0].title()}.get(column, name)
        pairs.append((category, float(row[measure])))
    return _means(pairs)


def _stocks() -> Iterable[Series]:
    for company, values in prices().items():
        by_year = _means((str(year), price) for (year, _), price in values.items())
        if len(by_year) >= 10:
            yield Series("stocks", f"Share price of {company}", "dollars", "year", by_year)


def _employment() -> Iterable[Series]:
    for sector, values in employment().items():
        yield Series("us-employment", f"Jobs in {sector}", "thousands", "year", values)
    for year in ("2006", "2009", "2012", "2015"):
        values = {sector: by_year[year] for sector, by_year in employment().items()}
        yield Series("us-employment", f"Jobs by sector in {year}", "thousands", "sector", values)


def _driving() -> Iterable[Series]:
    rows = read_table("driving")
    yield Series("driving", "Miles driven per head", "miles", "year", {str(row["year"]): row["miles"] for row in rows})
    yield Series("driving", "Price of petrol", "dollars per gallon", "year", {str(r["year"]): r["gas"] for r in rows})


def _cars() -> Iterable[Series]:
    counts: dict[str, int] = defaultdict(int)
    for row in read_table("cars"):
        counts[row["Name"].split()[0].title()] += 1
    makers = [maker for maker, number in sorted(counts.items()) if number >= 8]
    for measure, (about, unit) in MEASURES.items():
        yield Series("cars", f"Cars: mean {about}", unit, "year", cars_by("Year", measure))
        by_maker = cars_by("Name", measure)
        yield Series("cars", f"Cars: mean {about}", unit, "maker", {maker: by_maker[maker] for maker in makers})


def _means(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    groups: dict[str, list[float]] = defaultdict(list)
    for category, value in pairs:
        groups[category].append(value)
    return {category: fmean(values) for category, values in sorted(groups.items())}
