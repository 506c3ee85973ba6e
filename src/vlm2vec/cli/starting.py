"""What makes a command start and end sooner?"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """For what makes hundreds of thousands of objects that stay to the end of the command, such as the import of torch.

    Python would look through them for garbage again and again, which takes a fifth of the time of that import and a
    second of a search. They are no garbage afterwards either, so a command must not do this with what it will drop.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
