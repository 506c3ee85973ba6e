"""What is the least time for the arithmetic? Operations without padding, at the rates of the model's own products.

Each shape's rate is measured in the same run, by plain products of as many rows as a pack has; that of attention by its
two products alone, at the nearest power of two of its length.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
from operations import Attention, Linear, operations
from size import sized
from workloads import MAX_PIXELS

from vlm2vec import Embedder, Item

_ROWS = sized({"text": 2048, "vision": 8192}, {"text": 8, "vision": 8})
_REPEATS = sized(7, 1)


class Floor:
    """The floor of one workload; `measure` gives seconds, and may be called again."""

    def __init__(self, folder: Path, dtype: str, workload: str, items: Sequence[Item]) -> None:
        embedder = Embedder.load(folder, dtype=dtype, max_pixels=MAX_PIXELS.get(workload), device="cpu")
        prepared = [embedder.backbone.processor.prepare(item) for item in items]
        self._dtype = getattr(torch, dtype)
        self._counts: dict[Linear | Attention, float] = defaultdict(float)
        for shape, count in operations(embedder.backbone.model.config, prepared).items():
            self._counts[_measured(shape)] += count

    @property
    def operations(self) -> float:
        """Multiplications and additions."""
        return sum(self._counts.values())

    def measure(self) -> float:
        """Seconds at the rates of now."""
        return sum(count / self._rate(shape) for shape, count in self._counts.items())

    def _rate(self, shape: Linear | Attention) -> float:
        """Operations a second."""
        if isinstance(shape, Linear):
            rows = _ROWS[shape.part]
            x, w = (torch.randn(n, shape.inner, dtype=self._dtype) for n in (rows, shape.columns))
            return 2 * rows * shape.inner * shape.columns / _seconds(lambda: torch.nn.functional.linear(x, w))
        batch = max(1, 1024 // shape.length) * shape.heads
        q, k = (torch.randn(batch, shape.length, shape.dim, dtype=self._dtype) for _ in range(2))
        scores = torch.randn(batch, shape.length, shape.length, dtype=self._dtype)
        keys = k.transpose(1, 2)
        seconds = _seconds(lambda: torch.bmm(q, keys, out=scores)) + _seconds(lambda: torch.bmm(scores, k))
        return 4 * batch * shape.length**2 * shape.dim / seconds


def _measured(shape: Linear | Attention) -> Linear | Attention:
    if isinstance(shape, Linear):
        return shape
    return shape._replace(length=1 << max(3, round(math.log2(shape.length))))


def _seconds(run: Callable[[], object]) -> float:
    run()
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times)
