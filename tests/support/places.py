"""Where things lie in the repository."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
SUPPORT = ROOT / "tests" / "support"
DATA = ROOT / "tests" / "data"
"""Small files that tests read."""


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax of a file, to be read and not to be changed."""
    return ast.parse(path.read_text("utf-8"))
