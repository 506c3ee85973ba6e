"""What is sought among documents? Slides by title or fact, and pages of manuals by section."""

from __future__ import annotations

import random
import re
from collections.abc import Container, Sequence
from pathlib import Path

from cast import actors
from draws import dice
from fetch import UNPACKED
from holdouts import HELD_SHARE, SAMPLES, bucket
from manuals import read_titles, render_page, titles_of
from pack import Pack, webp
from PIL import Image, ImageChops, ImageDraw
from slides import draw_slide, draw_title, font, plan_slide

NUM_TITLED = 100
NUM_FACTS = 96
PER_MANUAL = 15
PER_FOREIGN = 34
PAGE_WIDTH_PX = 500

FOREIGN: dict[str, tuple[Path, Container[int]]] = {
    "gle": (UNPACKED / "gle/usr/share/gle-graphics/doc/gle-manual.pdf", SAMPLES.pages["gle"]),
    "debmake": (UNPACKED / "debmake/usr/share/doc/debmake-doc/debmake-doc.en.pdf", SAMPLES.pages["debmake"]),
    "reportlab": (UNPACKED / "reportlab/usr/share/doc/python-reportlab-doc/reportlab-userguide.pdf", range(25, 34)),
}
"""Manual -> its file, and the pages, from 0, that are left out: those in samples/, and those that quote a song."""


_VAGUE = re.compile(
    r"v\d|documentation$|implementation$|lessthan|\bii\b| : |None"
    r"|^(introduction|getting started|more examples|graphics|table of contents|the commands|the problem|our solution)$",
    re.IGNORECASE,
)
"""Headings that name a whole manual or a version, that any manual could have, or that lost signs in the outline."""


def add_documents(pack: Pack) -> None:
    """Add the tasks `slide-by-title`, `slide-by-question`, `manual-by-section` and `foreign-manual`."""
    _add_titled(pack)
    _add_facts(pack)
    _add_manuals(pack)
    _add_foreign(pack)


# -- slides by title -----------------------------------------------------------------------------------------------


def _add_titled(pack: Pack) -> None:
    """Slides with held-out titles and things."""
    things = {thing.name: thing for thing in actors("fluent-3d", "fluent-emoji-flat", "noto")}
    rng, titles = dice("mini titles"), dict[str, str]()
    while len(titles) < NUM_TITLED:
        title, name = draw_title([name for name in things if len(name) < 18], rng)
        if bucket(title) < HELD_SHARE:
            titles.setdefault(title, name)
    pages, queries = [], []
    for number, (title, name) in enumerate(titles.items()):
        rng = dice("mini slide", title)
        lines = [f"{rng.choice(_NOTES)} {rng.choice(_NOTES)}" for _ in range(3)]
        sprite = things[name].sprite(rng.choice(("fluent-3d", "noto")), 96) if name and rng.random() < 0.7 else None
        slide = draw_slide(plan_slide(title, lines, rng), sprite, rng)
        page = f"slide-{number:03d}"
        pages.append((page, webp(slide, 85)))
        words = rng.choice(("{}", "the slide with the heading {}", "slide: {}", "the slide that says {} at the top"))
        queries.append((f"q{number:03d}", words.format(title), page))
    pack.pages("slide-by-title", pages, queries, title=list(titles))


_NOTES = ("first", "early", "open", "steady", "later", "local", "annual", "shared", "results", "meeting", "numbers",
          "questions", "partners", "schedule", "answers", "summary")  # fmt: skip


# -- slides by fact ------------------------------------------------------------------------------------------------

_TOWNS = ("Harwick", "Oldenby", "Marsk", "Tolvane", "Brunnau", "Castelmar", "Rivanda", "Kestrel Bay")
_SUBJECTS = {
    # What is counted -> heading, question with the place and year left open, range of the numbers.
    "museum": ("The town museum of {}", "How many people came to see the museum in {} in {}?", (2, 90)),
    "library": ("{} public library", "How many books were borrowed from the library of {} in {}?", (10, 400)),
    "ferry": ("The {} ferry", "How many passengers crossed by ferry from {} in {}?", (5, 200)),
    "orchard": ("Fruit growing around {}", "How much fruit was picked near {} in {}?", (1, 60)),
    "school": ("Schools in {}", "How many pupils went to school in {} in {}?", (1, 30)),
    "tram": ("Trams of {}", "How many tram rides were taken in {} in {}?", (20, 900)),
}
_COUNTED = {
    "museum": "visitors", "library": "loans", "ferry": "passengers", "orchard": "tonnes", "school": "pupils",
    "tram": "rides",
}  # fmt: skip
_PERIODS = ((2015, 2018), (2021, 2024))
_INKS = (((255, 255, 255), (30, 60, 110)), ((250, 247, 238), (110, 45, 20)), ((28, 36, 56), (240, 240, 245)),
         ((232, 244, 236), (15, 80, 50)), ((244, 236, 246), (85, 25, 95)))  # fmt: skip
_SLIDE = (320, 240)


def _add_facts(pack: Pack) -> None:
    """Invented numbers: same town, same subject and same years each stand on many other slides too."""
    plans = [(subject, town, years) for subject in _SUBJECTS for town in _TOWNS for years in _PERIODS][:NUM_FACTS]
    pages, queries = [], []
    for number, (subject, town, years) in enumerate(plans):
        rng = dice("mini fact", subject, town, years[0])
        heading, question, (low, high) = _SUBJECTS[subject]
        shown = range(years[0], years[1] + 1)
        lines = [f"{year}:  {rng.randint(low * 10, high * 10) * 100:,} {_COUNTED[subject]}" for year in shown]
        page = f"fact-{number:03d}"
        pages.append((page, webp(_draw_facts(heading.format(town), lines, rng), 80)))
        queries.append((f"q{number:03d}", question.format(town, rng.choice(shown)), page))
    pack.pages("slide-by-question", pages, queries)


def _draw_facts(heading: str, lines: Sequence[str], rng: random.Random) -> Image.Image:
    ground, ink = rng.choice(_INKS)
    page = Image.new("RGB", _SLIDE, ground)
    pen = ImageDraw.Draw(page)
    face = rng.choice(("DejaVuSans", "DejaVuSerif"))
    size_px = next(size for size in range(20, 10, -1) if pen.textlength(heading, font=font(f"{face}-Bold", size)) < 290)
    pen.text((16, 16), heading, font=font(f"{face}-Bold", size_px), fill=ink)
    pen.line((16, 48, 304, 48), fill=ink, width=2)
    for row, line in enumerate(lines):
        pen.text((28, 66 + 38 * row), f"•  {line}", font=font(face, 17), fill=ink)
    pen.text((16, 222), f"page {rng.randint(2, 60)}", font=font(face, 9), fill=ink)
    return page


# -- manuals -------------------------------------------------------------------------------------------------------


def _add_manuals(pack: Pack) -> None:
    """Pages of the LaTeX manuals that are held out whole, by the heading of a section that begins there."""
    by_manual: dict[Path, list[tuple[Path, int, str]]] = {}
    for entry in read_titles():
        if bucket(entry[0].stem) < HELD_SHARE and not _VAGUE.search(entry[2]):
            by_manual.setdefault(entry[0], []).append(entry)
    entries = [entry for path in sorted(by_manual) for entry in by_manual[path][:PER_MANUAL]]
    _add_sections(pack, "manual-by-section", [(path.stem, path, page, title) for path, page, title in entries])


def _add_foreign(pack: Pack) -> None:
    """Manuals of another kind than any that is trained."""
    entries = []
    for name, (path, left_out) in FOREIGN.items():
        found = [(page, re.sub(r"^(Chapter|Appendix) \w+ ", "", title)) for _, page, title in titles_of(path)]
        usable = [(page, title) for page, title in found if page not in left_out and not _VAGUE.search(title)]
        step = max(1, len(usable) / PER_FOREIGN)
        picked = [usable[int(index * step)] for index in range(min(PER_FOREIGN, len(usable)))]
        entries += [(name, path, page, title) for page, title in picked]
    _add_sections(pack, "foreign-manual", entries)


def _add_sections(pack: Pack, task: str, entries: Sequence[tuple[str, Path, int, str]]) -> None:
    pages, queries = [], []
    for number, (manual, path, page, title) in enumerate(entries):
        name = f"{manual}-{page + 1:03d}"
        pages.append((name, _page(path, page)))
        words = dice("mini section", name).choice(("{}", "Where is the section on {}?", "the page where {} begins"))
        queries.append((f"q{number:03d}", words.format(title.rstrip(".")), name))
    pack.pages(task, pages, queries, manual=[manual for manual, _, _, _ in entries])


def _page(path: Path, page: int) -> bytes:
    """The page without its margins, so that letters are larger, in four greys: sharp letters in few bytes."""
    image = render_page(path, page, (2 * PAGE_WIDTH_PX, 4 * PAGE_WIDTH_PX)).convert("L")
    box = ImageChops.invert(image).point([0] * 40 + [255] * 216).getbbox()
    if box is None:
        raise ValueError(f"page {page} of {path} is empty")
    image = image.crop(box)
    size = (PAGE_WIDTH_PX - 16, round(image.height * (PAGE_WIDTH_PX - 16) / image.width))
    sheet = Image.new("L", (PAGE_WIDTH_PX, size[1] + 16), 255)
    sheet.paste(image.resize(size, Image.Resampling.LANCZOS), (8, 8))
    return webp(sheet.point([round(value / 85) * 85 for value in range(256)]), quality=None)
