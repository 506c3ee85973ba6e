"""The ablation of the paper's sub-batches, by one command."""

from __future__ import annotations

import json
from pathlib import Path

import PIL.Image
import pytest
from typer.testing import CliRunner

from support.train_files import write_config
from vlm2vec.cli.app import app


@pytest.mark.slow
def test_one_command_trains_every_size_and_goes_on_where_it_was_stopped(folder: Path) -> None:
    config = write_config(folder, steps=2, validation={"path": "image.jsonl", "every": 2, "pool": 8})
    command = ["ablate", str(config), "--sub-batches", "0,4,8", "--seeds", "1,2"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.stderr
    rows = json.loads((folder / "out" / "ablation.json").read_text())
    assert [(row["sub_batch"], row["seed"]) for row in rows] == [(0, 1), (0, 2), (4, 1), (4, 2), (8, 1), (8, 2)]
    assert done.stdout == (folder / "out" / "ablation.md").read_text()
    assert done.stdout.splitlines() == [
        "| sub-batch | seeds | recall@1 | recall@5 | recall@10 |",
        "|---|---|---|---|---|",
        f"| 0 | 2 | {_row(rows, 0)} |",
        f"| 4 | 2 | {_row(rows, 4)} |",
        f"| 8 (whole) | 2 | {_row(rows, 8)} |",
    ]
    with PIL.Image.open(folder / "out" / "ablation.png") as picture:
        assert picture.width > 500
    log = folder / "out" / "sub_batch_4_seed_2" / "log.jsonl"
    before = log.stat().st_mtime_ns
    again = CliRunner().invoke(app, command)
    assert (again.stdout, log.stat().st_mtime_ns) == (done.stdout, before)
    write_config(folder, steps=2, validation={"path": "image.jsonl", "every": 2, "pool": 8}, learning_rate=0.1)
    other = CliRunner().invoke(app, command)
    assert other.exit_code == 2
    assert (
        "sub_batch_0_seed_1 comes from another configuration, so it is another run: learning_rate was" in other.stderr
    )


def _row(rows: list[dict[str, float]], sub_batch: int) -> str:
    """The cells of the table for a size that two seeds have tried."""
    cells = []
    for metric in ("recall@1", "recall@5", "recall@10"):
        one, other = (row[metric] for row in rows if row["sub_batch"] == sub_batch)
        # Of two values, the deviation is their distance over the root of two.
        cells.append(f"{(one + other) / 2:.3f} ± {abs(one - other) / 2**0.5:.3f}")
    return " | ".join(cells)


def test_a_configuration_without_held_out_pairs_or_with_an_odd_size_is_refused(folder: Path) -> None:
    bare = CliRunner().invoke(app, ["ablate", str(write_config(folder)), "--sub-batches", "4"])
    assert (bare.exit_code, bare.stderr) == (
        2,
        "error: an ablation compares held-out recall; add 'validation' to the configuration\n",
    )
    config = write_config(folder, validation={"path": "image.jsonl", "every": 2})
    odd = CliRunner().invoke(app, ["ablate", str(config), "--sub-batches", "4,3"])
    assert (odd.exit_code, odd.stderr) == (2, "error: sub-batch 3 does not divide batch_size=8\n")
