"""How does a window of prepared items become vectors, pack by pack?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vlm2vec.errors import VLM2VecError
from vlm2vec.model.packing import plan_packs
from vlm2vec.model.preparing import Window
from vlm2vec.model.processor import Prepared
from vlm2vec.model.qwen_vl import Encoded, QwenVLBackbone

Vectors = NDArray[np.float32]


def embedded(
    window: Window,
    backbone: QwenVLBackbone,
    token_budget: int,
    take: Callable[[Encoded, Sequence[int]], Iterable[Vectors]],
) -> Iterator[tuple[int, Vectors | VLM2VecError]]:
    """Embed a window in packs of at most so many tokens.

    Args:
        take: reads the vectors of the inputs of a pack, whose lengths it is told.

    Yields:
        for each item its position, and its vectors or its error; errors first, then by pack.
    """
    device = backbone.pixel_table.device
    whole: list[tuple[int, Prepared]] = []
    for position, outcome in window:
        if isinstance(outcome, VLM2VecError):
            yield position, outcome
        else:
            whole.append((position, outcome))
    launched: list[tuple[list[int], Encoded, Sequence[int]]] = []
    for members in plan_packs([prepared.length for _, prepared in whole], token_budget):
        batch = backbone.pack([whole[i][1] for i in members]).to(device)
        with torch.inference_mode():
            launched.append((members, backbone(batch), batch.segments.lengths))
        # To read vectors is to wait for a GPU: first it gets the next pack.
        if device.type == "cpu" or len(launched) == 2:
            yield from _vectors(launched.pop(0), whole, take)
    for last in launched:
        yield from _vectors(last, whole, take)


def _vectors(
    launched: tuple[list[int], Encoded, Sequence[int]],
    whole: Sequence[tuple[int, Prepared]],
    take: Callable[[Encoded, Sequence[int]], Iterable[Vectors]],
) -> Iterator[tuple[int, Vectors]]:
    """The vectors of a pack with the positions of its inputs."""
    members, encoded, lengths = launched
    with torch.inference_mode():
        vectors = list(take(encoded, lengths))
    yield from zip((whole[i][0] for i in members), vectors, strict=True)
