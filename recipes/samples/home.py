"""What is in samples/home? Documents, a web page, a photograph's folder and a film with subtitles, all of our own."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pptx import Presentation

TEXTS = Path(__file__).resolve().parent / "texts"
MADE = datetime(2024, 3, 1)
# The earliest that a zip file can say.
ZIPPED = (1980, 1, 1, 0, 0, 0)

SLIDES = (
    (
        "Garden club: the year ahead",
        ("Meetings on the first Tuesday", "Four open days", "New tool shed"),
        "Welcome everybody, and thank Henrietta for the sandwiches. The annual fee stays at twenty pounds.",
    ),
    (
        "Making better compost",
        ("Green and brown in equal parts", "Turn it every two weeks", "Keep it as damp as a wrung sponge"),
        "If the heap smells of ammonia, there is too much grass in it: mix in torn cardboard.",
    ),
    (
        "Slugs and snails",
        ("Water in the morning", "Boards as traps", "Toads, hedgehogs and ducks eat them"),
        "Somebody will ask about salt. Advise against it: salt ruins the soil for years.",
    ),
    (
        "Seed swap in April",
        ("Label what you bring", "Beans, peas and tomatoes", "Tea at four"),
        "Mention that the village hall is locked at six, and the key is with the baker.",
    ),
)
"""Title, lines and speaker's notes of each slide."""

FILM_SIZE, FILM_RATE, SCENE_S = (160, 112), 4, 15
SCENES = ("house", "racing_car", "lighthouse", "bee", "birthday_cake", "gramophone")
"""Drawings of samples/drawings; texts/family_day.srt tells what happens meanwhile."""


def write_home(samples: Path) -> None:
    """Write samples/home, byte for byte the same each time; the pictures of samples/drawings are there already."""
    home = samples / "home"
    for folder in (home / "films", home / "2023-08 Denmark"):
        folder.mkdir(parents=True, exist_ok=True)
    for text in sorted(TEXTS.iterdir()):
        folder = home / "films" if text.suffix == ".srt" else home
        (folder / text.name).write_bytes(text.read_bytes())
    _write_talk(home / "garden_club.pptx")
    _write_scan(home / "2024-03 Invoice Miller.pdf")
    _write_photograph(samples / "drawings", home / "2023-08 Denmark" / "IMG_2031.jpg")
    _write_film(samples / "drawings", home / "films" / "family_day.mp4")


def _write_talk(path: Path) -> None:
    talk = Presentation()
    about = talk.core_properties
    about.title, about.author, about.last_modified_by = SLIDES[0][0], "vlm2vec", "vlm2vec"
    about.created = about.modified = MADE
    for title, lines, notes in SLIDES:
        slide = talk.slides.add_slide(talk.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = "\n".join(lines)
        slide.notes_slide.notes_text_frame.text = notes
    written = io.BytesIO()
    talk.save(written)
    # python-pptx stamps every part with the time of writing.
    with zipfile.ZipFile(written) as stamped, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in stamped.namelist():
            archive.writestr(zipfile.ZipInfo(name, ZIPPED), stamped.read(name), zipfile.ZIP_DEFLATED)


def _write_scan(path: Path) -> None:
    """A page without a text layer, as scanners make it: its name alone tells in letters what it is."""
    sheet = Image.new("L", (620, 877), 250)
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(40), ImageFont.load_default(20)
    draw.text((60, 60), "INVOICE", 30, font=large)
    rows = ("Miller & Daughter, plumbers", "1 tap: 48.00", "2 hours of work: 90.00", "total: 138.00")
    for row, line in enumerate(rows):
        draw.text((60, 160 + 44 * row), line, 60, font=small)
    draw.line((60, 285, 420, 285), 60, 2)
    made = time.gmtime(0)
    sheet.save(path, "PDF", resolution=75, creationDate=made, modDate=made)


def _write_photograph(drawings: Path, path: Path) -> None:
    """The lighthouse by the sea."""
    scene = _ground((320, 240), (150, 200, 240), (235, 235, 215))
    ImageDraw.Draw(scene).rectangle((0, 175, 320, 240), (40, 95, 140))
    _put(scene, drawings / "house.png", 0.3, 0.6, 0.3)
    _put(scene, drawings / "lighthouse.png", 0.7, 0.45, 0.8)
    scene.save(path, quality=88, optimize=True)


def _write_film(drawings: Path, path: Path) -> None:
    """H.264 without sound, a drawing after the other, each moving a little."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FILM_RATE, options={"crf": "30", "preset": "slow"})
        stream.width, stream.height = FILM_SIZE
        stream.pix_fmt = "yuv420p"
        # One thread: with more, the bytes differ from run to run.
        stream.codec_context.thread_count = 1
        for frame in _frames(drawings):
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())


def _frames(drawings: Path) -> Iterator[Image.Image]:
    for number, name in enumerate(SCENES):
        ground = _ground(FILM_SIZE, (200, 225, 245), (150 + 15 * number, 200 - 10 * number, 130))
        # A new place each second.
        for x in np.repeat(np.linspace(0.4, 0.6, SCENE_S), FILM_RATE):
            frame = ground.copy()
            _put(frame, drawings / f"{name}.png", float(x), 0.5, 0.8)
            yield frame


def _ground(size: tuple[int, int], top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Image.Image:
    share = np.linspace(0, 1, size[1])[:, None, None]
    column = np.array(top) * (1 - share) + np.array(bottom) * share
    return Image.fromarray(np.repeat(column, size[0], axis=1).astype(np.uint8))


def _put(scene: Image.Image, drawing: Path, x: float, y: float, side: float) -> None:
    """The drawing on the scene, where it is not white: centre as shares of width and height, side of the height."""
    with Image.open(drawing) as image:
        sprite = image.convert("RGB")
    sprite.thumbnail((round(side * scene.height),) * 2, Image.Resampling.LANCZOS)
    mask = sprite.convert("L").point([255] * 245 + [0] * 11)
    corner = (round(x * scene.width - sprite.width / 2), round(y * scene.height - sprite.height / 2))
    scene.paste(sprite, corner, mask)
