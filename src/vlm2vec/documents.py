"""How is JSON from outside read, so that anything else is a ValueError that says where it stands?"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm2vec.text import shortened

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails


def load_json(path: Path) -> Any:
    """Read a file that holds one JSON document. The caller names the file, and says what to do.

    Raises:
        OSError: it cannot be read.
        ValueError: as `parse_json`.
    """
    return parse_json(path.read_bytes())


def parse_json(text: str | bytes) -> Any:
    """Read one JSON document; bytes are UTF-8, with a byte order mark or without.

    Raises:
        ValueError: it is no JSON, lies too deep in brackets, or holds a number that no float can hold.
    """
    try:
        return json.loads(
            text if isinstance(text, str) else text.decode("utf-8-sig"), parse_int=_int, parse_float=_float
        )
    except RecursionError:
        raise ValueError("its brackets lie too deep in one another") from None


def problems(error: ValidationError) -> list[str]:
    """The faults of a document that pydantic refuses, each with its place and the value found there."""
    return [_problem(one) for one in error.errors(include_url=False)]


def _problem(fault: ErrorDetails) -> str:
    place, said = ".".join(map(str, fault["loc"])) or "it", fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "missing":
        return f"{place} is missing"
    if fault["type"] in ("model_type", "dict_type"):
        return f"{place} is not an object"
    value = fault["input"]
    if isinstance(value, (dict, list)):
        return f"{place}: {said}" if fault["loc"] else said
    shown = json.dumps(value) if value is None or isinstance(value, (bool, int, float)) else shortened(value)
    return f"{place} is {shown}: {said[:1].lower()}{said[1:]}"


def _int(digits: str) -> int:
    _float(digits)
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        shown = digits if len(digits) <= 20 else f"{digits[:17]}... of {len(digits)} characters"
        raise ValueError(f"the number {shown} is too large")
    return value
