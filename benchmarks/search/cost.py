"""How long did it take, and how much processor?"""

from __future__ import annotations

import resource
import time
from typing import NamedTuple


class Cost(NamedTuple):
    """Seconds by the clock, and of all processors, those of ended child processes included."""

    wall_s: float
    processor_s: float

    @classmethod
    def now(cls) -> Cost:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return cls(time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in used))

    def since(self, before: Cost, count: int = 1) -> Cost:
        """The mean cost of each of `count` things since then."""
        return Cost(
            round((self.wall_s - before.wall_s) / count, 4),
            round((self.processor_s - before.processor_s) / count, 4),
        )
