"""`vlm2vec watch` as a process of its own: what it prints, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.cli_runs import Result
from support.index_folders import make_picture
from support.places import SRC
from support.toy_family import make_toy

_PROGRAM = "import support.toy_family; from vlm2vec.cli.app import main; main()"


@contextmanager
def _watching(folder: Path, *options: object) -> Iterator[subprocess.Popen[str]]:
    """A process that watches a folder, ready."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(SRC), str(SRC.parent / "tests"), *sys.path])}
    command = [sys.executable, "-c", _PROGRAM, "watch", str(folder), *map(str, options)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == f"watching {folder}; Ctrl-C ends\n"
            yield process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_one_line_tells_of_each_update_and_a_signal_ends_it_well(tmp_path: Path, ending: signal.Signals) -> None:
    model, folder = make_toy(tmp_path / "toy"), tmp_path / "files"
    make_picture(folder / "0.png", 0)
    with _watching(folder, "--model", model, "--exclude", "*.bmp") as process:
        assert process.stdout is not None
        for number in range(1, 6):
            make_picture(folder / f"{number}.png", number)
        make_picture(folder / "6.bmp", 6)
        line = process.stdout.readline()
        names = "1.png, 2.png, 3.png, and 3 others"
        assert re.fullmatch(rf"\d\d:\d\d:\d\d  5 added  {names}\n", line), line
        (folder / "2.png").unlink()
        (folder / "1.png").write_bytes(b"broken")
        assert re.fullmatch(r"\d\d:\d\d:\d\d  1 removed  1\.png, 2\.png\n", process.stdout.readline())
        # A warning about its words may stand before.
        assert process.stderr is not None
        assert any(line.startswith("not read: 1.png: ") for line in process.stderr)
        process.send_signal(ending)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "stopped; the index is as of the last line\n")


def test_a_folder_that_is_missing_is_refused(tmp_path: Path) -> None:
    result = Result("watch", tmp_path / "no")
    assert (result.code, result.err.startswith("error: there is no folder ")) == (2, True)
