"""How many cores may this process use, and how do its threads wait on them?"""

from __future__ import annotations

import os

WAITING = {"GOMP_SPINCOUNT": "1000"}
"""How the threads of torch wait for each other at the end of a parallel loop, as environment variables of OpenMP.

By default they spin for milliseconds. Where another process has one of the cores, they spin through the turns of the
thread that they wait for, and everything takes many times as long. A short spin gives the core away, and costs a few
percent on a quiet machine (docs/performance.md).
"""

WAITING_NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables by which a user says how threads wait, of any OpenMP and of GNU's and LLVM's."""


def usable_cores() -> int:
    """Those that the system lets it run on, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_cores() -> None:
    """Let torch's threads wait as `WAITING` says, here and in processes that this one starts.

    OpenMP reads it once, when it is loaded: to be called before torch is imported. Changes nothing if the user has set
    any of `WAITING_NAMES`.
    """
    if not any(name in os.environ for name in WAITING_NAMES):
        os.environ.update(WAITING)
