"""Training pairs from JSON lines: what a row may hold, and where its media lie."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from vlm2vec.errors import ConfigError, InputError
from vlm2vec.items import Image, Item, Video, as_item


@dataclass(frozen=True, slots=True)
class Pair:
    """One training example.

    Args:
        query, positive: the two items that belong together.
        label: rows of equal label are never each other's negatives; None: no such label.
        origin: file and line, for messages.
    """

    query: Item
    positive: Item
    label: str | None
    origin: str


def read_pairs(path: Path) -> list[Pair]:
    """Read a JSONL file of pairs.

    Each line is an object with `query` and `positive`, both an object of `text`, `image`, `video` (a file, or a folder
    of frames) and `instruction`, or just a text; optionally a `label`. Paths are relative to the file.

    Raises:
        ConfigError: the file is missing, empty, or a line is malformed; the message names the line.
    """
    try:
        # Not splitlines(): JSON strings may hold other line separators as they are.
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"training pairs {path} cannot be read: {error}") from None
    pairs = [_pair(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]
    if not pairs:
        raise ConfigError(f"{path} holds no pair")
    return pairs


def _pair(line: str, path: Path, number: int) -> Pair:
    origin = f"{path}:{number}"
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{origin} is not JSON: {error}") from None
    if not isinstance(row, dict) or not {"query", "positive"} <= set(row) <= {"query", "positive", "label"}:
        raise ConfigError(f"{origin}: a row is an object with 'query', 'positive' and optionally 'label'")
    label = row.get("label")
    if label is not None and not isinstance(label, str):
        raise ConfigError(f"{origin}: the label is {label!r}, it must be a string")
    try:
        return Pair(_item(row["query"], path.parent), _item(row["positive"], path.parent), label, origin)
    except InputError as error:
        raise ConfigError(f"{origin}: {error}") from None


def _item(value: object, folder: Path) -> Item:
    if not isinstance(value, (str, dict)):
        raise InputError(f"an item is a text or an object, not {value!r}")
    item = as_item(value)
    if not item.text and not item.media:
        raise InputError("an item has neither text nor medium")
    return Item(item.text, tuple(_under(folder, medium) for medium in item.media), item.instruction)


def _under(folder: Path, medium: Image | Video) -> Image | Video:
    if isinstance(medium, Image):
        return Image(folder / medium.source if isinstance(medium.source, Path) else medium.source)
    if isinstance(medium.source, tuple):
        return Video(tuple(folder / frame if isinstance(frame, Path) else frame for frame in medium.source))
    return Video(folder / medium.source if isinstance(medium.source, Path) else medium.source)
