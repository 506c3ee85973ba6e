"""The approximate index of a large table: what it finds, what it leaves to exact comparison."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vlm2vec.search import table


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
