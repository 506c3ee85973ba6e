"""One contrastive step over a batch that does not fit into memory at once (gradient cache, arXiv 2101.06983)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor


class _Chunk(Protocol):
    """Part of a batch that is encoded at once."""

    @property
    def num_tokens(self) -> int: ...


C = TypeVar("C", bound=_Chunk)
_Parts: TypeAlias = tuple[Tensor, ...]
"""The output for a chunk: one or more tensors, whose first dimensions are laid end to end over the chunks."""


class _CachedStep(NamedTuple):
    """Value of the loss, and all that was encoded, without graph."""

    loss: Tensor
    queries: _Parts
    documents: _Parts


def cached_step(
    encode: Callable[[C], _Parts],
    queries: Sequence[C],
    documents: Sequence[C],
    loss: Callable[[_Parts, _Parts], Tensor],
    *,
    token_budget: int | None = None,
    before_last: Callable[[], None] = lambda: None,
) -> _CachedStep:
    """Encode all chunks, and add the gradient of the loss to the parameters that took part.

    Chunks are encoded without graph, the loss gives a gradient for their vectors, and with it every chunk is encoded
    and taken back once more, under the same random numbers. Equals the plain gradient; memory holds the graph of
    `token_budget` tokens, or of one chunk that is larger, and all that was encoded. As many chunks as fit into the
    budget keep their first graph and are encoded only once.

    Args:
        encode: from a chunk to tensors with graph.
        queries, documents: at least one chunk each.
        loss: from all queries and all documents, in the order of their chunks.
        token_budget: None: everything is encoded once, with graph.
        before_last: called before the last backward pass of the step, in which gradients may be synchronised.
    """
    chunks = [*queries, *documents]
    kept = _kept_from(chunks, token_budget)
    states, graphs = [], []
    for number, chunk in enumerate(chunks):
        states.append(_RandomState.now())
        with torch.set_grad_enabled(number >= kept):
            graphs.append(encode(chunk))
    leaves = [tuple(part.detach().requires_grad_() for part in encoded) for encoded in graphs]
    first, second = _joined(leaves[: len(queries)]), _joined(leaves[len(queries) :])
    value = loss(first, second)
    value.backward()

    # Those that hold a graph go first, to make room for the others'.
    order = [*range(kept, len(chunks)), *range(kept)]
    for number in order:
        if number == order[-1]:
            before_last()
        encoded, graphs[number] = graphs[number], ()
        if number < kept:
            with states[number].replayed():
                encoded = encode(chunks[number])
        _take_back(encoded, leaves[number])
    return _CachedStep(value.detach(), *(tuple(part.detach() for part in side) for side in (first, second)))


def _take_back(encoded: _Parts, leaves: _Parts) -> None:
    """Add the gradient of the parameters of a chunk, from that of its detached copies."""
    # A pack of texts reaches nothing that is trained when only the vision tower is; the loss may not use all parts.
    reached = [
        (part, leaf.grad)
        for part, leaf in zip(encoded, leaves, strict=True)
        if part.requires_grad and leaf.grad is not None
    ]
    if reached:
        torch.autograd.backward([part for part, _ in reached], [gradient for _, gradient in reached])


def _kept_from(chunks: Sequence[C], token_budget: int | None) -> int:
    """Number of the first chunk that keeps its graph; the last one always does."""
    if token_budget is None:
        return 0
    room = token_budget
    for number in reversed(range(len(chunks))):
        room -= chunks[number].num_tokens
        if room < 0:
            return min(number + 1, len(chunks) - 1)
    return 0


def _joined(parts: Sequence[_Parts]) -> _Parts:
    return tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))


class _RandomState(NamedTuple):
    cpu: Tensor
    cuda: Tensor | None

    @classmethod
    def now(cls) -> _RandomState:
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None)

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Random numbers continue from this state inside, and as if nothing had happened afterwards."""
        devices = [] if self.cuda is None else [torch.cuda.current_device()]
        with torch.random.fork_rng(devices=devices):
            torch.set_rng_state(self.cpu)
            if self.cuda is not None:
                torch.cuda.set_rng_state(self.cuda)
            yield
