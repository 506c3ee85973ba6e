"""Draw the first hits of some questions in samples/ as one picture, docs/search.webp, for the README."""

from __future__ import annotations

from pathlib import Path

from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont, ImageOps

from vlm2vec import Filter, Library, Question
from vlm2vec.media import load_frames

ROOT = Path(__file__).parents[1]
QUESTIONS = ("spring flowers", "an old Latin saying", "grandfather counts the stairs")
SIDE_PX, LABEL_PX, GAP_PX, LEFT_PX, HITS = 165, 22, 12, 260, 3
SEEN = Filter(frozenset({"image", "video", "page"}))
FAINT = 0.3
"""How much is seen of a hit that is only nearest."""


def main() -> None:
    """Search and draw: a row for each question, its best hits from the left."""
    size = (HITS * (SIDE_PX + GAP_PX) + LEFT_PX + GAP_PX, len(QUESTIONS) * (SIDE_PX + LABEL_PX + GAP_PX) + GAP_PX)
    sheet = PILImage.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(17), ImageFont.load_default(11)
    with Library.open(ROOT / "samples") as library:
        library.sync()
        for row, question in enumerate(QUESTIONS):
            top = GAP_PX + row * (SIDE_PX + LABEL_PX + GAP_PX)
            draw.text((GAP_PX, top + SIDE_PX // 2), f"“{question}”", "black", font=large, anchor="lm")
            for place, hit in enumerate(library.search(Question(question, HITS, where=SEEN))):
                if (medium := library.medium(hit)) is None:
                    raise SystemExit(f"{hit.path} {hit.place} has no picture: ask something else")
                left = LEFT_PX + place * (SIDE_PX + GAP_PX)
                frame = load_frames(medium, num_frames=1).images[0].convert("RGB")
                square = ImageOps.pad(frame, (SIDE_PX, SIDE_PX), color="#f3f3f3")
                if hit.weak:
                    square = PILImage.blend(PILImage.new("RGB", square.size, "white"), square, FAINT)
                sheet.paste(square, (left, top))
                label = f"{hit.score:.2f}  {Path(hit.path).name}  {hit.place}".rstrip()
                draw.text((left, top + SIDE_PX + 4), label, "#aaaaaa" if hit.weak else "#222222", font=small)
    sheet.save(ROOT / "docs" / "search.webp", quality=80)


if __name__ == "__main__":
    main()
