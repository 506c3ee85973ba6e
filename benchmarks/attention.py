"""Why does attention in bfloat16 on CPU go by plain products? With a graph, forth and back; without, in blocks of 512.

python benchmarks/attention.py        prints a table, writes benchmarks/results/attention.json   (20 seconds)
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent / "speed"))

from size import sized, write_results

BLOCK = 512
"""Queries at once, without a graph."""
SHAPES = sized(
    ((128, 3, 36, 64, False), (16, 3, 256, 64, False), (4, 3, 1024, 64, False), (128, 4, 20, 64, True)),
    ((2, 3, 36, 64, False), (1, 3, 600, 64, False), (2, 4, 20, 64, True)),
)
"""Sequences, heads, tokens, head size, causal."""


def main() -> None:
    """Time SDPA against two products and a softmax, the best of five each, taken in turn."""
    rows = []
    for (count, heads, length, dim, causal), graph in ((shape, graph) for graph in (True, False) for shape in SHAPES):
        times: dict[str, list[float]] = {"sdpa_ms": [], "products_ms": []}
        for _ in range(5):
            for name in times:
                q, k, v = (
                    torch.randn(count, length, heads, dim, dtype=torch.bfloat16).transpose(1, 2).requires_grad_(graph)
                    for _ in range(3)
                )
                started = time.perf_counter()
                if name == "sdpa_ms":
                    attended = sdpa(q, k, v, causal)
                elif graph:
                    attended = products(q, k, v, causal)
                else:
                    attended = products_in_blocks(q, k, v, causal)
                if graph:
                    attended.backward(torch.ones_like(attended))
                times[name].append((time.perf_counter() - started) * 1e3)
        best = {name: round(min(values), 2) for name, values in times.items()}
        ratio = round(best["sdpa_ms"] / best["products_ms"], 2)
        rows.append({"shape": [count, heads, length, dim], "causal": causal, "graph": graph} | best | {"ratio": ratio})
        print(rows[-1])
    machine = {
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
    results = {"command": "python benchmarks/attention.py", "machine": machine, "rows": rows}
    write_results("attention", results)


def sdpa(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def products(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if causal:
        length = q.shape[2]
        scores = scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), float("-inf"))
    return scores.softmax(-1) @ v


def products_in_blocks(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    attended, length = torch.empty_like(q), q.shape[2]
    together = max(1, BLOCK // length)
    for one in range(0, len(q), together):
        some = slice(one, one + together)
        if causal:
            attended[some] = products(q[some], k[some], v[some], True)
            continue
        for first in range(0, length, BLOCK):
            rows = slice(first, first + BLOCK)
            attended[some, :, rows] = products(q[some, :, rows], k[some], v[some], False)
    return attended


if __name__ == "__main__":
    main()
