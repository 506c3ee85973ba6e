"""How many cores may this process use?"""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Those that the system lets it run on, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
