"""What all commands say alike, and in which words; Python has its own."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import typer

from vlm2vec.cli.output import ON_COMMAND_LINE, stoppable, told, write_file
from vlm2vec.errors import IN_PYTHON, Action, DataError, Hint, IndexFolderError, StorageError

ACTIONS = get_args(Action)


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


def test_the_command_line_has_words_for_every_action() -> None:
    assert set(ON_COMMAND_LINE) == set(ACTIONS)


def test_python_has_words_for_every_action() -> None:
    assert set(IN_PYTHON) == set(ACTIONS)


@pytest.mark.parametrize("action", ACTIONS)
def test_both_say_what_an_action_is_about_or_neither_does(action: Action) -> None:
    by_surface = [action == "download" or "{about" in words[action] for words in (ON_COMMAND_LINE, IN_PYTHON)]
    assert by_surface[0] == by_surface[1]


def test_an_error_is_told_in_flags_on_the_command_line_and_in_arguments_in_python() -> None:
    error = IndexFolderError("a holds no index", "make_index", Hint("other_model", "tiny"))
    assert (
        told(error) == "a holds no index; 'vlm2vec index FOLDER' makes one; or name the first model with --model 'tiny'"
    )
    assert str(error) == "a holds no index; Library.open(folder).sync() makes one; or open it with model='tiny'"


def test_a_message_without_a_hint_is_told_as_it_is() -> None:
    assert told(DataError("a.jsonl, line 3: no query")) == "a.jsonl, line 3: no query"
