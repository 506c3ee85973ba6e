"""What makes a command start and end sooner?"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """For what makes hundreds of thousands of objects that stay, such as the import of torch.

    Python would look through them for garbage again and again, which takes a fifth of the time of that import.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
