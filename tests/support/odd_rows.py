"""Rows of benchmark tasks that tests write and read one by one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from support.task_fixtures import write_frames, write_picture, write_rows
from vlm2vec.items import Item
from vlm2vec.tasks.data import TaskData, TaskSpec
from vlm2vec.tasks.registry import get_tasks, parse_task

PICTURE_ROW = {
    "qry_inst": "<|image_1|> Say:\n",
    "qry_text": "",
    "qry_img_path": "a.png",
    "tgt_inst": "<|image_1|> It.",
    "tgt_text": ["x", "y"],
    "tgt_img_path": ["a.png", "b.png"],
}


def task_named(name: str) -> TaskSpec:
    return get_tasks(names=[name])[0]


def write_pictures(root: Path) -> None:
    for name in ("a.png", "b.png"):
        write_picture(root / "image-tasks" / name, "red")


def read_rows(root: Path, name: str, *rows: Mapping[str, object], config: str | None = None) -> TaskData:
    write_rows(task_named(name), root, rows, config)
    return parse_task(task_named(name), root)


def read_picture_row(root: Path, name: str, **columns: object) -> TaskData:
    write_pictures(root)
    return read_rows(root, name, PICTURE_ROW | columns)


def write_clip(root: Path, name: str, folder: str, count: int = 8) -> None:
    write_frames(root / task_named(name).media_dir / folder, "red", count)


def problems(data: TaskData) -> list[tuple[str, str, int]]:
    return [(warning.column, warning.problem, warning.count) for warning in data.warnings]


def strings(items: object) -> list[str | None]:
    assert isinstance(items, (tuple, list))
    return [item.verbatim for item in items if isinstance(item, Item)]
