"""The gradient of one contrastive step whose batch does not fit into memory (gradient cache, arXiv 2101.06983)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from vlm2vec.model.families.trainable import TrainableModule, TrainingPack

_Encoded: TypeAlias = tuple[Tensor, ...]
"""Pooled vectors and, of a model with a token head, token vectors, float32; those of several packs laid end to end."""


@dataclass(frozen=True)
class GradientCache:
    """Encodes the packs of a step, and adds the gradient of their loss to the parameters that took part.

    All are encoded without graph, the loss gives a gradient for their vectors, and with it every pack is encoded and
    taken back once more, under the same random numbers. Equals the plain gradient; memory holds the graph of
    `token_budget` tokens, or of one pack that is larger, and all vectors. As many packs as fit into the budget keep
    their first graph and are encoded only once.

    Args:
        precision: "bfloat16" encodes under autocast.
        token_budget: None: everything is encoded once, with graph.
        keep_features: those that frozen parts make of a pack are kept for the second time.
    """

    backbone: TrainableModule
    device: torch.device
    precision: str
    _: KW_ONLY
    token_budget: int | None
    keep_features: bool = True

    def step(
        self,
        queries: Sequence[TrainingPack],
        documents: Sequence[TrainingPack],
        loss: Callable[[_Encoded, _Encoded], Tensor],
        *,
        before_last: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """One step.

        Args:
            queries, documents: at least one pack each.
            loss: from all queries and all documents, in the order of their packs.
            before_last: called before the last backward pass of the step, in which gradients may be synchronised.

        Returns:
            value of the loss, without graph.
        """
        packs = [*queries, *documents]
        first_kept = self._first_kept(packs)
        features: dict[int, Tensor | None] = {}
        states, graphs = [], []
        for number in range(len(packs)):
            states.append(_random_state())
            with torch.set_grad_enabled(number >= first_kept):
                graphs.append(self._encode(packs, number, features))
        leaves = [tuple(part.detach().requires_grad_() for part in encoded) for encoded in graphs]
        value = loss(_joined(leaves[: len(queries)]), _joined(leaves[len(queries) :]))
        value.backward()

        # Those that hold a graph go first, to make room for the others'.
        order = [*range(first_kept, len(packs)), *range(first_kept)]
        for number in order:
            if number == order[-1]:
                before_last()
            encoded, graphs[number] = graphs[number], ()
            if number < first_kept:
                with _replayed(*states[number]):
                    encoded = self._encode(packs, number, features)
            _take_back(encoded, leaves[number])
        return value.detach()

    def _first_kept(self, packs: Sequence[TrainingPack]) -> int:
        """Number of the first pack that keeps its graph; the last one always does."""
        if self.token_budget is None:
            return 0
        room = self.token_budget
        for number in reversed(range(len(packs))):
            room -= packs[number].num_tokens
            if room < 0:
                return min(number + 1, len(packs) - 1)
        return 0

    def _encode(self, packs: Sequence[TrainingPack], number: int, features: dict[int, Tensor | None]) -> _Encoded:
        """One of the packs, of which `features` holds those of frozen parts from the first time on."""
        batch = packs[number].to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            if self.keep_features and number not in features:
                features[number] = self.backbone.frozen_features(batch)
            encoded = self.backbone(batch, features.get(number))
        return tuple(part.float() for part in encoded if part is not None)


def _take_back(encoded: _Encoded, leaves: _Encoded) -> None:
    """Add the gradient of the parameters of a pack, from that of its detached copies."""
    # A pack of texts reaches nothing that is trained when only the vision tower is; the loss may not use all parts.
    reached = [
        (part, leaf.grad)
        for part, leaf in zip(encoded, leaves, strict=True)
        if part.requires_grad and leaf.grad is not None
    ]
    if reached:
        torch.autograd.backward([part for part, _ in reached], [gradient for _, gradient in reached])


def _joined(parts: Sequence[_Encoded]) -> _Encoded:
    return tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))


def _random_state() -> tuple[Tensor, Tensor | None]:
    """Of the CPU, and of the current GPU if there is one."""
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None


@contextmanager
def _replayed(cpu: Tensor, cuda: Tensor | None) -> Iterator[None]:
    """Random numbers continue from a state inside, and as if nothing had happened afterwards."""
    with torch.random.fork_rng(devices=[] if cuda is None else [torch.cuda.current_device()]):
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda)
        yield
