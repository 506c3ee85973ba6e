"""Each surface has words for everything that an error may advise."""

from __future__ import annotations

from typing import get_args

import pytest

from vlm2vec.cli.hints import ON_COMMAND_LINE, told
from vlm2vec.errors import IN_PYTHON, Action, DataError, Hint, IndexFolderError

ACTIONS = get_args(Action)


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
