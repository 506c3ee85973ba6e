"""The approximate index of a large table: what it finds, what it leaves to exact comparison."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from vlm2vec.cli.index import bring_up_to_date
from vlm2vec.model.embedder import Embedder
from vlm2vec.search import table
from vlm2vec.search.index import Index


def test_a_large_table_answers_through_an_approximate_index_and_finds_new_rows_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "_EXACT_UP_TO", 1000)
    random = np.random.default_rng(0)
    vectors = random.standard_normal((1500, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [table.Row(f"{i}.jpg", "image", None, None, 1, f"{i:032x}", 1, 1, one) for i, one in enumerate(vectors)]
    units = table.UnitTable.create(tmp_path, dim=16, fingerprint="f")
    units.replace([], rows[:1400])
    assert units.num_indexed == 0
    units.tidy()
    assert units.num_indexed == 1400
    # Few rows beside the index are compared one by one; with an eighth of the table it is made anew.
    units.replace([], rows[1400:])
    units.tidy()
    assert units.num_indexed == 1400
    found = 0
    for query in vectors[::100]:
        truth = [f"{i}.jpg" for i in np.argsort(-(vectors @ query))[:10]]
        hits = units.nearest(query, 10, None)
        assert [hit.score for hit in hits] == pytest.approx(
            [float(vectors[int(h.path[:-4])] @ query) for h in hits], abs=1e-5
        )
        found += len({hit.path for hit in hits} & set(truth))
    assert found >= 0.95 * 10 * len(vectors[::100])
    units.replace([f"{i}.jpg" for i in range(0, 1400, 3)], [])
    assert all(int(hit.path[:-4]) % 3 for hit in units.nearest(vectors[0], 10, None) if int(hit.path[:-4]) < 1400)
    units.replace([], [replace(row, path=f"again_{row.path}") for row in rows[:400]])
    units.tidy()
    assert units.num_indexed == units.count("image")
    units.replace([f"again_{i}.jpg" for i in range(400)] + [f"{i}.jpg" for i in range(1000, 1500)], [])
    assert units.count("image") <= 1000
    units.tidy()
    assert units.num_indexed == 0


def test_making_the_approximate_index_is_told_with_its_rows_and_only_when_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "_EXACT_UP_TO", 1000)
    vectors = np.random.default_rng(0).standard_normal((1001, 16)).astype(np.float32)
    rows = [table.Row(f"{i}.jpg", "image", None, None, 1, f"{i:032x}", 1, 1, one) for i, one in enumerate(vectors)]
    units = table.UnitTable.create(tmp_path, dim=16, fingerprint="f")
    told: list[tuple[int, int]] = []

    @contextmanager
    def building(num_rows: int) -> Iterator[None]:
        before = units.num_indexed
        yield
        told.append((num_rows, units.num_indexed - before))

    units.replace([], rows[:1000])
    units.tidy(building)
    assert told == []
    units.replace([], rows[1000:])
    units.tidy(building)
    units.tidy(building)
    assert told == [(1001, 1001)]


def test_without_a_terminal_making_the_approximate_index_is_a_line_before_and_a_line_after(
    large: Index, own: Embedder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bring_up_to_date(large, own).added == 300
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(
        "building the search index over 300 rows; this takes minutes\n"
        r"built the search index over 300 rows in \d+ s\n",
        err,
    )
    assert bring_up_to_date(large, own).unchanged == 300
    assert capsys.readouterr() == ("", "")


def test_in_a_terminal_making_the_approximate_index_shows_what_is_done_and_the_time_so_far(
    large: Index, own: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = os.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    shown = bytearray()

    def read() -> None:
        # A terminal that nobody reads from fills up, and its writer waits for ever.
        try:
            while chunk := os.read(master, 4096):
                shown.extend(chunk)
        except OSError:
            # How Linux says that the other side is closed.
            pass

    reader = threading.Thread(target=read)
    reader.start()
    with open(slave, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        bring_up_to_date(large, own)
    reader.join()
    os.close(master)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert re.search(r"indexing .*300/300", plain)
    assert re.search(r"building the search index over 300 rows 0:00:\d\d", plain)


@pytest.fixture
def large(tmp_path: Path, own: Embedder, monkeypatch: pytest.MonkeyPatch) -> Index:
    """The empty index of a folder with as many pictures as need an approximate index."""
    monkeypatch.setattr(table, "_EXACT_UP_TO", 299)
    for number in range(300):
        PILImage.new("RGB", (28, 28), (number % 256, number // 256, 77)).save(tmp_path / f"{number}.png")
    return Index.create(tmp_path, embedder=own)
