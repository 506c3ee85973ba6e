"""Start the processes of a run on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vlm2vec.errors import ConfigError


@contextmanager
def among_processes() -> Iterator[bool]:
    """Do a run's work inside; yields whether this process is the first of those that share it.

    Afterwards the connections are closed in order: a process that ends with them open may abort.
    """
    from torch import distributed

    try:
        yield os.environ.get("RANK", "0") == "0"
    finally:
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()


def launched(arguments: Sequence[str], processes: int | None) -> bool:
    """Run a command of vlm2vec in so many processes that know of each other, to their end.

    Returns:
        False, and nothing is run, if this process is to do the work: because one is enough, or because it is one of
        those that torchrun or this function has started.

    Raises:
        ConfigError: one of them failed; its own message is on stderr.
    """
    if processes in (None, 1) or "WORLD_SIZE" in os.environ:
        return False
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    plan = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        run_id=str(os.getpid()),
    )
    # Several processes with a thread for every core each slow each other down.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    try:
        elastic_launch(plan, sys.executable)("-m", "vlm2vec", *arguments)
    except ChildFailedError:
        raise ConfigError("one of the processes failed; what it said stands above") from None
    return True
