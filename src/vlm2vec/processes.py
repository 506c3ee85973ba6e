"""How do one or many processes share a run, and fail together?"""

from __future__ import annotations

import atexit
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import NamedTuple, NoReturn, TypeVar

from vlm2vec.cores import usable_cores
from vlm2vec.errors import ConfigError, VLM2VecError

T = TypeVar("T")

# One process may have far longer videos than another, which waits for it.
_PATIENCE = timedelta(days=1)


class Processes(ABC):
    """Those that share the work, each with the same items.

    Attributes:
        rank: number of this process among them.
        size: how many they are.
    """

    rank: int
    size: int

    @abstractmethod
    def gather(self, value: T) -> list[T]:
        """What every process gave, in the order of their ranks; all must call it."""

    def agree(self, work: Callable[[], T], *, always: Callable[[], None] = lambda: None) -> T:
        """Do some work in every process; where it fails in one, it fails in all, so that none waits for another.

        Args:
            always: done after the work, however it ends.

        Returns:
            what the work gave in this process.

        Raises:
            VLM2VecError: the error of the first process that has one.
        """
        given: list[T] = []
        error: VLM2VecError | None = None
        try:
            given.append(work())
        except VLM2VecError as failed:
            error = failed
        except BaseException:
            # After Ctrl-C, what is done is kept; that it cannot be kept must not hide the reason.
            with suppress(VLM2VecError):
                always()
            raise
        try:
            always()
        except VLM2VecError as failed:
            error = error or failed
        errors = [one for one in self.gather(error) if one is not None]
        if errors:
            raise errors[0]
        return given[0]

    def in_first(self, work: Callable[[], T]) -> T:
        """Do some work in the first process alone; all get what it gives, or its error.

        Raises:
            VLM2VecError: the work ended in it.
        """
        given = self.agree(lambda: [work()] if self.rank == 0 else [])
        return self.gather(given)[0][0]

    @staticmethod
    def joined() -> Processes:
        """Those that torchrun has started, else this one alone. To be called within `among_processes`."""
        return _Joined() if Launch.own().size > 1 else Alone()


class Alone(Processes):
    """One process that does all the work."""

    rank = 0
    size = 1

    def gather(self, value: T) -> list[T]:
        return [value]


class _Joined(Processes):
    """The processes of torch.distributed, which exchange objects on the CPU."""

    def __init__(self) -> None:
        from torch import distributed

        distributed.init_process_group("gloo", timeout=_PATIENCE)
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()

    def gather(self, value: T) -> list[T]:
        from torch import distributed

        parts: list[T] = [value] * self.size
        distributed.all_gather_object(parts, value)
        return parts


class Launch(NamedTuple):
    """What torchrun tells a process that it starts.

    Args:
        rank: number of the process among all.
        local_rank: its number on its machine, which is that of its GPU.
        size: how many all are.
    """

    rank: int
    local_rank: int
    size: int

    @classmethod
    def own(cls) -> Launch:
        """Of this process, which is the only one if torchrun has started none."""
        rank, local_rank = (int(os.environ.get(name, "0")) for name in ("RANK", "LOCAL_RANK"))
        return cls(rank, local_rank, int(os.environ.get("WORLD_SIZE", "1")))


@contextmanager
def among_processes() -> Iterator[bool]:
    """Do a run's work inside; yields whether this process is the first of those that share it.

    Afterwards the connections are closed; such a process should end by `leave`.
    """
    launch = Launch.own()
    try:
        yield launch.rank == 0
    finally:
        if launch.size > 1:
            from torch import distributed

            if distributed.is_available() and distributed.is_initialized():
                distributed.destroy_process_group()


def leave(code: object) -> NoReturn:
    """End one of several processes with the code of a SystemExit, without taking the interpreter apart.

    Closing the connections does not end gloo's threads while something still refers to them, as FSDP does. A thread
    that frees its last tensor while the interpreter is taken apart aborts the process.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


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
        raise ConfigError("one of the processes failed; its own message stands above") from None
    except SignalException as error:
        # Ctrl-C has reached the processes too, and each has said what it leaves.
        raise SystemExit(128 + error.sigval) from None
    return True
