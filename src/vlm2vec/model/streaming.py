"""How does a window of prepared items become vectors, pack by pack?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vlm2vec.errors import ModelError, VectorError, VLM2VecError
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
        for each item its position, and its vectors or its error, a VectorError where they cannot be compared; errors
        of preparing first, then by pack.
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
            yield from _vectors(launched.pop(0), whole, take, backbone.model.dtype)
    for last in launched:
        yield from _vectors(last, whole, take, backbone.model.dtype)


def usable(
    results: Iterable[tuple[int, Vectors | VLM2VecError]], count: int | None, model: str
) -> Iterator[tuple[int, Vectors]]:
    """The vectors of a stream, each with its position.

    Args:
        count: items of the stream; None: it is one that was given alone.
        model: name of it, for errors.

    Raises:
        ModelError: there are several items, and no vector is finite and not zero.
        VLM2VecError: the error of an item, with its position unless it was given alone.
    """
    bad: dict[int, VectorError] = {}
    for position, result in results:
        if isinstance(result, VectorError):
            # Whether the item or the model is at fault, the other items tell.
            bad[position] = result
        elif isinstance(result, VLM2VecError):
            if count is None:
                raise result
            raise _at(position, count, result) from result
        else:
            yield position, result
    if not bad:
        return
    first = min(bad)
    if count is None:
        raise VectorError(f"{model}: {bad[first]}") from bad[first]
    if 1 < len(bad) == count:
        raise ModelError(f"{model}: none of {count} items has a vector; of the first, {bad[first]}")
    raise _at(first, count, bad[first]) from bad[first]


def _at(position: int, count: int, error: VLM2VecError) -> VLM2VecError:
    """The error of an item with the position of it."""
    return type(error)(f"item {position} of {count}: {error}")


def _vectors(
    launched: tuple[list[int], Encoded, Sequence[int]],
    whole: Sequence[tuple[int, Prepared]],
    take: Callable[[Encoded, Sequence[int]], Iterable[Vectors]],
    dtype: torch.dtype,
) -> Iterator[tuple[int, Vectors | VectorError]]:
    """The vectors of a pack with the positions of its inputs; an error for one that cannot be compared."""
    members, encoded, lengths = launched
    with torch.inference_mode():
        vectors = list(take(encoded, lengths))
    for one, vector in zip(members, vectors, strict=True):
        fault = _fault(vector)
        yield whole[one][0], vector if fault is None else _vector_error(fault, dtype)


def _fault(vectors: Vectors) -> str | None:
    """What is wrong with a vector [D], or one of several [N, D]: it cannot be compared with others."""
    if not np.isfinite(vectors).all():
        return "not finite"
    return None if vectors.any(axis=-1).all() else "zero"


def _vector_error(fault: str, dtype: torch.dtype) -> VectorError:
    remedy = "look for nan in the model's weights"
    if dtype == torch.float16:
        remedy += ", or load it with dtype='bfloat16' or 'float32': float16 ends at 65,504"
    return VectorError(f"the vector that the model makes of it is {fault}; {remedy}")
