"""Runs of an evaluation in tests: a model that counts, threads that stand for processes, commands, what they write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from threading import Barrier, Thread
from typing import Any, TypeVar

from numpy.lib import format as npy

from support.golden_cases import MODEL
from support.places import SUPPORT
from support.task_fixtures import write_fixture
from vlm2vec.errors import VLM2VecError
from vlm2vec.items import ItemLike
from vlm2vec.model.backbone import Ask, Vectors
from vlm2vec.model.embedder import Embedder
from vlm2vec.processes import Processes
from vlm2vec.tasks.registry import get_tasks

T = TypeVar("T")


class Counting:
    """A model that remembers how many items it was asked for."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.name, self.dim, self.fingerprint = "tiny", embedder.dim, embedder.fingerprint
        self.num_encoded = 0

    @property
    def token_dim(self) -> int:
        return self._embedder.token_dim

    def stream(
        self, items: Iterable[ItemLike], ask: Ask = Ask(), **arguments: Any
    ) -> Generator[tuple[int, Vectors | VLM2VecError], None, None]:
        for one in self._embedder.stream(items, ask, **arguments):
            self.num_encoded += 1
            yield one


class Together(Processes):
    """One of several threads that share work as processes do. Threads that do not meet in time are out of step."""

    def __init__(self, rank: int, given: list[Any], barrier: Barrier) -> None:
        self.rank, self.size = rank, len(given)
        self._given, self._barrier = given, barrier

    def gather(self, value: T) -> list[T]:
        self._given[self.rank] = value
        self._barrier.wait(timeout=60)
        found = list(self._given)
        self._barrier.wait(timeout=60)
        return found


def in_threads(work: Callable[[Together], T], size: int = 2) -> list[T]:
    """What some work gives in each of several threads; an error is a result too."""
    given: list[Any] = [None] * size
    results: list[Any] = [None] * size
    barrier = Barrier(size)

    def run(rank: int) -> None:
        try:
            results[rank] = work(Together(rank, given, barrier))
        except Exception as error:
            results[rank] = error

    threads = [Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def written(names: Sequence[str], root: Path) -> Path:
    """A data root with a miniature of each of some tasks of MMEB-V2."""
    for task in get_tasks(names=names):
        write_fixture(task, root)
    return root


def command(root: Path, out: Path, *options: str, launcher: tuple[str, ...] = ("vlm2vec",)) -> list[str]:
    """That evaluates the golden tiny model."""
    return [
        *(sys.executable, "-m", *launcher, "evaluate", "--model", str(MODEL), "--prompt-style", "vlm2vec"),
        *("--benchmark", "mmeb-v2", "--data", str(root), "--out", str(out), *options),
    ]


def under_torchrun(ranks: int) -> tuple[str, ...]:
    """What starts so many processes."""
    return ("torch.distributed.run", "--nproc-per-node", str(ranks), "-m", "vlm2vec")


def run(arguments: list[str], tmp_path: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command to its end, with a cache of its own; scripts of `support` find the package that they are in."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(tmp_path / "datasets")}
    environment["PYTHONPATH"] = os.pathsep.join([str(SUPPORT.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(arguments, capture_output=True, text=True, env=environment, **options)


def scores_in(out: Path) -> dict[str, Any]:
    """The score file, less its date."""
    document: dict[str, Any] = json.loads((out / "scores.json").read_text())
    document["metadata"].pop("report_generated_date")
    return document


def names_in(out: Path) -> set[str]:
    """The tasks that have a score."""
    return {name for datasets in scores_in(out)["metrics"].values() for name in datasets}


def predictions_in(out: Path) -> dict[str, str]:
    """The texts of all rankings by the names of their files."""
    return {path.name: path.read_text() for path in sorted((out / "predictions").iterdir())}


def stored_keys(out: Path) -> Counter[bytes]:
    """How often each key is in the store of vectors."""
    keys: Counter[bytes] = Counter()
    for shard in (out / "vectors").glob("*.npy"):
        with shard.open("rb") as stream:
            keys.update(row.tobytes() for row in npy.read_array(stream))
    return keys
