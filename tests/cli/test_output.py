"""What all commands say alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from vlm2vec.cli.output import stoppable, write_file
from vlm2vec.errors import StorageError


def test_ctrl_c_says_what_is_kept_and_exits_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as stop, stoppable("the vectors are kept"):
        raise KeyboardInterrupt
    assert stop.value.exit_code == 130
    assert capsys.readouterr() == ("", "stopped; the vectors are kept, and the same command continues\n")


def test_a_file_is_written_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_file(tmp_path / "a.md", "größer\n")
    assert (tmp_path / "a.md").read_bytes() == "größer\n".encode()
    assert capsys.readouterr() == ("", f"wrote {tmp_path / 'a.md'}\n")


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no/a\.md: no such file or directory; give another path$"):
        write_file(tmp_path / "no" / "a.md", "text")
