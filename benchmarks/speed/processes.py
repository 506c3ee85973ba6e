"""A process for each way, so that ways share neither caches nor memory."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_CONTEXT = multiprocessing.get_context("spawn")


class Served:
    """What `make` made, in a process of its own: it answers questions until it is stopped."""

    def __init__(self, make: Callable[..., Callable[[str], Any]], *arguments: object) -> None:
        self._end, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        # Else a process that died would leave us waiting for its answer.
        theirs.close()

    def ask(self, question: str) -> Any:
        """Its answer. Raises EOFError if the process died."""
        self._end.send(question)
        return self._end.recv()

    def stop(self) -> None:
        """End the process."""
        self._end.send(None)
        self._process.join()


def alone(run: Callable[..., object], *arguments: object) -> None:
    """Run something in a process that takes its memory with it."""
    process = _CONTEXT.Process(target=run, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0, f"{run.__name__}{arguments} failed"


def _serve(end: Connection, make: Callable[..., Callable[[str], Any]], arguments: tuple[object, ...]) -> None:
    answer = make(*arguments)
    while (question := end.recv()) is not None:
        end.send(answer(question))
