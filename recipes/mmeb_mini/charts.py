"""What is asked about charts of held-out tables? Their kind, what they say, and which of many shows something."""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from draws import dice
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pack import Pack, Row, first, image_row, webp
from PIL import Image
from tables import COMPANIES, MEASURES, MONTHS, Series, all_series, cars_by, employment, prices, read_table

MEDIA = "charts"
NUM_EACH_KIND = 10
NUM_QUESTIONS = 100
NUM_SHOWN = 6
NUM_ANSWERS = 10
GAP = 0.04
"""By this share of the longest bar the right one differs from the next, so that a person can see it."""

NUM_REPEATS = 5
"""An answer is right no more often: who knows the tables alone shall not go far."""

_COLOURS = ("#1f5fa8", "#c0561b", "#1b7f4d", "#6b2d8a", "#b3202a", "#11727a", "#b88a00", "#4a4a4a")


def add_charts(pack: Pack) -> None:
    """Add the tasks `chart-kind`, `chart-questions` and `chart-by-question`."""
    _add_kinds(pack)
    _add_questions(pack)
    _add_pages(pack)


# -- kinds ---------------------------------------------------------------------------------------------------------


def _add_kinds(pack: Pack) -> None:
    rows = []
    for kind, draw in _KINDS.items():
        for number in range(NUM_EACH_KIND):
            rng = dice("mini chart kind", kind, number)
            figure, axes = plt.subplots(figsize=(2.0, 1.6), layout="constrained")
            axes.tick_params(labelsize=6)
            draw(axes, rng)
            path = pack.picture(MEDIA, f"kinds/{kind.replace(' ', '_')}_{number}", _picture(figure), 85)
            rows.append(image_row("<|image_1|> What kind of chart is this?", picture=path, texts=first(kind, _KINDS)))
    pack.rows("chart-kind", rows)


def _some(rng: random.Random, kind: str | None = None) -> tuple[list[str], list[float]]:
    series = rng.choice([one for one in all_series() if kind in (None, one.kind)])
    names = list(series.values)
    start = rng.randrange(len(names) - 6)
    shown = names[start : start + rng.randint(4, 6)]
    return [name[:12] for name in shown], [series.values[name] for name in shown]


def _bars(axes: Axes, rng: random.Random) -> None:
    axes.bar(*_some(rng, "year"), color=rng.choice(_COLOURS))


def _lying_bars(axes: Axes, rng: random.Random) -> None:
    axes.barh(*_some(rng), color=rng.choice(_COLOURS))


def _several(rng: random.Random) -> tuple[list[str], list[tuple[str, list[float]]]]:
    """The same years of two or three sectors."""
    sectors = rng.sample(sorted(employment()), rng.randint(2, 3))
    years = sorted(employment()[sectors[0]])
    start = rng.randrange(len(years) - 4)
    years = years[start : start + rng.randint(3, 4)]
    return years, [(sector, [employment()[sector][year] for year in years]) for sector in sectors]


def _grouped_bars(axes: Axes, rng: random.Random) -> None:
    years, groups = _several(rng)
    width = 0.8 / len(groups)
    for index, (_, values) in enumerate(groups):
        places = [place + index * width for place in range(len(years))]
        axes.bar(places, values, width, color=_COLOURS[(index * 2 + rng.randrange(2)) % 8])
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(years))], years)


def _stacked_bars(axes: Axes, rng: random.Random) -> None:
    years, groups = _several(rng)
    below = [0.0] * len(years)
    for index, (_, values) in enumerate(groups):
        # Each on the scale of the first, so that no part is too thin to be seen.
        scaled = [value * groups[0][1][0] / values[0] * rng.uniform(0.4, 1.0) for value in values]
        axes.bar(years, scaled, bottom=below, color=_COLOURS[(index * 2 + rng.randrange(2)) % 8])
        below = [low + value for low, value in zip(below, scaled, strict=True)]


def _lines(axes: Axes, rng: random.Random) -> None:
    company = rng.choice(sorted(prices()))
    months = sorted(prices()[company])
    start = rng.randrange(len(months) - 24)
    axes.plot([prices()[company][month] for month in months[start : start + 24]], color=rng.choice(_COLOURS))


def _area(axes: Axes, rng: random.Random) -> None:
    company = rng.choice(sorted(prices()))
    months = sorted(prices()[company])
    start = rng.randrange(len(months) - 24)
    values = [prices()[company][month] for month in months[start : start + 24]]
    axes.fill_between(range(24), values, color=rng.choice(_COLOURS))
    axes.set_ylim(0, None)


def _car_columns(rng: random.Random) -> tuple[list[float], list[float]]:
    first_column, second_column = rng.sample(sorted(MEASURES), 2)
    rows = [row for row in read_table("cars") if row[first_column] is not None and row[second_column] is not None]
    rows = rng.sample(rows, 70)
    return [row[first_column] for row in rows], [row[second_column] for row in rows]


def _points(axes: Axes, rng: random.Random) -> None:
    axes.scatter(*_car_columns(rng), s=8, color=rng.choice(_COLOURS))


def _histogram(axes: Axes, rng: random.Random) -> None:
    measure = rng.choice(sorted(MEASURES))
    values = [row[measure] for row in read_table("cars") if row[measure] is not None]
    axes.hist(values, bins=rng.randint(12, 20), color=rng.choice(_COLOURS), edgecolor="white", linewidth=0.4)


def _boxes(axes: Axes, rng: random.Random) -> None:
    measure = rng.choice(sorted(MEASURES))
    origins = rng.sample(["USA", "Europe", "Japan"], rng.randint(2, 3))
    rows = [row for row in read_table("cars") if row[measure] is not None]
    axes.boxplot([[row[measure] for row in rows if row["Origin"] == origin] for origin in origins], tick_labels=origins)


def _pie(axes: Axes, rng: random.Random) -> None:
    names, values = _some(rng, rng.choice(("sector", "maker")))
    colours = rng.sample(_COLOURS, len(values))
    axes.pie(values, labels=names, colors=colours, textprops={"fontsize": 5}, startangle=rng.randrange(360))


_KINDS: dict[str, Callable[[Axes, random.Random], None]] = {
    "vertical bar chart": _bars,
    "horizontal bar chart": _lying_bars,
    "grouped bar chart": _grouped_bars,
    "stacked bar chart": _stacked_bars,
    "line chart": _lines,
    "area chart": _area,
    "scatter plot": _points,
    "histogram": _histogram,
    "box plot": _boxes,
    "pie chart": _pie,
}


# -- questions -----------------------------------------------------------------------------------------------------


def _add_questions(pack: Pack) -> None:
    """Which bar is the highest or lowest? Six of ten answers stand on the chart."""
    rows: list[Row] = []
    given: Counter[str] = Counter()
    ask = "<|image_1|> Answer the question about the chart:"
    for turn in count():
        if len(rows) == NUM_QUESTIONS:
            break
        series, rng = all_series()[turn % len(all_series())], dice("mini chart question", turn)
        names = list(series.values)
        start = rng.randrange(len(names) - NUM_ANSWERS + 1)
        answers = names[start : start + NUM_ANSWERS]
        shown = sorted(rng.sample(answers, NUM_SHOWN), key=names.index)
        ranked = sorted(shown, key=lambda name: series.values[name])
        highest = rng.random() < 0.5
        above, below = ranked[-2:][::-1] if highest else ranked[:2][::-1]
        right = above if highest else below
        gap, top = series.values[above] - series.values[below], series.values[ranked[-1]]
        if gap < GAP * top or given[right] == NUM_REPEATS:
            continue
        given[right] += 1
        path = pack.picture(MEDIA, f"questions/{len(rows):03d}", _bar_chart(series, shown, rng), 85)
        question = f"for which {series.kind} is the bar the {'highest' if highest else 'lowest'}?"
        if series.kind != "year":
            question = f"which {series.kind} has the {'longest' if highest else 'shortest'} bar?"
        rows.append(image_row(ask, text=question, picture=path, texts=first(right, answers)))
    pack.rows("chart-questions", rows)


def _bar_chart(series: Series, shown: Sequence[str], rng: random.Random) -> Image.Image:
    figure, axes = plt.subplots(figsize=(2.6, 2.0), layout="constrained")
    values = [series.values[name] for name in shown]
    figure.suptitle(series.about, fontsize=7.5)
    if series.kind == "year":
        axes.bar(shown, values, color=rng.choice(_COLOURS))
        axes.set_ylabel(series.unit, fontsize=7)
    else:
        axes.barh(shown, values, color=rng.choice(_COLOURS))
        axes.set_xlabel(series.unit, fontsize=7)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    return _picture(figure)


# -- pages ---------------------------------------------------------------------------------------------------------


def _add_pages(pack: Pack) -> None:
    """Many charts of few tables: titles and axes tell them apart."""
    pages, queries = [], []
    for number, (question, draw) in enumerate(_charts()):
        rng = dice("mini chart page", question)
        figure, axes = plt.subplots(figsize=(3.4, 2.5), layout="constrained")
        axes.tick_params(labelsize=8)
        draw(axes, rng.choice(_COLOURS))
        name = f"chart-{number:03d}"
        pages.append((name, webp(_picture(figure), 80)))
        queries.append((f"q{number:03d}", question, name))
    pack.pages("chart-by-question", pages, queries)


Draw = Callable[[Axes, str], None]


def _charts() -> list[tuple[str, Draw]]:
    """A question, and what draws the one chart that answers it."""
    charts: list[tuple[str, Draw]] = []
    for company in COMPANIES.values():
        # Google's shares were first sold in 2004, and 2010 has three months.
        years = range(2005 if company == "Google" else 2000, 2010, 2)
        charts += [
            (f"How did a share of {company} do in the course of {year}?", _year_of(company, year)) for year in years
        ]
    charts += [(f"Did {sector} employ more or fewer people after 2008?", _jobs_in(sector)) for sector in employment()]
    for column, words in (
        ("Origin", "country of origin"),
        ("Cylinders", "number of cylinders"),
        ("Year", "model year"),
    ):
        for measure, (about, _) in MEASURES.items():
            charts.append((f"How does the {about} of cars depend on the {words}?", _cars_chart(column, words, measure)))
            if column == "Year":
                for origin in ("USA", "Europe", "Japan"):
                    question = f"How did the {about} of cars from {origin} change in the seventies?"
                    charts.append((question, _cars_chart(column, words, measure, origin)))
    for series in all_series():
        if series.table == "driving":
            for decade in range(1960, 2010, 10):
                what = "people drive" if series.unit == "miles" else "petrol cost"
                question = f"How {'far' if series.unit == 'miles' else 'much'} did {what} in the {decade}s?"
                charts.append((question, _decade_of(series, decade)))
    return charts


def _year_of(company: str, year: int) -> Draw:
    def draw(axes: Axes, colour: str) -> None:
        months = [month for month in range(12) if (year, month) in prices()[company]]
        values = [prices()[company][year, month] for month in months]
        axes.plot([MONTHS[month] for month in months], values, color=colour, marker="o", markersize=3)
        _label(axes, f"{company} {year}", "dollars a share")

    return draw


def _jobs_in(sector: str) -> Draw:
    def draw(axes: Axes, colour: str) -> None:
        values = employment()[sector]
        axes.plot(list(values), list(values.values()), color=colour, linewidth=2)
        axes.tick_params(axis="x", rotation=45)
        _label(axes, sector.capitalize(), "thousands of jobs")

    return draw


def _cars_chart(column: str, words: str, measure: str, origin: str = "") -> Draw:
    def draw(axes: Axes, colour: str) -> None:
        about, unit = MEASURES[measure]
        values = cars_by(column, measure, **({"Origin": origin} if origin else {}))
        names = [f"'{name[2:]}" if column == "Year" else name for name in values]
        if column == "Year" and origin:
            axes.plot(names, list(values.values()), color=colour, marker="s", markersize=3)
        else:
            axes.bar(names, list(values.values()), color=colour)
        axes.set_xlabel(words, fontsize=8)
        _label(axes, f"{about.capitalize()}, {f'cars from {origin}' if origin else 'all cars'}", unit)

    return draw


def _decade_of(series: Series, decade: int) -> Draw:
    def draw(axes: Axes, colour: str) -> None:
        years = [str(year) for year in range(decade, decade + 10)]
        axes.bar([year[2:] for year in years], [series.values[year] for year in years], color=colour)
        axes.set_xlabel(f"year, 19{decade % 100}s" if decade < 2000 else "year, 2000s", fontsize=8)
        _label(axes, f"{series.about}, {decade}-{decade + 9}", series.unit)

    return draw


def _label(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title, fontsize=10, fontweight="bold")
    axes.set_ylabel(unit, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _picture(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    plt.close(figure)
    with Image.open(buffer) as image:
        return image.convert("RGB")
