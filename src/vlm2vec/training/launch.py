"""Start the processes of a run on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence

from vlm2vec.errors import ConfigError


def is_launched() -> bool:
    """Whether a launcher such as torchrun has started this process among others."""
    return "WORLD_SIZE" in os.environ


def launch(command: Sequence[str], processes: int) -> None:
    """Run a command in so many processes that know of each other, to their end.

    Raises:
        ConfigError: one of them failed; its own message is on stderr.
    """
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
        elastic_launch(plan, command[0])(*command[1:])
    except ChildFailedError:
        raise ConfigError("one of the processes failed; what it said stands above") from None
