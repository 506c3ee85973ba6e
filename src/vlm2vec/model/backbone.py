"""What is asked of a model, whatever its family?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from vlm2vec.items import Role, Target

Output: TypeAlias = Literal["pooled", "tokens"]
"""One vector an item, or one for each of its tokens."""


@dataclass(frozen=True, slots=True)
class Ask:
    """How items are put to a model.

    Args:
        role: "query" or "document" adds the prompt style's default instruction; None adds nothing.
        target: what a query looks for; None: a text is taken to look for images.
        prompt: instruction for all items, in place of their own; "" for none.
    """

    role: Role | None = None
    target: Target | None = None
    prompt: str | None = None
