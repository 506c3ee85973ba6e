"""The loss of a step by hand: what is masked, centred, weighted, and by which temperature."""

from __future__ import annotations

import math

import pytest
import torch

from vlm2vec.data.collate import PairBatch
from vlm2vec.model.families.qwen_inputs import PackedBatch
from vlm2vec.training.config import Loss
from vlm2vec.training.objective import Objective, Side, StepOutcome

EYE = torch.eye(3)


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
        queries=(),
        documents=(),
        query_order=torch.arange(len(q)),
        document_order=torch.arange(len(d)),
        labels=torch.tensor(labels),
        rows=torch.tensor(rows),
        contents=(torch.arange(len(q)), torch.tensor(contents)),
        sources=torch.tensor(sources),
        origins=("a:1", "a:2", "a:3"),
        replaced=(),
    )
    sides = [Side(x, None if tokens is None else tokens[i], (1,) * len(x)) for i, x in enumerate((q, d))]
    outcome: StepOutcome = Objective(config, temperatures)(*sides, batch)
    return outcome


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
    objective = Objective(Loss(temperature=0.07, learn_temperature=True), [None])
    assert objective.temperature() == pytest.approx(0.07)
    assert objective.log_factor.requires_grad
    assert not Objective(Loss(), [None]).log_factor.requires_grad
