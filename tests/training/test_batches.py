"""Which rows a run reads, what stands in for those that cannot be read, and how its loader copes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.train_files import COLOURS, logged, run_of, write_config
from vlm2vec.cli.app import app
from vlm2vec.errors import ConfigError, DataError
from vlm2vec.model.checkpoint import Settings
from vlm2vec.training.batches import RunRows
from vlm2vec.training.config import read_config


def test_a_plan_tells_share_epochs_and_tokens_before_anything_is_loaded(folder: Path) -> None:
    config = read_config(write_config(folder, steps=10))
    image, video = RunRows(config).plan()
    assert image[:5] == ("image", 8, 0.75, 60, 7.5)
    assert video[:5] == ("video", 8, 0.25, 20, 2.5)
    # A picture of 56 x 56 is 4 tokens and so are two frames; what differs is the words around them.
    assert image.tokens is not None
    assert video.tokens is not None
    assert 60 * 10 < image.tokens < 60 * 80
    shown = CliRunner().invoke(app, ["train", str(write_config(folder, steps=10)), "--plan"])
    assert shown.exit_code == 0
    assert re.search(r"^image +8 +75\.00% +60 +7\.50 +[\d,]+$", shown.stdout, re.MULTILINE)
    assert not (folder / "out").exists()


@pytest.mark.slow
def test_a_source_is_seen_in_fewer_pixels_than_the_run_allows(folder: Path) -> None:
    def run(name: str, run_pixels: int, **source: object) -> Path:
        inputs = {"min_pixels": 784, "max_pixels": run_pixels, "num_frames": 2}
        data = {"image": {"path": "image.jsonl", **source}}
        return write_config(folder, out=name, steps=1, inputs=inputs, data=data)

    configs = [run("large", 3136), run("small", 784), run("limited", 3136, max_pixels=784)]
    large, small, limited = (RunRows(read_config(path)).plan()[0].tokens for path in configs)
    assert large is not None
    # Pictures of 56 x 56 in one token, not in four.
    assert (small, limited) == (large - 8 * 3, large - 8 * 3)
    for path in configs:
        run_of(path)
    large_loss, small_loss, limited_loss = (logged(folder / path.stem, "loss") for path in configs)
    assert limited_loss == small_loss != large_loss
    assert Settings.read(folder / "limited").max_pixels == 3136


def test_a_sources_limit_below_one_token_is_named(folder: Path) -> None:
    data = {"image": {"path": "image.jsonl", "max_pixels": 100}}
    with pytest.raises(ConfigError, match=r"source 'image': min_pixels=3136, max_pixels=100: need whole numbers"):
        RunRows(read_config(write_config(folder, data=data))).plan()


def test_a_source_that_a_run_will_never_read_is_named_at_its_start(folder: Path) -> None:
    # Two sub-batches of eight are drawn in all, of which a tenth is none.
    data = {"image": {"path": "image.jsonl", "weight": 9}, "video": {"path": "video.jsonl", "weight": 1}}
    done = CliRunner().invoke(app, ["train", str(write_config(folder, steps=2, sub_batch=8, data=data))])
    assert done.exit_code == 0
    told = "never read in 2 steps: video; give more weight or steps, or a smaller sub_batch"
    assert [line for line in done.stderr.split("\n") if line.startswith("never")] == [told]


@pytest.mark.slow
def test_a_row_that_cannot_be_read_is_replaced_by_another_of_its_source_and_counted(folder: Path) -> None:
    (folder / "blue.png").write_bytes(b"no picture")
    changes: dict[str, object] = {"data": {"image": {"path": "image.jsonl"}}, "steps": 2}
    reports = [run_of(write_config(folder, out=f"run{n}", loader_workers=n, **changes)) for n in (0, 1)]
    # Every row comes once an epoch, so each step of eight meets the bad one once.
    assert [[r.bad_rows for r in run] for run in reports] == [[1, 2], [1, 2]]
    assert [r.loss for r in reports[0]] == [r.loss for r in reports[1]]
    told = [json.loads(line) for line in (folder / "run0" / "bad_rows.jsonl").read_text().splitlines()]
    assert [row["step"] for row in told] == [0, 1]
    assert told[0]["row"].startswith(f"{folder / 'image.jsonl'}:3: ")


def test_neighbouring_bad_rows_count_once_each(folder: Path) -> None:
    for colour in ("green", "blue", "yellow"):
        (folder / f"{colour}.png").write_bytes(b"no picture")
    changes: dict[str, object] = {"data": {"image": {"path": "image.jsonl"}}, "steps": 1}
    assert [report.bad_rows for report in run_of(write_config(folder, **changes))] == [3]


def test_too_many_bad_rows_stop_the_run_and_are_listed(folder: Path) -> None:
    (folder / "blue.png").write_bytes(b"no picture")
    message = r"2 of 16 rows could not be read.*max_bad_rows=0.001(.|\n)*image.jsonl:3: .*blue.png"
    with pytest.raises(DataError, match=message):
        run_of(write_config(folder, data={"image": {"path": "image.jsonl"}}, max_bad_rows=0.001))


def test_a_source_without_any_readable_row_stops_the_run(folder: Path) -> None:
    for colour in COLOURS:
        (folder / f"{colour}.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"source 'image': none of 8 rows can be read; the last: .*png"):
        run_of(write_config(folder, loader_workers=1))


@pytest.mark.slow
def test_more_packs_than_files_may_be_open_come_from_a_worker(folder: Path) -> None:
    # 16 items on each side, each in a pack of its own that comes as several tensors; two batches are read ahead.
    path = write_config(folder, steps=3, batch_size=16, token_budget=1, loader_workers=2)
    command = f'ulimit -Sn 128 && exec "{sys.executable}" -m vlm2vec train "{path}"'
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert len(logged(folder / "out", "loss")) == 3
