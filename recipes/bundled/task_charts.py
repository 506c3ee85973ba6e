"""What can be asked about charts? Their type, what the bars say, and which of them answers a question."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from corpus import dice
from instructions import instruction
from lettering import font
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from rows import Row, image, row, text
from task_cast import wording
from task_files import asked, save_picture
from task_tables import CATEGORIES, TOPICS, Series, some_series
from wordings import read_words

_WORDS = read_words("charts")
QUESTIONS, PAGE_QUESTIONS, TYPES = _WORDS["questions"], _WORDS["page_questions"], _WORDS["types"]
COUNTS = read_words("scenes")["counts"]

_COLOURS = ("#2f6fb5", "#d1632a", "#2c8c55", "#7a3f98", "#b93138", "#1d7f86", "#c39a1c", "#555555", "#e07b9c",
            "#8a5a2b",
            "#9acd32", "#20364f")  # fmt: skip
_GROUNDS = ("white", "white", "#f7f3ea", "#eef4fa", "#f3f3f3", "#fdf6f6", "#202634")


# -- types ---------------------------------------------------------------------------------------------------------


def chart_types(number: int, held: bool) -> list[tuple[str, Row]]:
    """A chart to the name of its type."""
    rng = dice("task chart type", held, number)
    kind = list(_DRAW)[number % len(_DRAW)]
    # Labels of slices and lines of boxes are black on any ground.
    figure, axes = _sheet(
        rng, (rng.uniform(1.7, 2.4), rng.uniform(1.4, 1.9)), dark=kind not in ("pie chart", "box plot")
    )
    axes.tick_params(labelsize=rng.randint(5, 8))
    _DRAW[kind](axes, rng, held)
    if rng.random() < 0.4:
        axes.set_title(rng.choice(sorted(TOPICS)), fontsize=8)
    if rng.random() < 0.3 and kind != "pie chart":
        axes.grid(alpha=0.4)
    path = save_picture(_picture(figure), "chart_types", held, number)
    right, *wrong = (_called(name, rng) for name in (kind, *rng.sample([k for k in _DRAW if k != kind], 2)))
    query = image(path, instruction("chart to class", rng, held=held))
    return [("chart_to_class", row(query, text(right), f"chart {kind}", *map(text, wrong)))]


def _called(kind: str, rng: random.Random) -> str:
    return rng.choices(TYPES[kind], (4, 1))[0]


def _bars(axes: Axes, rng: random.Random, held: bool) -> None:
    values = some_series(rng, rng.randint(3, 8), held=held).values
    axes.bar(
        [name[:8] for name in values],
        list(values.values()),
        rng.uniform(0.5, 0.9),
        color=_bar_colours(rng, len(values)),
    )


def _lying_bars(axes: Axes, rng: random.Random, held: bool) -> None:
    values = some_series(rng, rng.randint(3, 8), held=held).values
    axes.barh(
        [name[:8] for name in values],
        list(values.values()),
        rng.uniform(0.5, 0.9),
        color=_bar_colours(rng, len(values)),
    )


def _bar_colours(rng: random.Random, number: int) -> str | list[str]:
    return rng.choice(_COLOURS) if rng.random() < 0.7 else rng.sample(_COLOURS, number)


def _groups(rng: random.Random, held: bool) -> tuple[list[str], list[list[float]]]:
    """Labels and two or three groups of values for them."""
    series = some_series(rng, rng.randint(3, 5), held=held)
    top = max(series.values.values())
    others = [[top * rng.uniform(0.2, 1.0) for _ in series.values] for _ in range(rng.randint(1, 2))]
    return [name[:6] for name in series.values], [list(series.values.values()), *others]


def _grouped_bars(axes: Axes, rng: random.Random, held: bool) -> None:
    names, groups = _groups(rng, held)
    width, colours = 0.8 / len(groups), rng.sample(_COLOURS, 3)
    for index, values in enumerate(groups):
        axes.bar([place + index * width for place in range(len(names))], values, width, color=colours[index])
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(names))], names)


def _stacked_bars(axes: Axes, rng: random.Random, held: bool) -> None:
    names, groups = _groups(rng, held)
    below, colours = [0.0] * len(names), rng.sample(_COLOURS, 3)
    for index, values in enumerate(groups):
        axes.bar(range(len(names)), values, bottom=below, color=colours[index])
        below = [low + value for low, value in zip(below, values, strict=True)]
    axes.set_xticks(range(len(names)), names)


def _walk(rng: random.Random, length: int) -> list[float]:
    values, value, step = [], rng.uniform(20, 80), rng.uniform(2, 9)
    for _ in range(length):
        value = max(4.0, value + rng.gauss(0, step))
        values.append(value)
    return values


def _lines(axes: Axes, rng: random.Random, held: bool) -> None:
    length, mark = rng.randint(6, 36), rng.choice(("", "", "o", "s"))
    for colour in rng.sample(_COLOURS, rng.choice((1, 1, 2, 3))):
        axes.plot(_walk(rng, length), color=colour, marker=mark, markersize=3, linewidth=rng.uniform(1, 2.4))


def _area(axes: Axes, rng: random.Random, held: bool) -> None:
    values = _walk(rng, rng.randint(8, 36))
    colour = rng.choice(_COLOURS)
    axes.fill_between(range(len(values)), values, color=colour, alpha=rng.choice((1.0, 0.6)))
    if rng.random() < 0.3:
        axes.plot(values, color=colour)
    axes.set_ylim(0, None)


def _points(axes: Axes, rng: random.Random, held: bool) -> None:
    slope, spread = rng.uniform(-1, 1), rng.uniform(0.1, 0.5)
    for colour in rng.sample(_COLOURS, rng.choice((1, 1, 2))):
        across = [rng.uniform(0, 10) for _ in range(rng.randint(15, 80))]
        axes.scatter(
            across, [slope * x + rng.gauss(0, 10 * spread) for x in across], s=rng.randint(4, 16), color=colour
        )


def _histogram(axes: Axes, rng: random.Random, held: bool) -> None:
    shape = rng.choice((lambda: rng.gauss(0, 1), lambda: rng.expovariate(1), lambda: rng.betavariate(5, 2)))
    values = [shape() for _ in range(rng.randint(150, 500))]
    axes.hist(
        values,
        bins=rng.randint(10, 24),
        color=rng.choice(_COLOURS),
        edgecolor=rng.choice(("white", "black")),
        linewidth=0.4,
    )


def _boxes(axes: Axes, rng: random.Random, held: bool) -> None:
    names = rng.sample(CATEGORIES[rng.choice(("town", "person", "letter", "country"))], rng.randint(2, 5))
    groups = [[rng.gauss(middle, 2) for _ in range(40)] for middle in (rng.uniform(0, 10) for _ in names)]
    filled = rng.random() < 0.5
    boxes = axes.boxplot(groups, tick_labels=names, patch_artist=filled)
    for box in boxes["boxes"] if filled else ():
        box.set_facecolor(rng.choice(_COLOURS))


def _pie(axes: Axes, rng: random.Random, held: bool) -> None:
    values = some_series(rng, rng.randint(3, 7), held=held).values
    colours = rng.sample(_COLOURS, len(values))
    labels = [name[:8] for name in values] if rng.random() < 0.7 else None
    axes.pie(
        list(values.values()), labels=labels, colors=colours, textprops={"fontsize": 6}, startangle=rng.randrange(360)
    )


_DRAW: dict[str, Callable[[Axes, random.Random, bool], None]] = {
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


def chart_questions(number: int, held: bool) -> list[tuple[str, Row]]:
    """Two questions about one bar chart; most are drawn with letters large enough for a small picture."""
    rng = dice("task chart question", held, number)
    series = some_series(rng, rng.randint(3, 6), held=held)
    names = list(series.values)
    values = [series.values[name] for name in names]
    ranked = sorted(names, key=lambda name: series.values[name])
    top = max(values)
    kinds = ["first", "last", "number", "title"]
    # A person has to see which one is meant.
    clear = [series.values[ranked[-1]] - series.values[ranked[-2]], series.values[ranked[1]] - series.values[ranked[0]]]
    kinds += [kind for kind, gap in zip(("highest", "lowest"), clear, strict=True) if gap > 0.05 * top]
    draw = _plain_bars if rng.random() < 0.62 else _plotted_bars
    path = save_picture(draw(series, rng), "chart_questions", held, number)
    rows = []
    for kind in _two(kinds, rng):
        question = wording(QUESTIONS[kind], rng, held=held).format(kind=series.kind)
        if kind == "number":
            right, others = COUNTS[len(names)], [COUNTS[n] for n in range(2, 8) if n != len(names)]
        elif kind == "title":
            right, others = series.about, [f"{topic} by {series.kind}" for topic in rng.sample(sorted(TOPICS), 3)]
            others = [other for other in others if other.split(" by ")[0] not in right]
        else:
            right = {"highest": ranked[-1], "lowest": ranked[0], "first": names[0], "last": names[-1]}[kind]
            others = [name for name in names if name != right]
        query = asked(path, question, instruction("chart question", rng, held=held))
        rows.append(
            ("chart_question", row(query, text(right), right, *map(text, rng.sample(others, min(2, len(others))))))
        )
    return rows


def _two(kinds: Sequence[str], rng: random.Random) -> list[str]:
    """Two kinds of question; the highest and the lowest bar are asked for most."""
    weighed = {"highest": 6, "lowest": 6, "first": 1, "last": 1, "number": 1, "title": 1}
    first = rng.choices(kinds, [weighed[kind] for kind in kinds])[0]
    rest = [kind for kind in kinds if kind != first]
    return [first, rng.choices(rest, [weighed[kind] for kind in rest])[0]]


def _plain_bars(series: Series, rng: random.Random) -> Image.Image:
    """Bars and large labels, and nothing else but a title."""
    size = rng.choice(((224, 168), (200, 160), (192, 144), (240, 180)))
    ground = rng.choice(((255, 255, 255), (255, 255, 255), (247, 243, 234), (236, 242, 250), (34, 38, 52)))
    ink = (245, 245, 245) if sum(ground) < 300 else (20, 20, 30)
    page = Image.new("RGB", size, ground)
    pen, colour = ImageDraw.Draw(page), rng.choice(_COLOURS[:-1])
    names, top = list(series.values), max(series.values.values())
    title_font = _fitting(pen, series.about, "DejaVuSans-Bold", 17, size[0] - 12)
    pen.text((size[0] / 2, 5), series.about, font=title_font, fill=ink, anchor="ma")
    colours = rng.sample(_COLOURS[:-1], len(names)) if rng.random() < 0.35 else [colour] * len(names)
    if max(map(len, names)) > 5 or rng.random() < 0.25:
        step = (size[1] - 32) / len(names)
        font = _fitting(pen, max(names, key=len), "DejaVuSans", min(17, int(step * 0.75)), size[0] * 0.42)
        left = 10 + max(pen.textlength(name, font=font) for name in names)
        for place, name in enumerate(names):
            middle = 28 + step * (place + 0.5)
            pen.text((left - 5, middle), name, font=font, fill=ink, anchor="rm")
            end = left + (size[0] - left - 8) * series.values[name] / top
            pen.rectangle((left, middle - step * 0.34, max(end, left + 1), middle + step * 0.34), fill=colours[place])
        return page
    step = (size[0] - 12) / len(names)
    font = _fitting(pen, max(names, key=len), "DejaVuSans", 18, step - 3)
    for place, name in enumerate(names):
        middle, floor = 6 + step * (place + 0.5), size[1] - 26
        pen.text((middle, floor + 3), name, font=font, fill=ink, anchor="ma")
        peak = floor - (floor - 32) * series.values[name] / top
        pen.rectangle((middle - step * 0.34, min(peak, floor - 1), middle + step * 0.34, floor), fill=colours[place])
    return page


def _plotted_bars(series: Series, rng: random.Random) -> Image.Image:
    figure, axes = _sheet(rng, (2.6, 2.0))
    names, values = list(series.values), list(series.values.values())
    if max(map(len, names)) > 5 or rng.random() < 0.25:
        axes.barh(names, values, color=rng.choice(_COLOURS[:-1]))
        axes.invert_yaxis()
        axes.set_xlabel(series.unit, fontsize=7)
    else:
        axes.bar(names, values, color=rng.choice(_COLOURS[:-1]))
        axes.set_ylabel(series.unit, fontsize=7)
    axes.set_title(series.about, fontsize=8 if len(series.about) < 30 else 6)
    axes.tick_params(labelsize=rng.randint(7, 9))
    axes.spines[["top", "right"]].set_visible(False)
    return _picture(figure)


# -- pages ---------------------------------------------------------------------------------------------------------

_PLACES = ("Ardal", "Bexton", "Corvey", "Dunmere", "Elstow", "Farnby", "Gresham", "Holt", "Norway", "Spain", "Italy",
           "Kenya",
           "Peru", "Chile", "India", "Japan", "Egypt", "Ghana", "Cuba", "Nepal", "Texas", "Ohio", "Alaska", "Bavaria",
           "Wales", "Sicily", "Crete", "Tibet")  # fmt: skip
_SPANS = tuple((start, start + 6) for start in range(1950, 2018, 7))


def chart_pages(number: int, held: bool) -> list[tuple[str, Row]]:
    """Questions to charts, and a chart that differs in what is plotted, where, or when."""
    rng = dice("task chart page", held, number)
    topics, places, spans = rng.sample(sorted(TOPICS), 2), rng.sample(_PLACES, 2), rng.sample(_SPANS, 2)
    differs = number % 3
    twin = [differs == 0, differs == 1, differs == 2]
    facts = [(topics[0], places[0], spans[0]), (topics[twin[0]], places[twin[1]], spans[twin[2]])]
    note = instruction("page", rng, held=held)
    paths = [save_picture(_time_chart(*fact, rng), "chart_pages", held, number, end) for end, fact in enumerate(facts)]
    rows = []
    for place, (topic, where, span) in enumerate(facts):
        words = wording(PAGE_QUESTIONS, rng, held=held)
        question = words.format(topic=topic.lower(), place=where, start=span[0], end=span[1])
        query = text(question, instruction("question to page", rng, held=held))
        label = f"{topic} {where} {span[0]}"
        rows.append(("chart_by_question", row(query, image(paths[place], note), label, image(paths[1 - place], note))))
    return rows


def _time_chart(topic: str, where: str, span: tuple[int, int], rng: random.Random) -> Image.Image:
    figure, axes = _sheet(rng, (rng.uniform(2.6, 3.2), rng.uniform(2.0, 2.4)))
    years, values, colour = list(range(span[0], span[1] + 1)), _walk(rng, 7), rng.choice(_COLOURS[:-1])
    kind = rng.randrange(3)
    if kind == 0:
        axes.bar(years, values, color=colour)
    elif kind == 1:
        axes.plot(years, values, color=colour, linewidth=2.5, marker="o")
    else:
        axes.fill_between(years, values, color=colour)
    axes.set_xticks(years[::2])
    axes.tick_params(labelsize=rng.randint(9, 11))
    title = rng.choice(("{} in {}", "{}, {}", "{}: {}")).format(topic, where)
    if rng.random() < 0.5:
        title += f"\n{span[0]}-{span[1]}"
    # Large where the words fit into the width.
    longest = max(map(len, title.split("\n")))
    axes.set_title(title, fontsize=min(rng.randint(10, 15), 260 / longest), fontweight=rng.choice(("bold", "normal")))
    if rng.random() < 0.5:
        axes.set_ylabel(TOPICS[topic], fontsize=9)
    return _picture(figure)


# -- shared --------------------------------------------------------------------------------------------------------


def _sheet(rng: random.Random, size: tuple[float, float], *, dark: bool = True) -> tuple[Figure, Axes]:
    """An empty figure, light or, if it may be, dark."""
    ground = rng.choice(_GROUNDS if dark else _GROUNDS[:5])
    ink = "white" if ground == "#202634" else "black"
    settings = {
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "text.color": ink,
        "axes.labelcolor": ink,
    }
    settings |= {
        "axes.facecolor": ground,
        "figure.facecolor": ground,
        "font.family": rng.choice(("DejaVu Sans", "DejaVu Serif")),
    }
    with plt.rc_context(settings):
        figure, axes = plt.subplots(figsize=size, layout="constrained")
    return figure, axes


def _picture(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    plt.close(figure)
    with Image.open(buffer) as image:
        return image.convert("RGB")


def _fitting(pen: ImageDraw.ImageDraw, words: str, face: str, size_px: int, width_px: float) -> ImageFont.FreeTypeFont:
    """The font in the largest size up to `size_px` in which the words are no wider than `width_px`."""
    while size_px > 7 and pen.textlength(words, font=font(face, size_px)) > width_px:
        size_px -= 1
    return font(face, size_px)
