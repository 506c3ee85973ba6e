"""Rows and frames on disk, as training sources have them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def video_row(video: str, request: str, answer: str) -> dict[str, object]:
    turns = [{"from": "human", "value": request}, {"from": "gpt", "value": answer}]
    return {"id": f"{video}_1", "video": video, "conversations": turns}


def write_frames(folder: Path, names: Sequence[str]) -> None:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(b"")
