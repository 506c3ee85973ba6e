"""Copies of the corpus's questions without their instruction, for searches that name no kind.

python recipes/bundled/plain.py        writes work/corpus/*_plain.jsonl   (a second)
"""

from __future__ import annotations

import json
from pathlib import Path

CORPUS = Path(__file__).parent / "work" / "corpus"
QUESTIONS = ("caption_to_image", "caption_to_drawing", "image_to_image", "text_to_video", "text_to_page")


def main() -> None:
    """Write the copies."""
    for name in QUESTIONS:
        rows = [json.loads(line) for line in (CORPUS / f"{name}.jsonl").read_text("utf-8").split("\n") if line]
        for row in rows:
            row["query"]["instruction"] = ""
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (CORPUS / f"{name}_plain.jsonl").write_text(lines, "utf-8")


if __name__ == "__main__":
    main()
