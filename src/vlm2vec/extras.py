"""Which packages come with an extra, and are they there?"""

from __future__ import annotations

from importlib.util import find_spec

from vlm2vec.errors import Hint, MissingError


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
