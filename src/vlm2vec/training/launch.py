"""How do several processes come to share a run?"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar, cast

from vlm2vec.cores import usable_cores
from vlm2vec.errors import ConfigError
from vlm2vec.vectors.encoding import Alone, Processes

T = TypeVar("T")

# One process may have far longer videos than another, which waits for it.
_PATIENCE = timedelta(days=1)


class _Joined:
    """The processes of torch.distributed, which exchange objects on the CPU."""

    def __init__(self) -> None:
        from torch import distributed

        distributed.init_process_group("gloo", timeout=_PATIENCE)
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()

    def gather(self, value: T) -> list[T]:
        from torch import distributed

        parts: list[T | None] = [None] * self.size
        distributed.all_gather_object(parts, value)
        return cast(list[T], parts)


def joined_processes() -> Processes:
    """The processes that torchrun has started, else this one alone. To be called within `among_processes`."""
    return _Joined() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Alone()


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
        SystemExit: they were stopped by a signal.
    """
    if processes in (None, 1) or "WORLD_SIZE" in os.environ:
        return False
    from torch.distributed.elastic.multiprocessing.api import SignalException
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
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // processes)))
    try:
        elastic_launch(plan, sys.executable)("-m", "vlm2vec", *arguments)
    except ChildFailedError:
        raise ConfigError("one of the processes failed; what it said stands above") from None
    except SignalException as error:
        # Ctrl-C has reached the processes too, and each has said what it leaves.
        raise SystemExit(128 + error.sigval) from None
    return True
