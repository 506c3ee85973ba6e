"""Draw the first hits of some questions in samples/ as one picture, docs/search.webp, for the README."""

from __future__ import annotations

from pathlib import Path

from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont, ImageOps

from vlm2vec import Library
from vlm2vec.media import load_frames

ROOT = Path(__file__).parents[1]
QUESTIONS = ("a yellow sunflower", "a bicycle", "an umbrella")
SIDE_PX, LABEL_PX, GAP_PX, HITS = 150, 22, 12, 3


def main() -> None:
    """Search and draw: a row for each question, its best hits from the left."""
    size = (HITS * (SIDE_PX + GAP_PX) + 230, len(QUESTIONS) * (SIDE_PX + LABEL_PX + GAP_PX) + GAP_PX)
    sheet = PILImage.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(17), ImageFont.load_default(11)
    with Library.open(ROOT / "samples") as library:
        library.sync()
        for row, question in enumerate(QUESTIONS):
            top = GAP_PX + row * (SIDE_PX + LABEL_PX + GAP_PX)
            draw.text((GAP_PX, top + SIDE_PX // 2), f"“{question}”", "black", font=large, anchor="lm")
            for place, hit in enumerate(library.search(question, HITS)):
                left = 220 + place * (SIDE_PX + GAP_PX)
                frame = load_frames(library.medium(hit), num_frames=1).images[0].convert("RGB")
                sheet.paste(ImageOps.pad(frame, (SIDE_PX, SIDE_PX), color="#f3f3f3"), (left, top))
                label = f"{hit.score:.2f}  {Path(hit.path).name} {hit.place}"
                draw.text((left, top + SIDE_PX + 4), label, "#555555", font=small)
    sheet.save(ROOT / "docs" / "search.webp", quality=80)


if __name__ == "__main__":
    main()
