"""Which packages come with an extra, and are they there?"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

from vlm2vec.errors import Hint, MissingError
from vlm2vec.items import HEIF_SUFFIXES, JXL_SUFFIXES, RAW_SUFFIXES

_READERS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(HEIF_SUFFIXES, ("heif", "pillow_heif")),
    **dict.fromkeys(JXL_SUFFIXES, ("jxl", "pylibjxl")),
    **dict.fromkeys(RAW_SUFFIXES, ("raw", "rawpy")),
}
"""The extra and the module that read files of an ending."""


def require(extra: str, *modules: str) -> None:
    """Refuse work for which a package is missing, before anything is imported or done.

    Args:
        extra: the extra of this package that installs them.
        modules: names that the work imports.

    Raises:
        MissingError: one of them is not installed.
    """
    for module in modules:
        if find_spec(module) is None:
            raise MissingError(f"{module} is not installed", Hint("extra", extra))


@cache
def extra_for(ending: str) -> str | None:
    """The extra without which files of this ending cannot be read here; None if nothing is missing.

    Args:
        ending: in lower case, with its dot.
    """
    extra, module = _READERS.get(ending, (None, ""))
    return None if extra is None or find_spec(module) is not None else extra
