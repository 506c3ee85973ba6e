"""Contrastive losses in closed form and against the published values."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from support.golden_cases import GOLDEN
from vlm2vec.model.similarity import normalize
from vlm2vec.training.losses import above_positive, info_nce, matryoshka

EYE = torch.eye(3)
"""Of three pairs whose vectors are orthogonal, also their scores."""


def test_orthogonal_pairs_have_the_closed_form() -> None:
    # Own positive scores 1/t, the two others 0: log(1 + 2 exp(-1/t)).
    assert info_nce(EYE, temperature=0.5).item() == pytest.approx(math.log(1 + 2 * math.exp(-2)), abs=1e-6)


def test_a_masked_document_is_no_negative() -> None:
    mask = torch.tensor([[False, True, False], [False, False, True], [True, False, False]])
    expected = math.log(1 + math.exp(-2))
    assert info_nce(EYE, temperature=0.5, mask_BN=mask).item() == pytest.approx(expected, abs=1e-6)


def test_the_diagonal_is_never_masked() -> None:
    everything = torch.ones(3, 3, dtype=torch.bool)
    assert info_nce(EYE, temperature=0.5, mask_BN=everything).item() == pytest.approx(0.0, abs=1e-6)


def test_symmetric_is_the_mean_of_both_directions() -> None:
    torch.manual_seed(0)
    q, d = torch.randn(4, 8), torch.randn(4, 8)
    both = (info_nce(q @ d.T, temperature=1.0) + info_nce(d @ q.T, temperature=1.0)) / 2
    torch.testing.assert_close(info_nce(q @ d.T, temperature=1.0, symmetric=True), both)


def test_the_published_values_are_reproduced() -> None:
    values = json.loads((GOLDEN / "loss.json").read_text("utf-8"))
    arrays = {name: torch.from_numpy(array) for name, array in np.load(GOLDEN / "loss.npz").items()}
    q, d, many = arrays["x"], arrays["y8"], arrays["y24"]
    # There the positive of query i is row 3 i, with its negatives behind it; here the positives come first.
    ours = torch.cat([many[0::3], many[1::3], many[2::3]])
    for expected, documents, temperature in (
        (values["simple_y8_t0.02"], d, 0.02),
        (values["simple_y8_t1.0"], d, 1.0),
        (values["simple_y24_t0.02"], ours, 0.02),
    ):
        assert info_nce(q @ documents.T, temperature=temperature).item() == pytest.approx(expected, rel=1e-6)


def test_hard_negatives_add_to_every_row_and_not_to_the_way_back() -> None:
    negatives = -EYE
    # Rows: own positive 1, two others 0, own negative -1, two others 0. Columns: as without negatives.
    there = math.log((math.exp(2) + 4 + math.exp(-2)) / math.exp(2))
    back = math.log(1 + 2 * math.exp(-2))
    loss = info_nce(torch.cat([EYE, negatives]).T, temperature=0.5, symmetric=True)
    assert loss.item() == pytest.approx((there + back) / 2, abs=1e-6)


def test_a_temperature_may_differ_by_row_and_holds_for_the_pair_in_both_directions() -> None:
    temperature = torch.tensor([0.5, 1.0, 2.0])
    expected = np.mean([math.log(1 + 2 * math.exp(-1 / t)) for t in temperature.tolist()])
    loss = info_nce(EYE, temperature=temperature, symmetric=True)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_a_learned_temperature_has_a_gradient_although_something_is_masked() -> None:
    temperature = torch.tensor(0.5, requires_grad=True)
    mask = torch.tensor([[False, True, False]] * 3)
    info_nce(EYE, temperature=temperature, mask_BN=mask, symmetric=True).backward()
    assert temperature.grad is not None
    assert torch.isfinite(temperature.grad)
    assert temperature.grad.item() > 0


def test_matryoshka_is_the_mean_over_the_leading_dimensions() -> None:
    torch.manual_seed(1)
    q, d = torch.randn(4, 8), torch.randn(6, 8)
    parts = [info_nce(normalize(q[:, :n]) @ normalize(d[:, :n]).T, temperature=0.1) for n in (2, 8)]
    loss = matryoshka(lambda q, d: info_nce(q @ d.T, temperature=0.1), (2, 8), q, d)
    torch.testing.assert_close(loss, torch.stack(parts).mean())


def test_documents_above_the_positive_by_more_than_the_margin_are_found() -> None:
    scores = torch.tensor([[0.5, 0.55, 0.7], [0.1, 0.9, 0.95]])
    assert above_positive(scores, 0.1).tolist() == [[False, False, True], [False, False, False]]
