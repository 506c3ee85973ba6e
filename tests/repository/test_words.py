"""The library names no flag and no command: the command line, the server and Python word hints in their own way."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.places import SRC, tree_of

PACKAGE = SRC / "vlm2vec"
COMMANDS = "index|search|watch|embed|models|train|ablate|mine|teach|evaluate|tasks|data|report|doctor"
OF_THE_COMMAND_LINE = re.compile(rf"(?<![\w(-])--[a-z][a-z-]*(?![\w-]*:)|\bvlm2vec ({COMMANDS})\b")

ALLOWED = {
    # The one command that tells users of Python about their machine, too.
    "errors.py": ["vlm2vec doctor"],
    # A flag of the hub's own program.
    "model/checkpoint.py": ["--revision"],
}
# Flags of LibreOffice and Chromium, which it starts.
OF_OTHER_PROGRAMS = {"media/documents/render.py"}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] != "cli")


def _strings(tree: ast.Module) -> Iterator[str]:
    """All strings but docstrings and other expressions that stand for themselves."""
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_string_of_the_library_names_a_flag_or_a_command(path: Path) -> None:
    found = [match.group() for text in _strings(tree_of(path)) for match in OF_THE_COMMAND_LINE.finditer(text)]
    name = path.relative_to(PACKAGE).as_posix()
    if name in OF_OTHER_PROGRAMS:
        found = [one for one in found if not one.startswith("--")]
    assert found == ALLOWED.get(name, [])
