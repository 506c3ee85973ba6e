"""How `vlm2vec index` shows what it is doing while it takes long."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from support.cli_runs import Result, write_model, write_pictures
from support.index_folders import summary_of
from vlm2vec.cli.search import bring_up_to_date
from vlm2vec.search.library import Library
from vlm2vec.search.store import Building
from vlm2vec.search.update import Summary


class _Large(Library):
    """A library that indexes 300 files and then makes an approximate index."""

    def __init__(self) -> None:
        pass

    def sync(  # type: ignore[override]
        self, *, on_progress: Callable[[int, int], None], building: Building, retry: bool
    ) -> Summary:
        on_progress(300, 300)
        with building(300):
            return summary_of(added=300)


def test_without_a_terminal_making_the_approximate_index_is_a_line_before_and_a_line_after(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bring_up_to_date(_Large()) == summary_of(added=300)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(
        "building the search index over 300 rows; this takes minutes\n"
        r"built the search index over 300 rows in \d+ s\n",
        err,
    )


def test_without_a_terminal_an_index_that_needs_no_approximate_one_is_made_in_silence(
    three: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bring_up_to_date(three) == summary_of(unchanged=3)
    assert capsys.readouterr() == ("", "")


def test_in_a_terminal_making_the_approximate_index_shows_what_is_done_and_the_time_so_far(
    monkeypatch: pytest.MonkeyPatch,
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
        bring_up_to_date(_Large())
    reader.join()
    os.close(master)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert re.search(r"indexing .*300/300", plain)
    assert re.search(r"building the search index over 300 rows 0:00:\d\d", plain)


def test_an_index_begins_with_a_word_on_the_default_model_once(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "files")
    said = "the default model looks at these files"
    assert said in Result("index", folder).err
    assert said not in Result("index", folder).err
    assert said in Result("search", "a square", write_pictures(tmp_path / "searched")).err
    assert said not in Result("index", folder, "--rebuild", "--json").err
    assert said not in Result("index", write_pictures(tmp_path / "quiet"), "-q").err
    assert said not in Result("index", write_pictures(tmp_path / "other"), "--model", write_model(tmp_path / "m")).err
