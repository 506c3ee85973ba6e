"""Which slides and Markdown files are made for the corpus? Talks and minutes of clubs, from sentences drawn by seed."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

SEED = 23
SLIDES = 6
MINUTES = 4
YEARS = range(2019, 2026)
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
PEOPLE = (
    "Agatha", "Benedikt", "Cosima", "Dorothea", "Emeka", "Florian", "Giulia", "Hamish", "Ingrid", "Joaquin", "Kavita",
    "Leopold", "Mireille", "Nikolai", "Octavia", "Pranav", "Quentin", "Rosalind", "Svetlana", "Tobias", "Ursula",
    "Valentin", "Winifred", "Yusuf",
)  # fmt: skip
PLACES = (
    "the village hall", "the old mill", "the harbour", "the school kitchen", "the railway depot", "the town library",
    "the allotments", "the chapel", "the market square", "the barn behind the inn",
)  # fmt: skip


class _Club(NamedTuple):
    """A club: its name, the things it deals with, and what it may do to them."""

    name: str
    things: tuple[str, ...]
    works: tuple[str, ...]


_CLUBS = (
    _Club("BeeKeeping", ("beehives", "swarm traps", "honey jars", "wax frames"), ("smoke", "weigh", "insulate")),
    _Club("ModelRailway", ("locomotives", "signal boxes", "tunnels", "turntables"), ("solder", "repaint", "rewire")),
    _Club("ChoirSociety", ("hymn sheets", "robes", "tuning forks", "risers"), ("rehearse with", "borrow", "mend")),
    _Club("SourdoughBakers", ("loaves", "starters", "bannetons", "ovens"), ("knead", "score", "proof")),
    _Club("NightSkyWatchers", ("telescopes", "star charts", "eyepieces", "domes"), ("align", "polish", "calibrate")),
    _Club("RiverRowers", ("sculls", "oars", "life jackets", "landing stages"), ("varnish", "launch", "inspect")),
    _Club("CheeseMakers", ("curds", "moulds", "cellars", "brine baths"), ("press", "turn", "salt")),
    _Club("ClockRepair", ("pendulums", "mainsprings", "dials", "escapements"), ("oil", "regulate", "dismantle")),
    _Club("WoolSpinners", ("fleeces", "spindles", "looms", "dye pots"), ("card", "wind", "felt")),
    _Club("KiteFlyers", ("kites", "reels", "bridles", "tails"), ("trim", "untangle", "patch")),
    _Club("OrchardFriends", ("apple trees", "ladders", "grafts", "cider barrels"), ("prune", "water", "label")),
    _Club("FossilHunters", ("ammonites", "hammers", "plaster casts", "trilobites"), ("chisel", "catalogue", "wrap")),
)
_SENTENCES = (
    "{person} reported that the {thing} at {place} cost {number} euros more than planned.",
    "The members agreed to {work} all {thing} before the end of {month}.",
    "Heavy rain kept visitors away, so the {thing} were shown inside {place}.",
    "{person} and {other} offered to {work} the {thing} on Saturday mornings.",
    "A thief took {number} {thing} from {place} one night in {month}.",
    "Beginners often {work} the {thing} too early and lose a whole season.",
    "{person} wants a second key to {place}, where the {thing} are kept.",
    "Only {number} of our {thing} passed the yearly inspection.",
    "The council of {place} will lend us a trailer for the {thing}.",
    "{person} taught {number} children how to {work} their first {thing}.",
    "Nobody could explain why the {thing} were found under the stage of {place}.",
    "From {month} on, {other} keeps the list of who may {work} the {thing}.",
    "Old {thing} from {place} are sold to pay for the journey in {month}.",
    "{person} broke a wrist while trying to {work} the {thing} alone.",
    "The insurance covers {thing} only if two adults {work} them together.",
    "We thank {person} for the gift of {number} {thing} in memory of {other}.",
)


def made_files() -> dict[str, bytes]:
    """Path -> content: of each club a talk of six slides and the minutes of four evenings."""
    files = {}
    for club in _CLUBS:
        draw = random.Random(f"{SEED} {club.name}")
        slides = [(f"{club.name}, slide {number}", _draw(draw, club, 3)) for number in range(1, SLIDES + 1)]
        files[f"Talks/{club.name}Report{draw.choice(YEARS)}.pptx"] = as_pptx(slides)
        for month in draw.sample(MONTHS, MINUTES):
            title = f"Minutes of {club.name}, {month} {draw.choice(YEARS)}"
            points = "\n".join(f"- {sentence}" for sentence in _draw(draw, club, 7))
            name = title.replace("Minutes of ", "minutes_").replace(", ", "_").replace(" ", "_")
            files[f"Clubs/{name}.md"] = f"# {title}\n\n{points}\n".encode()
    return files


def _draw(draw: random.Random, club: _Club, count: int) -> list[str]:
    sentences = []
    for form in draw.sample(_SENTENCES, count):
        person, other = draw.sample(PEOPLE, 2)
        filled = form.format(
            person=person,
            other=other,
            thing=draw.choice(club.things),
            work=draw.choice(club.works),
            place=draw.choice(PLACES),
            month=draw.choice(MONTHS),
            number=draw.randint(3, 90),
        )
        sentences.append(filled)
    return sentences


def as_pptx(slides: Sequence[tuple[str, Sequence[str]]]) -> bytes:
    """A PowerPoint file of slides with a title and lines, the same bytes for the same words."""
    numbers = range(1, len(slides) + 1)
    parts = {
        "[Content_Types].xml": _xml(
            "Types",
            "content-types",
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            + _content_type("presentation.xml", "presentation.main")
            + "".join(_content_type(f"slides/slide{number}.xml", "slide") for number in numbers),
        ),
        "_rels/.rels": _relations(["ppt/presentation.xml"], "officeDocument"),
        "ppt/presentation.xml": (
            f"{_HEAD}<p:presentation {_NAMES}><p:sldIdLst>"
            + "".join(f'<p:sldId id="{255 + number}" r:id="rId{number}"/>' for number in numbers)
            + '</p:sldIdLst><p:sldSz cx="9144000" cy="6858000"/><p:notesSz cx="6858000" cy="9144000"/></p:presentation>'
        ),
        "ppt/_rels/presentation.xml.rels": _relations([f"slides/slide{number}.xml" for number in numbers], "slide"),
    }
    for number, (title, lines) in zip(numbers, slides, strict=True):
        shapes = _shape(2, "title", [title]) + _shape(3, "body", lines)
        parts[f"ppt/slides/slide{number}.xml"] = (
            f"{_HEAD}<p:sld {_NAMES}><p:cSld><p:spTree><p:nvGrpSpPr><p:cNvPr id='1' name=''/><p:cNvGrpSpPr/><p:nvPr/>"
            f"</p:nvGrpSpPr><p:grpSpPr/>{shapes}</p:spTree></p:cSld></p:sld>"
        )
    packed = io.BytesIO()
    # Stored, since what compressing gives depends on the library.
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, text in parts.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return packed.getvalue()


_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_FORMATS = "http://schemas.openxmlformats.org"
_NAMES = (
    f'xmlns:a="{_FORMATS}/drawingml/2006/main" xmlns:p="{_FORMATS}/presentationml/2006/main" '
    f'xmlns:r="{_FORMATS}/officeDocument/2006/relationships"'
)


def _xml(root: str, name: str, inside: str) -> str:
    return f'{_HEAD}<{root} xmlns="{_FORMATS}/package/2006/{name}">{inside}</{root}>'


def _content_type(part: str, kind: str) -> str:
    form = f"application/vnd.openxmlformats-officedocument.presentationml.{kind}+xml"
    return f'<Override PartName="/ppt/{part}" ContentType="{form}"/>'


def _relations(targets: Sequence[str], kind: str) -> str:
    form = f"{_FORMATS}/officeDocument/2006/relationships/{kind}"
    lines = [
        f'<Relationship Id="rId{number}" Type="{form}" Target="{target}"/>' for number, target in enumerate(targets, 1)
    ]
    return _xml("Relationships", "relationships", "".join(lines))


def _shape(number: int, role: str, lines: Sequence[str]) -> str:
    """A text box; its place on the slide is that of a title, or below it."""
    top, height = (300_000, 1_000_000) if role == "title" else (1_500_000, 4_800_000)
    paragraphs = "".join(f'<a:p><a:r><a:rPr lang="en-GB"/><a:t>{escape(line)}</a:t></a:r></a:p>' for line in lines)
    return (
        f'<p:sp><p:nvSpPr><p:cNvPr id="{number}" name="{role}"/><p:cNvSpPr/><p:nvPr><p:ph type="{role}"/></p:nvPr>'
        f'</p:nvSpPr><p:spPr><a:xfrm><a:off x="400000" y="{top}"/><a:ext cx="8300000" cy="{height}"/></a:xfrm></p:spPr>'
        f"<p:txBody><a:bodyPr/>{paragraphs}</p:txBody></p:sp>"
    )
