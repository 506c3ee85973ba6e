"""What did an update of an index find and do?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Summary:
    """What `Index.add` found and did.

    Args:
        added, changed, removed, unchanged: files. A changed time with the same content is no change.
        embedded: pictures, pages and spans that went through the model.
        ignored: files in the folder that are neither images, videos nor PDFs.
        failed: (path, reason) of each file that could not be read, or not in all its parts; none of these is counted
            as added, changed or unchanged.
        left_out: the ignored files by their ending in lower case, "" for those without one.
        failed_before: files that were not tried, because they could not be read before and have not changed since.
    """

    added: int
    changed: int
    removed: int
    unchanged: int
    embedded: int
    ignored: int
    failed: tuple[tuple[str, str], ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    failed_before: int = 0
