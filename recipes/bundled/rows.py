"""What is a training row? Its parts as JSON, the instructions that go with them, and the files they are written to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from holdouts import DEMO_QUERIES

INSTRUCTIONS = {
    "text for images": "Find me an everyday image that matches the given caption.",
    "text for videos": "Find a video that contains the following visual content:",
    "text for pages": "Find a document image that matches the given query:",
    "image for images": "Find a day-to-day image that looks similar to the provided image.",
    "image": "Represent the given image.",
    "video": "Understand the content of the provided video.",
    "page": "Understand the content of the provided document image.",
}
"""Default instructions by what asks for what; the last three are for documents."""

Part = dict[str, str]
Row = dict[str, Any]


def text(words: str, instruction: str = "") -> Part:
    return {"text": words, "instruction": instruction}


def image(path: str, instruction: str) -> Part:
    return {"image": path, "instruction": instruction}


def video(path: str, instruction: str) -> Part:
    return {"video": path, "instruction": instruction}


def row(query: Part, positive: Part, label: str, *negatives: Part) -> Row:
    """One pair. Rows of the same label are answers to each other and no negatives."""
    whole: Row = {"query": query, "positive": positive, "label": label}
    return whole | {"negatives": list(negatives)} if negatives else whole


def parts_of(row: Row) -> list[Part]:
    """Query, positive and negatives."""
    return [row["query"], row["positive"], *row.get("negatives", ())]


class Corpus:
    """Rows by file; `write` puts them on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, list[Row]] = {}

    def add(self, name: str, rows: Iterable[Row], *, held: bool) -> None:
        """Add rows to a file; a training row that says a question of the demo is left out."""
        kept = [row for row in rows if held or not any(part.get("text") in DEMO_QUERIES for part in parts_of(row))]
        self.files.setdefault(f"{name}_heldout" if held else name, []).extend(kept)

    def write(self) -> dict[str, int]:
        """Write every file and counts.json; return rows by file."""
        for name, rows in sorted(self.files.items()):
            with (self.folder / f"{name}.jsonl").open("w", encoding="utf-8") as out:
                for entry in rows:
                    out.write(json.dumps(entry, ensure_ascii=False) + "\n")
        counts = {name: len(rows) for name, rows in sorted(self.files.items())}
        (self.folder / "counts.json").write_text(json.dumps(counts, indent=1) + "\n")
        return counts
