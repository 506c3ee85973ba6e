"""Which methods must a family have so that the trainer can train it, save it and load it again?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from vlm2vec.items import Item
from vlm2vec.model.backbone import Ask, Prepared, decoded_bytes
from vlm2vec.model.checkpoint import Settings

if TYPE_CHECKING:
    from vlm2vec.media.sandbox import Decoder


class TrainingPack(Protocol):
    """Several prepared items, laid together."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each item, of which a model with a token head makes a vector each."""

    @property
    def num_tokens(self) -> int:
        """Of all items: what the pack costs."""

    def to(self, device: torch.device) -> TrainingPack:
        """The same on a device."""


class Processor(Protocol):
    """Makes items ready in a loader's worker, to which it is sent."""

    def prepare(self, item: Item, ask: Ask) -> Prepared:
        """As `Backbone.prepare`."""

    def pack(self, prepared: Sequence[Any]) -> TrainingPack:
        """As `Backbone.pack`."""

    def within(self, max_pixels: int | None) -> Processor:
        """The same for pictures of at most so many pixels; None: as they are.

        Raises:
            InputError: it is below one token, or the family looks at all pictures in one size.
        """


class TrainableModule(nn.Module):
    """A model of a family that can be trained, in torch.

    Called with a pack it gives, with a graph, pooled vectors [N, D] and, of a model with a token head, token vectors
    [T, E], else None. `frozen_features` of this pack may be a second argument, to save making them again.

    Attributes:
        dim: dimensions of a vector.
        processor: prepares the inputs of a run.
        settings: that hold; they are saved with the model.
        token_head: gives every token a vector too; None: not.
    """

    dim: int
    processor: Processor
    settings: Settings
    # No default: a class attribute would hide the module that is assigned.
    token_head: nn.Linear | None

    def weigh(self, item: Item, *, decoder: Decoder) -> int:
        """As `Backbone.weigh`."""
        return decoded_bytes(item, self.settings, decoder)

    def parameter_parts(self) -> Mapping[str, nn.Module]:
        """The parts that a run may freeze, by the name that a configuration has for them."""
        raise NotImplementedError

    def frozen_features(self, batch: Any) -> Tensor | None:
        """The features that parts without a trained parameter make of a pack; None if there are none."""
        raise NotImplementedError

    def stored_weights(self) -> Mapping[str, Tensor]:
        """The tensors that `write` takes; those of a divided model are still divided."""
        raise NotImplementedError

    def write(self, folder: Path, weights: Mapping[str, Tensor] | None) -> None:
        """Write a checkpoint.

        Args:
            weights: all of `stored_weights`, whole and on the CPU; None writes what belongs beside an adapter.
        """
        raise NotImplementedError
