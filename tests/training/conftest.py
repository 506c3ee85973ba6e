"""Shared by the tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.train_files import write_circle, write_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the sources of `write_data`, and with the vectors of a teacher in `circle`."""
    write_data(tmp_path)
    write_circle(tmp_path / "circle")
    return tmp_path
