"""What was the bundled model to reach, and what does it reach? Compares its scores with the aims set before training.

    python recipes/bundled/targets.py     writes benchmarks/results/targets.json, for the model's card

After `benchmarks/bundled.py`, `measure.py` and `yardsticks.py`, whose results it reads; the demo it asks itself.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from captions import OPPOSITES

from vlm2vec import Embedder, Image, Index, Item
from vlm2vec.search.searching import search

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
AT_LEAST, AT_MOST = "at least", "at most"


def main() -> None:
    """Compare and write."""
    mini = {row["what"]: row for row in _read("bundled.json")["rows"]}
    held = _read("bundled_heldout.json")["results"]
    pixels = _read("bundled_yardsticks.json")["results"]["image_to_image"]["pixels"]

    def hits(name: str, at: str = "hit@1") -> float:
        return 100 * float(held[name][at])

    def lost(name: str) -> float:
        return float(mini["bundled"]["means"]["overall"] - mini[name]["means"]["overall"])

    above_pixels = hits("image_to_image") - 100 * pixels["hit@1"]
    off_chance = max(abs(hits(f"clip_to_motion: the same, {one} or {other}") - 50) for one, other in OPPOSITES)
    tasks = mini["bundled"]["tasks"]
    rows = [
        ("caption to image, held-out concepts, hit@1 of 200, %", AT_LEAST, 25, hits("caption_to_image")),
        ("the same, hit@5, %", AT_LEAST, 50, hits("caption_to_image", "hit@5")),
        ("image to caption, hit@1 of 200, %", AT_LEAST, 25, hits("image_to_caption")),
        ("the same, hit@5, %", AT_LEAST, 50, hits("image_to_caption", "hit@5")),
        ("image to image across renderers, points above pixels", AT_LEAST, 20, above_pixels),
        ("motion of held-out sprites, mmeb-mini's words, %", AT_LEAST, 80, tasks["motion"]),
        ("the same, trained words, %", AT_LEAST, 80, hits("clip_to_motion: in words that are trained")),
        ("the same, held-out words, %", AT_LEAST, 80, hits("clip_to_motion")),
        ("frames shuffled, points from chance in the worst of five pairs", AT_MOST, 5, off_chance),
        ("moments of films, of 5, mmeb-mini, %", AT_LEAST, 60, tasks["shot-of-film"]),
        ("grounding, of 6 crops, mmeb-mini, %", AT_LEAST, 50, tasks["scene-crop"]),
        ("questions about scenes, of 20 answers, %", AT_LEAST, 50, hits("scene_question")),
        ("slides by title, nDCG@5, %", AT_LEAST, 60, hits("text_to_page: slides", "ndcg@5")),
        ("pages of manuals by heading, nDCG@5, %", AT_LEAST, 15, hits("section_to_page", "ndcg@5")),
        ("points that int8 loses of mmeb-mini's mean", AT_MOST, 1, lost("int8")),
        ("points that 128 dimensions lose of it", AT_MOST, 2, lost("128 dimensions")),
        ("demo's questions with the right file first, of 10", AT_LEAST, 9, demo()),
    ]
    found = [
        {
            "what": what,
            "asked": f"{bound} {asked}",
            "reached": round(reached, 2),
            "met": reached >= asked if bound == AT_LEAST else reached <= asked,
        }
        for what, bound, asked, reached in rows
    ]
    document = {"command": "python recipes/bundled/targets.py", "rows": found}
    (RESULTS / "targets.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def demo() -> int:
    """Number of the demo's questions whose file comes first among all of samples/."""
    embedder = Embedder.load()
    right = 0
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(ROOT / "samples", embedder=embedder, path=Path(folder) / "index")
        index.add(embedder=embedder)
        for question in json.loads((ROOT / "demo" / "queries.json").read_text("utf-8")):
            media = (Image(ROOT / "demo" / question["image"]),) if "image" in question else ()
            [hit] = search(index, embedder, Item(question.get("text", ""), media), k=1)
            right += hit.path == question["right"]
    return right


def _read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((RESULTS / name).read_text("utf-8"))
    return document


if __name__ == "__main__":
    main()
