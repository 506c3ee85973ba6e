"""A checkpoint promises the steps behind it, so the seeds of steps are written down here."""

from __future__ import annotations

import pytest

from vlm2vec.training.seeds import step_seed


@pytest.mark.parametrize(
    ("numbers", "seed"),
    [
        ((0, 0, 0), 3010437511937009226),
        ((1, 0, 0), 7839147235533974352),
        ((42, 4999, 7), 2028254797865295550),
        ((2**64, 10**9, 0), 102152524076755840),
        ((42, 1, 0), -255314083093863083),
    ],
)
def test_a_step_is_seeded_as_in_the_first_release(numbers: tuple[int, int, int], seed: int) -> None:
    assert step_seed(*numbers) == seed
