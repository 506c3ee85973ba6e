"""What is asked of a model of any family."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm2vec.errors import InputError
from vlm2vec.model.backbone import Ask, plan_packs


def test_equal_costs_meet_and_no_pack_exceeds_the_budget() -> None:
    assert plan_packs([3, 9, 3, 5, 20, 3], 10) == [[4], [1], [3, 0], [2, 5]]


@given(costs=st.lists(st.integers(1, 50), max_size=40), budget=st.integers(1, 120))
def test_every_input_is_in_exactly_one_pack(costs: list[int], budget: int) -> None:
    packs = plan_packs(costs, budget)
    assert sorted(index for members in packs for index in members) == list(range(len(costs)))
    assert all(sum(costs[i] for i in members) <= budget or len(members) == 1 for members in packs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"role": "answer"}, "role is 'answer': use query, document, or None"),
        ({"target": "document"}, "target is 'document': use image, video, page, or None"),
        ({"prompt": ["x"]}, "prompt is ['x']: it must be one str for all items, or None"),
    ],
)
def test_what_cannot_be_asked_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        Ask(**arguments)  # type: ignore[arg-type]
