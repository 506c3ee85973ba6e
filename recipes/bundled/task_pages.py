"""What can be sought among pages? The slide that answers a question, and the page on which a section begins."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import pypdfium2
from corpus import dice
from holdouts import HELD_SHARE, bucket
from instructions import instruction
from lettering import broken
from manuals import read_titles, render_page
from PIL import Image, ImageChops, ImageDraw
from rows import Row, image, row, text
from task_cast import wording
from task_files import FOLDER, save_picture
from wordings import read_words

_WORDS = read_words("pages")
SUBJECTS, HEADINGS = _WORDS["subjects"], _WORDS["headings"]
FACT_QUESTIONS, SECTIONS = _WORDS["fact_questions"], _WORDS["sections"]

PAGE_WIDTH_PX = 500

_START = ("Al", "Ber", "Cor", "Dun", "El", "Fal", "Gar", "Hol", "Ing", "Kal", "Lin", "Mor", "Nor", "Os", "Pel", "Rav",
          "Sten",
          "Tor", "Ul", "Var", "Wen", "Zel", "Bran", "Cam", "Hel", "Lom", "Mil", "Sil", "Tam", "Wal")  # fmt: skip
_END = ("ford", "ham", "by", "ton", "dale", "burg", "stead", "wick", "mouth", "field", "port", "heim", "haven",
        "minster", "ley",
        "ia", "ona", "ento", "ville", "grad")  # fmt: skip
_SPANS = tuple(range(1996, 2024, 4))
_INKS = (((255, 255, 255), (20, 40, 90)), ((252, 248, 238), (100, 40, 20)), ((26, 32, 50), (245, 240, 225)),
         ((230, 243, 236), (10, 70, 45)), ((243, 236, 246), (75, 20, 90)), ((255, 255, 255), (0, 0, 0)),
         ((70, 20, 30), (255, 240, 235)), ((255, 236, 190), (60, 30, 0)))  # fmt: skip
_SIZES = ((224, 168), (256, 192), (320, 240))


# -- slides --------------------------------------------------------------------------------------------------------


def slides_by_fact(number: int, held: bool) -> list[tuple[str, Row]]:
    """A question about an invented number to its slide, and a slide that differs in subject, town or years."""
    rng = dice("task slide", held, number)
    subjects = rng.sample(sorted(SUBJECTS), 2)
    towns = [f"{start}{rng.choice(_END)}" for start in rng.sample(_START, 2)]
    spans = rng.sample(_SPANS, 2)
    differs = number % 3
    facts = [(subjects[0], towns[0], spans[0])]
    facts.append((subjects[differs == 0], towns[differs == 1], spans[differs == 2]))
    note, look = instruction("page", rng, held=held), rng.getrandbits(32)
    rows, paths = [], []
    for end, (subject, town, start) in enumerate(facts):
        # Half of the twins look alike, so that nothing but what is written tells them apart.
        style = random.Random(look if number % 2 else look + end)
        numbers = dice("task fact", subject, town, start)
        paths.append(save_picture(_fact_slide(subject, town, start, style, numbers), "slides", held, number, end))
    for end, (subject, town, start) in enumerate(facts):
        words = wording(FACT_QUESTIONS, rng, held=held)
        year = start + rng.randrange(3)
        question = words.format(counted=SUBJECTS[subject][0], subject=subject, town=town, year=year)
        query = text(question, instruction("question to page", rng, held=held))
        label = f"{subject} {town} {start}"
        rows.append(("slide_by_question", row(query, image(paths[end], note), label, image(paths[1 - end], note))))
    return rows


def _fact_slide(subject: str, town: str, start: int, style: random.Random, numbers: random.Random) -> Image.Image:
    size, (ground, ink) = style.choice(_SIZES), style.choice(_INKS)
    # The smaller letters are at the limit of what can be read at the size at which a model sees them.
    small = style.choice((1.0, 1.0, 0.75))
    page = Image.new("RGB", size, ground)
    pen = ImageDraw.Draw(page)
    face = style.choice(("DejaVuSans", "DejaVuSans", "DejaVuSerif"))
    heading = style.choice(HEADINGS).format(subject=subject, Subject=subject.capitalize(), town=town)
    unit = size[1] / 168
    counted, (low, high) = SUBJECTS[subject]
    big = style.random() < 0.6
    lines = broken(pen, heading, f"{face}-Bold", round((26 if big else 18) * unit * small), size[0] - 16)
    y = 8 * unit
    for line, letters in lines:
        pen.text((8, y), line, font=letters, fill=ink)
        y += letters.size * 1.15
    if style.random() < 0.5:
        pen.line((8, y + 4, size[0] - 8, y + 4), fill=ink, width=2)
    y += 10 * unit
    step = min((size[1] - y) / 3, 36 * unit)
    # The unit stands in every line, or in none.
    template = style.choice(("{year}: {number:,}", "{year}: {number:,} {counted}", "{year}  {number:,} {counted}"))
    for place in range(3):
        words = template.format(year=start + place, number=numbers.randint(low, high) * 100, counted=counted)
        letters = broken(pen, words, face, round(20 * unit * small), size[0] - 24, 1)[0][1]
        pen.text((14, y + step * place), words, font=letters, fill=ink)
    return page


def town_name(rng: random.Random) -> str:
    """The name of a town that there is not."""
    return f"{rng.choice(_START)}{rng.choice(_END)}"


# -- manuals -------------------------------------------------------------------------------------------------------


@cache
def sections(held: bool) -> tuple[tuple[Path, int, str], ...]:
    """(PDF, page from 0, heading) of all manuals on this side of the hold-out."""
    found = read_titles(limit=10**6, per_manual=150)
    return tuple(entry for entry in found if (bucket(entry[0].stem) < HELD_SHARE) is held)


def section_pages(number: int, held: bool) -> list[tuple[str, Row]]:
    """A heading to its page, to the page without margins, and to the part of the page where it stands enlarged."""
    path, page, title = sections(held)[number]
    rng = dice("task section", path.stem, page)
    sheet = render_page(path, page, (2 * PAGE_WIDTH_PX, 4 * PAGE_WIDTH_PX)).convert("L")
    box = ImageChops.invert(sheet).point([0] * 40 + [255] * 216).getbbox()
    if box is None:
        return []
    whole = sheet.crop(box)
    views = [_fitted(whole)]
    corner = heading_corner(path, page, title)
    if corner is not None and whole.height > 0.6 * whole.width:
        # The heading and what follows it, enlarged: at the size of a whole page no model here can read a letter.
        left, top = corner[0] * sheet.width - box[0], corner[1] * sheet.height - box[1]
        for share in (1.0, rng.uniform(0.5, 0.65)):
            wide, high = round(whole.width * share), round(whole.width * share * rng.uniform(0.4, 0.7))
            above = max(0, min(round(top - high * rng.uniform(0.05, 0.25)), whole.height - high))
            before = max(0, min(round(left - wide * 0.08), whole.width - wide))
            views.append(_fitted(whole.crop((before, above, before + wide, above + high))))
    rows = []
    for place, view in enumerate(views):
        target = _save_page(view, held, number, place)
        words = wording(SECTIONS, rng, held=held) if rng.random() < 0.75 else "{title}"
        query = text(words.format(title=title.rstrip(".")), instruction("section to page", rng, held=held))
        note = instruction("page", rng, held=held)
        rows.append(("section_to_page", row(query, image(target, note), f"{path.stem}: {title}")))
    return rows


def heading_corner(path: Path, page: int, title: str) -> tuple[float, float] | None:
    """Where the heading begins, as shares of the page's width and height from top left; None if it is not found."""
    with pypdfium2.PdfDocument(path) as document:
        sheet = document[page]
        letters = sheet.get_textpage()
        found = letters.search(title, match_case=True).get_next()
        if found is None:
            return None
        left, _, _, top = letters.get_charbox(found[0])
        return left / sheet.get_width(), 1 - top / sheet.get_height()


def _fitted(sheet: Image.Image) -> Image.Image:
    """`PAGE_WIDTH_PX` wide with a small margin, in four greys: sharp letters in few bytes."""
    width = PAGE_WIDTH_PX - 16
    inner = sheet.resize((width, max(1, round(sheet.height * width / sheet.width))), Image.Resampling.LANCZOS)
    page = Image.new("L", (PAGE_WIDTH_PX, inner.height + 16), 255)
    page.paste(inner, (8, 8))
    return page.point([round(value / 85) * 85 for value in range(256)])


def _save_page(page: Image.Image, held: bool, number: int, place: int) -> str:
    target = FOLDER / "manuals" / ("held" if held else "seen") / f"{number:05d}_{place}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    page.convert("P", palette=Image.Palette.ADAPTIVE, colors=4).save(target, optimize=True, bits=2)
    return target.relative_to(FOLDER).as_posix()
