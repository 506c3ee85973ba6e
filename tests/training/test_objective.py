"""The loss of a step in closed form and against published values: masks, temperatures, teachers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from support.golden_cases import GOLDEN
from vlm2vec.data.collate import PairBatch
from vlm2vec.model.attention import Segments
from vlm2vec.model.families.qwen_inputs import PackedBatch
from vlm2vec.model.similarity import normalize
from vlm2vec.training.config import Loss, Teacher
from vlm2vec.training.objective import Objective, StepOutcome, _Distillation, _matryoshka, info_nce

EYE = torch.eye(3)
"""Of three pairs whose vectors are orthogonal, also their scores."""


def _outcome(
    config: Loss,
    q: torch.Tensor = EYE,
    d: torch.Tensor = EYE,
    *,
    labels: tuple[int, ...] = (1, 2, 3),
    rows: tuple[int, ...] = (1, 2, 3),
    contents: tuple[int, ...] = (1, 2, 3),
    sources: tuple[int, ...] = (0, 0, 0),
    temperatures: tuple[float | None, ...] = (None,),
    tokens: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> StepOutcome:
    batch: PairBatch[PackedBatch] = PairBatch(
        queries=(_pack(len(q)),),
        documents=(_pack(len(d)),),
        query_order=torch.arange(len(q)),
        document_order=torch.arange(len(d)),
        labels=torch.tensor(labels),
        rows=torch.tensor(rows),
        contents=(torch.arange(len(q)), torch.tensor(contents)),
        sources=torch.tensor(sources),
        origins=("a:1", "a:2", "a:3"),
        replaced=(),
    )
    sides = ((q,), (d,)) if tokens is None else ((q, tokens[0]), (d, tokens[1]))
    outcome: StepOutcome = Objective(config, temperatures, q.shape[1])(*sides, batch)
    return outcome


def _pack(count: int) -> PackedBatch:
    """So many items of one token each."""
    nothing = torch.empty(0, dtype=torch.int64)
    return PackedBatch(nothing, nothing, Segments((1,) * count), nothing, nothing, ())


def _orthogonal(negatives: float, temperature: float = 0.5) -> float:
    """Loss of a query that scores 1 with its own document and 0 with so many others."""
    return math.log(1 + negatives * math.exp(-1 / temperature))


def test_nothing_is_masked_unless_it_is_asked_for() -> None:
    outcome = _outcome(Loss(temperature=0.5), labels=(1, 1, 1), contents=(1, 1, 1))
    assert outcome.loss.item() == pytest.approx(_orthogonal(2), abs=1e-6)
    assert outcome.hits.tolist() == [True] * 3


def test_a_row_that_stands_twice_in_a_batch_is_no_negative_of_itself() -> None:
    outcome = _outcome(Loss(temperature=0.5), rows=(4, 5, 4))
    assert outcome.per_row.tolist() == pytest.approx([_orthogonal(1), _orthogonal(2), _orthogonal(1)], abs=1e-6)


def test_positives_of_rows_with_the_same_label_are_no_negatives() -> None:
    outcome = _outcome(Loss(temperature=0.5, mask_same_label=True), labels=(1, 1, 2))
    expected = [_orthogonal(1), _orthogonal(1), _orthogonal(2)]
    assert outcome.per_row.tolist() == pytest.approx(expected, abs=1e-6)
    assert outcome.loss.item() == pytest.approx(sum(expected) / 3, abs=1e-6)


def test_documents_of_the_positives_content_are_no_negatives_hard_ones_included() -> None:
    # The third positive is the same as the first, and of the two hard negatives one is the second positive.
    d = torch.cat([EYE, torch.zeros(2, 3)])
    outcome = _outcome(Loss(temperature=0.5, mask_same_content=True), d=d, contents=(7, 8, 7, 8, 9))
    assert outcome.per_row.tolist() == pytest.approx([_orthogonal(3), _orthogonal(3), _orthogonal(3)], abs=1e-6)


def test_a_hard_negative_that_is_another_rows_positive_is_not_held_against_that_row() -> None:
    # Without being asked for: each of three rows brings the positive of the next one, as mined rows do.
    d = torch.cat([EYE, EYE[[1, 2, 0]]])
    outcome = _outcome(Loss(temperature=0.5), d=d, contents=(7, 8, 9, 8, 9, 7))
    assert outcome.per_row.tolist() == pytest.approx([_orthogonal(4)] * 3, abs=1e-6)
    assert outcome.hits.tolist() == [True] * 3


def test_a_document_that_beats_the_positive_by_a_margin_is_no_negative_and_still_a_miss() -> None:
    swapped = _outcome(Loss(temperature=0.5, mask_margin=0.1), q=EYE[[1, 0, 2]])
    assert swapped.hits.tolist() == [False, False, True]
    # Its own positive scores 0, as the third document does, and the second one's 1 is left out.
    assert swapped.per_row[0].item() == pytest.approx(math.log(2), abs=1e-6)


def test_documents_far_above_the_positive_are_no_negatives() -> None:
    q = torch.nn.functional.normalize(torch.tensor([[0.6, 0.8, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), dim=1)
    kept = _outcome(Loss(temperature=1.0, mask_margin=0.3), q=q).per_row[0].item()
    masked = _outcome(Loss(temperature=1.0, mask_margin=0.1), q=q).per_row[0].item()
    assert kept == pytest.approx(math.log(1 + math.exp(0.8 - 0.6) + math.exp(-0.6)), abs=1e-6)
    assert masked == pytest.approx(math.log(1 + math.exp(-0.6)), abs=1e-6)


def test_a_source_has_its_own_temperature() -> None:
    outcome = _outcome(Loss(temperature=0.5), sources=(0, 1, 1), temperatures=(None, 1.0))
    assert outcome.per_row.tolist() == pytest.approx([_orthogonal(2)] + [_orthogonal(2, 1.0)] * 2, abs=1e-6)


def test_centring_takes_the_common_part_away() -> None:
    shifted = EYE + 5.0
    centred = EYE - 1 / 3
    expected = _outcome(Loss(temperature=0.5), q=centred, d=centred).loss.item()
    assert _outcome(Loss(temperature=0.5, center=True), q=shifted, d=shifted).loss.item() == pytest.approx(
        expected, abs=1e-5
    )


def test_matryoshka_counts_every_length() -> None:
    # In the first dimension alone the second and third item are nothing, so nothing tells documents apart for them.
    outcome = _outcome(Loss(temperature=0.5, matryoshka=(1, 3)))
    short = (_orthogonal(2) + 2 * math.log(3)) / 3
    assert outcome.loss.item() == pytest.approx((short + _orthogonal(2)) / 2, abs=1e-6)


def test_token_vectors_add_their_loss_by_weight() -> None:
    outcome = _outcome(Loss(temperature=0.5, token_dim=3, token_weight=0.25), tokens=(EYE, EYE))
    assert outcome.loss.item() == pytest.approx(1.25 * _orthogonal(2), abs=1e-6)


def test_a_learned_temperature_starts_where_it_is_set_and_can_move() -> None:
    objective = Objective(Loss(temperature=0.07, learn_temperature=True), [None], 3)
    assert objective.temperature() == pytest.approx(0.07)
    assert objective.log_factor.requires_grad
    assert not Objective(Loss(), [None], 3).log_factor.requires_grad


# InfoNCE


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
    loss = _matryoshka(lambda q, d: info_nce(q @ d.T, temperature=0.1), (2, 8), q, d)
    torch.testing.assert_close(loss, torch.stack(parts).mean())


# Distillation


def _distillation(teacher: Teacher, weight: torch.Tensor) -> _Distillation:
    module = _Distillation(teacher, weight.shape[1], weight.shape[0])
    with torch.no_grad():
        module.map.weight.copy_(weight)
    return module


def _different(items: torch.Tensor) -> torch.Tensor:
    """A content of its own for each."""
    return torch.arange(len(items))


def test_regression_is_one_minus_the_cosine_of_what_the_map_makes_of_our_vectors() -> None:
    module = _distillation(Teacher(vectors=Path(), similarity=0.0), torch.tensor([[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]]))
    # Mapped to (0, 3, 0) and (8, 0, 0): the first is what the teacher says, the second has a cosine of 0.6 with it.
    ours, taught = torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.tensor([[0.0, 1.0, 0.0], [0.6, 0.0, 0.8]])
    assert module(ours, taught, _different(ours), [2]).item() == pytest.approx((0 + 0.4) / 2, abs=1e-6)


def test_similarity_is_the_divergence_of_our_softmax_over_the_others_from_the_teachers() -> None:
    module = _distillation(Teacher(vectors=Path(), regression=0.0, temperature=0.5), torch.eye(2))
    ours = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 1.0]])
    taught = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])

    def divergence(p: tuple[float, float], q: tuple[float, float]) -> float:
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))

    high, low, even = math.exp(2) / (1 + math.exp(2)), 1 / (1 + math.exp(2)), (0.5, 0.5)
    rows = [
        # The teacher finds the second like the first, we find neither other like it.
        divergence((high, low), even),
        # The teacher finds the first like the second, we the third.
        divergence((high, low), (low, high)),
        # The teacher finds neither like the third, we the second.
        divergence(even, (low, high)),
    ]
    assert module(ours, taught, _different(ours), [2]).item() == pytest.approx(sum(rows) / 3, abs=1e-5)


def test_leading_dimensions_learn_the_similarities_too() -> None:
    module = _distillation(Teacher(vectors=Path(), regression=0.0, temperature=0.5), torch.eye(2))
    # In both dimensions ours are what the teacher says; in the first alone, all three point the same way.
    ours = torch.tensor([[1.0, 0.0], [3.0, 4.0], [4.0, 3.0]])
    taught = torch.nn.functional.normalize(ours, dim=1)
    assert module(ours, taught, _different(ours), [2]).item() == pytest.approx(0, abs=1e-6)

    def divergence(a: float, b: float) -> float:
        p = 1 / (1 + math.exp((b - a) / 0.5))
        return p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))

    rows = [divergence(0.6, 0.8), divergence(0.6, 0.96), divergence(0.8, 0.96)]
    assert module(ours, taught, _different(ours), [1]).item() == pytest.approx(sum(rows) / 3, abs=1e-5)
    assert module(ours, taught, _different(ours), [2, 1]).item() == pytest.approx(sum(rows) / 6, abs=1e-5)


def test_nothing_is_to_be_learned_from_how_alike_items_of_equal_content_are() -> None:
    module = _distillation(Teacher(vectors=Path(), regression=0.0), torch.eye(2))
    ours, taught = (
        torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]),
        torch.tensor([[0.6, 0.8], [0.6, 0.8], [0.0, 1.0]]),
    )
    # Each of the first two has one other item, the third two that are equally near: no choice for us or the teacher.
    assert module(ours, taught, torch.tensor([7, 7, 8]), [2]).item() == pytest.approx(0, abs=1e-6)
    assert module(ours, taught, _different(ours), [2]).item() > 0.1
    assert module(ours, taught, torch.tensor([7, 7, 7]), [2]).item() == pytest.approx(0, abs=1e-6)


def test_of_one_known_item_the_distance_counts_alone() -> None:
    module = _distillation(Teacher(vectors=Path()), torch.eye(2))
    taught = torch.tensor([[0.0, 0.0], [0.6, 0.8]])
    assert module(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), taught, torch.arange(2), [2]).item() == pytest.approx(
        0.2, abs=1e-6
    )


def test_items_of_which_the_teacher_says_nothing_do_not_count() -> None:
    torch.manual_seed(0)
    module = _Distillation(Teacher(vectors=Path()), 4, 3)
    ours, taught = torch.randn(5, 4), torch.nn.functional.normalize(torch.randn(5, 3), dim=1)
    taught[[1, 3]] = 0
    known = [0, 2, 4]
    assert torch.equal(
        module(ours, taught, _different(ours), [4, 2]), module(ours[known], taught[known], torch.arange(3), [4, 2])
    )


def test_a_batch_of_which_the_teacher_says_nothing_adds_nothing_and_still_gives_gradients() -> None:
    module = _Distillation(Teacher(vectors=Path()), 4, 3)
    ours = torch.randn(5, 4, requires_grad=True)
    value = module(ours, torch.zeros(5, 3), _different(ours), [4])
    value.backward()
    assert value.item() == 0
    assert ours.grad is not None
    assert module.map.weight.grad is not None
    assert not module.map.weight.grad.any()
