"""Which questions may be put to a model of any family, and which methods must a family have?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import InputError
from vlm2vec.items import Item, Kind, Role, Target

if TYPE_CHECKING:
    from vlm2vec.media.sandbox import Decoder
    from vlm2vec.model.checkpoint import Settings

FAMILIES: dict[str, str] = {
    "qwen2_vl": "vlm2vec.model.families.qwen_vl:load",
    "towers": "vlm2vec.model.families.towers:load",
}
"""Kind of a checkpoint (`Folders.kind`) -> "module:function" that loads it; imported when a model needs it.

The function takes `(folders, wanted, *, device, dtype)`: the `Folders` of the checkpoint, `Settings` that go before its
own, and both as `Embedder.load` takes them. It gives a `Backbone`, or raises ModelError.
"""

Vectors: TypeAlias = NDArray[np.float32]
Dtype: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]
Output: TypeAlias = Literal["pooled", "tokens"]
"""One vector an item, or one for each of its tokens."""


@dataclass(frozen=True, slots=True)
class Ask:
    """How items are put to a model.

    Args:
        role: "query" or "document" adds the prompt style's default instruction; None adds nothing.
        target: the kind that a query looks for; None: a text is taken to look for images.
        prompt: instruction for all items, in place of their own; "" for none.

    Raises:
        InputError: there is no such role or target, or the prompt is no str.
    """

    role: Role | None = None
    target: Target | None = None
    prompt: str | None = None

    def __post_init__(self) -> None:
        for name, value, choices in (("role", self.role, get_args(Role)), ("target", self.target, get_args(Target))):
            if value is not None and value not in choices:
                raise InputError(f"{name} is {value!r}: use {', '.join(choices)}, or None")
        if self.prompt is not None and not isinstance(self.prompt, str):
            raise InputError(f"prompt is {self.prompt!r}: it must be one str for all items, or None")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The limits and abilities of a model.

    Args:
        dim: dimensions of a vector.
        token_dim: dimensions of the vector of a token; None: it has vectors of whole items alone.
        kinds: of items that it embeds.
        trainable: whether it is a `TrainableModule`.
        max_tokens: of a text, which is cut there; None: no limit is known.
        matryoshka_dims: numbers of leading dimensions that it was trained to give alone.
    """

    dim: int
    token_dim: int | None
    kinds: frozenset[Kind]
    trainable: bool
    max_tokens: int | None = None
    matryoshka_dims: tuple[int, ...] = ()


class Prepared(Protocol):
    """One item on the CPU, as a family's model reads it."""

    @property
    def cost(self) -> int:
        """Work that the model has with it, at least 1: tokens, or 1 for each where all are alike."""


Input = TypeVar("Input", bound=Prepared)
Pack = TypeVar("Pack")


class Backbone(Protocol[Input, Pack]):
    """A loaded model of any family. One that inherits from this computes on the CPU in float32, unless it says more.

    Attributes:
        settings: prompt style, pooling, normalisation, pixel limits and frames that hold.
        device: where it computes, such as "cpu" or "cuda:0".
        dtype: in which it computes: "float32", "bfloat16" or "float16".
    """

    settings: Settings

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def device(self) -> str:
        return "cpu"

    @property
    def dtype(self) -> str:
        return "float32"

    def prepare(self, item: Item, ask: Ask, *, decoder: Decoder) -> Input:
        """Make an item ready on the CPU; several threads call it at once, but one alone for items of PIL images.

        Args:
            decoder: makes pictures of its media.

        Raises:
            InputError: the item or the ask makes no sense, or the family embeds no items of this kind.
            MediaError: a medium cannot be read.
        """

    def weigh(self, item: Item, *, decoder: Decoder) -> int:
        """Bytes that the pictures of an item take while `prepare` decodes them, told from headers."""
        return decoded_bytes(item, self.settings, decoder)

    def pack(self, prepared: Sequence[Input]) -> Pack:
        """Lay prepared items together."""

    def encode(self, packs: Iterable[Pack], output: Output) -> Iterator[Sequence[Vectors]]:
        """For each pack in its order, for each of its items: a vector [D], as the model pools it and not yet scaled,
        or vectors [tokens, E] of length one.

        A family on a GPU takes the next pack before it reads the vectors of the last one.
        """

    def states(self) -> Sequence[object]:
        """All that moves a vector, as plain data: for the fingerprint."""


def decoded_bytes(item: Item, settings: Settings, decoder: Decoder) -> int:
    """Bytes that the pictures of an item take while they are decoded, if as many frames as settings say are picked."""
    return sum(decoder.decoded_bytes(medium, num_frames=settings.num_frames or 1) for medium in item.media)


def plan_packs(costs: Sequence[int], budget: int) -> list[list[int]]:
    """Divide items into packs that cost at most `budget`, dearest first so that equal costs meet.

    Returns:
        for each pack the positions of its items. An item over the budget is a pack of its own.
    """
    packs: list[list[int]] = []
    room = 0
    for index in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        if not packs or costs[index] > room:
            packs.append([])
            room = budget
        packs[-1].append(index)
        room -= costs[index]
    return packs
