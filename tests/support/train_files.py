"""A training run of seconds: eight colours in words, pictures and two-frame videos, and a tiny model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import yaml

from support.golden_cases import MODEL
from vlm2vec.items import Image, Item
from vlm2vec.training.config import read_config
from vlm2vec.training.loop import StepReport, train
from vlm2vec.training.teachers import write_teacher

COLOURS = ["red", "green", "blue", "yellow", "black", "white", "purple", "orange"]
ON_A_CIRCLE = np.array([[np.cos(turn), np.sin(turn)] for turn in np.arange(8) * np.pi / 4], np.float32)
"""What a teacher says of the colours: each is like the one before and the one after it."""


def write_rows(path: Path, rows: Sequence[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def write_data(folder: Path) -> None:
    """Pairs from each word: image.jsonl, negatives.jsonl (the next colour as hard one), video.jsonl, words.jsonl; and
    from each picture: named.jsonl."""
    for colour in COLOURS:
        PIL.Image.new("RGB", (56, 56), colour).save(folder / f"{colour}.png")
        (folder / colour).mkdir()
        for number in range(2):
            PIL.Image.new("RGB", (56, 56), colour).save(folder / colour / f"{number}.png")
    images = [{"query": c, "positive": {"image": f"{c}.png"}, "label": c} for c in COLOURS]
    write_rows(folder / "image.jsonl", images)
    others = [*COLOURS[1:], COLOURS[0]]
    negatives = [row | {"negatives": [{"image": f"{c}.png"}]} for row, c in zip(images, others, strict=True)]
    write_rows(folder / "negatives.jsonl", negatives)
    write_rows(folder / "named.jsonl", [{"query": {"image": f"{c}.png"}, "positive": c} for c in COLOURS])
    write_rows(folder / "words.jsonl", [{"query": c, "positive": f"the colour {c}"} for c in COLOURS])
    write_rows(folder / "video.jsonl", [{"query": {"text": c}, "positive": {"video": c}} for c in COLOURS])


def write_circle(folder: Path) -> None:
    """A teacher's vectors of the words and of the pictures of `write_data`, which lies in the folder above."""
    pictures = [Item("", (Image(folder.parent / f"{colour}.png"),)) for colour in COLOURS]
    write_teacher(folder, [*map(Item, COLOURS), *pictures], np.concatenate([ON_A_CIRCLE, ON_A_CIRCLE]))


def write_config(folder: Path, **changes: object) -> Path:
    """A configuration with some fields changed; None leaves one out."""
    values: dict[str, object] = {
        "out": "out",
        "scratch": {
            "tokenizer": str(MODEL),
            "hidden_size": 64,
            "num_layers": 2,
            "num_heads": 2,
            "num_kv_heads": 1,
            "intermediate_size": 128,
            "vision_size": 64,
            "vision_layers": 1,
            "vision_heads": 2,
        },
        "inputs": {"max_pixels": 3136, "num_frames": 2},
        "data": {"image": {"path": "image.jsonl", "weight": 3}, "video": {"path": "video.jsonl"}},
        "steps": 30,
        "batch_size": 8,
        "sub_batch": 4,
        "learning_rate": 0.003,
        "loss": {"temperature": 0.1, "mask_same_label": True},
        "loader_workers": 0,
        "seed": 1,
    }
    path = folder / f"{changes.get('out', 'config')}.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in (values | changes).items() if value is not None}))
    return path


def run_of(path: Path, *, resume: bool = False) -> list[StepReport]:
    """Train as a configuration says, and return what was told of each step."""
    reports: list[StepReport] = []
    train(read_config(path), resume=resume, on_step=reports.append)
    return reports


def cut_off(out: Path) -> None:
    """Leave of a finished run what one leaves that is killed before its end."""
    (out / "README.md").unlink()


def logged(out: Path, field: str) -> list[Any]:
    """A value of every step, from the log."""
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(len(rows)))
    return [row[field] for row in rows]
