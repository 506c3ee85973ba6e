"""Where things lie in the repository."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
SUPPORT = ROOT / "tests" / "support"
DATA = ROOT / "tests" / "data"
"""Small files that tests read."""
