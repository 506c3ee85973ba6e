"""Contrastive losses in closed form and against the published values."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from golden_cases import GOLDEN
from vlm2vec.training.losses import info_nce

EYE = torch.eye(3)


def test_orthogonal_pairs_have_the_closed_form() -> None:
    # Own positive scores 1/t, the two others 0: log(1 + 2 exp(-1/t)).
    assert info_nce(EYE, EYE, temperature=0.5).item() == pytest.approx(math.log(1 + 2 * math.exp(-2)), abs=1e-6)


def test_a_masked_document_is_no_negative() -> None:
    mask = torch.tensor([[False, True, False], [False, False, True], [True, False, False]])
    expected = math.log(1 + math.exp(-2))
    assert info_nce(EYE, EYE, temperature=0.5, mask_BB=mask).item() == pytest.approx(expected, abs=1e-6)


def test_the_diagonal_is_never_masked() -> None:
    everything = torch.ones(3, 3, dtype=torch.bool)
    assert info_nce(EYE, EYE, temperature=0.5, mask_BB=everything).item() == pytest.approx(0.0, abs=1e-6)


def test_symmetric_is_the_mean_of_both_directions() -> None:
    torch.manual_seed(0)
    q, d = torch.randn(4, 8), torch.randn(4, 8)
    both = (info_nce(q, d, temperature=1.0) + info_nce(d, q, temperature=1.0)) / 2
    torch.testing.assert_close(info_nce(q, d, temperature=1.0, symmetric=True), both)


def test_the_published_value_is_reproduced() -> None:
    values = json.loads((GOLDEN / "loss.json").read_text("utf-8"))
    arrays = np.load(GOLDEN / "loss.npz")
    loss = info_nce(torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y8"]), temperature=0.02)
    assert loss.item() == pytest.approx(values["simple_y8_t0.02"], rel=1e-6)
