"""How is the loss of a step computed over the batches of all processes: scores, masks and temperature?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm2vec.data.collate import PairBatch
from vlm2vec.model.families.qwen_inputs import PackedBatch
from vlm2vec.model.similarity import maxsim_with_graph, normalize
from vlm2vec.training.config import Loss
from vlm2vec.training.distillation import Distillation
from vlm2vec.training.distributed import gathered
from vlm2vec.training.losses import above_positive, info_nce, matryoshka


class _Facts(NamedTuple):
    """The rows of all processes besides their vectors.

    Args:
        labels, rows, sources: int64 [B].
        contents: int64 [N].
    """

    labels: Tensor
    rows: Tensor
    sources: Tensor
    contents: Tensor


class StepOutcome(NamedTuple):
    """The loss of one step and what it says, over all processes.

    Args:
        loss: scalar with graph into this process's vectors.
        per_row: loss of each query in the direction query to document, [B], without graph.
        hits: bool [B], whether the query's own positive scored best.
        sources: int64 [B].
        teachers: the part of each teacher in the loss, in their order.
        known: share of the items that each of them knows.
    """

    loss: Tensor
    per_row: Tensor
    hits: Tensor
    sources: Tensor
    teachers: tuple[float, ...]
    known: tuple[float, ...]


class Side(NamedTuple):
    """Encoded queries or documents of one process, in the order of the rows.

    Args:
        pooled: float32 [N, D], not normalised.
        tokens: float32 [T, E], rows of length one, of a model with a token head.
        lengths: tokens of each item.
    """

    pooled: Tensor
    tokens: Tensor | None
    lengths: tuple[int, ...]


class Objective(nn.Module):
    """InfoNCE as the configuration asks for it.

    Args:
        config: the `loss` section.
        temperatures: one for each source, where it differs from `config.temperature`.
        teachers: that our vectors are compared with, in the order of `PairBatch.taught`.
    """

    temperatures: Tensor

    def __init__(
        self, config: Loss, temperatures: Sequence[float | None], teachers: Sequence[Distillation] = ()
    ) -> None:
        super().__init__()
        self.config = config
        self.teachers = nn.ModuleList(teachers)
        own = [value if value is not None else config.temperature for value in temperatures]
        self.register_buffer("temperatures", torch.tensor(own, dtype=torch.float32), persistent=False)
        # One factor for all temperatures is learned, in logarithm as in CLIP.
        self.log_factor = nn.Parameter(torch.zeros(()), requires_grad=config.learn_temperature)

    def temperature(self) -> float:
        """The temperature of sources that have none of their own, as it stands."""
        return self.config.temperature * math.exp(self.log_factor.item())

    def forward(self, queries: Side, documents: Side, batch: PairBatch[PackedBatch]) -> StepOutcome:
        """The loss over the rows of all processes, with a graph into the vectors of this one."""
        q_BD, d_ND = torch.cat(gathered(queries.pooled)), _all_documents(documents.pooled, len(batch.labels))
        device = q_BD.device
        asked, given = (numbers.to(device) for numbers in batch.contents)
        facts = _Facts(
            torch.cat(gathered(batch.labels.to(device))),
            torch.cat(gathered(batch.rows.to(device))),
            torch.cat(gathered(batch.sources.to(device))),
            _all_documents(given, len(batch.labels)),
        )
        if self.config.center:
            # Vectors that all point the same way are the first thing that a random model learns, because that lowers
            # the loss of guessing; without their mean they cannot.
            q_BD, d_ND = q_BD - q_BD.mean(0), d_ND - d_ND.mean(0)
        dims = self.config.matryoshka or (q_BD.shape[1],)
        said = [torch.cat([*gathered(asked), given]) for asked, given in self._taught(batch, device)]
        x_ND = torch.cat([q_BD, d_ND])
        same_N = torch.cat([*gathered(asked), facts.contents])
        taught = [teacher(x_ND, one, same_N, dims) for teacher, one in zip(self.teachers, said, strict=True)]
        temperature_B = self.temperatures[facts.sources] * self.log_factor.exp()
        loss = partial(self._loss, facts=facts, temperature_B=temperature_B)
        total = matryoshka(lambda q, d: loss(q @ d.T), dims, q_BD, d_ND)
        if self.config.token_dim is not None and queries.tokens is not None and documents.tokens is not None:
            rows = len(queries.lengths)
            q_TD, q_lengths = _all_tokens(queries.tokens, queries.lengths, rows)
            scores_BN = maxsim_with_graph(q_TD, q_lengths, *_all_tokens(documents.tokens, documents.lengths, rows))
            # The mean keeps the meaning of the temperature for queries of any length.
            mean_BN = scores_BN / torch.tensor(q_lengths, device=device)[:, None]
            total = total + self.config.token_weight * loss(mean_BN)
        total = total + sum(taught)
        with torch.no_grad():
            scores_BN = normalize(q_BD) @ normalize(d_ND).T
            target = torch.arange(len(scores_BN), device=device)
            fair_BN = scores_BN.masked_fill(self._unfair(scores_BN, facts), float("-inf"))
            per_row = F.cross_entropy(fair_BN / temperature_B[:, None], target, reduction="none")
            # A document that beats the positive by a margin does beat it, also where it does not count as a negative.
            hits = scores_BN.masked_fill(self._answers(facts), float("-inf")).argmax(1) == target
        known = tuple(float(one.any(1).float().mean()) for one in said)
        return StepOutcome(total, per_row, hits, facts.sources, tuple(value.item() for value in taught), known)

    def _taught(self, batch: PairBatch[PackedBatch], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Each teacher's vectors of the queries of this process, and of the documents of all."""
        for asked, given in batch.taught:
            yield asked.to(device), _all_documents(given.to(device), len(batch.labels))

    def _loss(self, scores_BN: Tensor, facts: _Facts, temperature_B: Tensor) -> Tensor:
        mask_BN = self._unfair(scores_BN, facts)
        return info_nce(scores_BN, temperature=temperature_B, mask_BN=mask_BN, symmetric=self.config.symmetric)

    def _unfair(self, scores_BN: Tensor, facts: _Facts) -> Tensor:
        """bool [B, N]: True where document j must not count as a negative for query i, by content or by its score."""
        mask_BN = self._answers(facts)
        if self.config.mask_margin is not None:
            mask_BN |= above_positive(scores_BN, self.config.mask_margin)
        return mask_BN

    def _answers(self, facts: _Facts) -> Tensor:
        """bool [B, N]: True where document j must not count as a negative for query i, whatever its score."""
        num_queries = len(facts.rows)
        mask_BN = facts.contents[:num_queries, None] == facts.contents
        if not self.config.mask_same_content:
            # The hard negative of one row may be the positive of another: mined ones all are, of some row.
            mask_BN[:, :num_queries] = False
        # A row of a small source may stand in a batch twice, and one that replaces another may.
        mask_BN[:, :num_queries] |= facts.rows[:, None] == facts.rows
        if self.config.mask_same_label:
            mask_BN[:, :num_queries] |= facts.labels[:, None] == facts.labels
        return mask_BN.fill_diagonal_(False)


def _all_documents(x: Tensor, num_positives: int) -> Tensor:
    """Positives of all processes in their order, then the hard negatives of all."""
    return torch.cat([*gathered(x[:num_positives]), *gathered(x[num_positives:])])


def _all_tokens(tokens_TE: Tensor, lengths: Sequence[int], num_positives: int) -> tuple[Tensor, list[int]]:
    """Token vectors of all processes, and the lengths they belong to, in the order of `_all_documents`."""
    boundary = sum(lengths[:num_positives])
    tokens = [*gathered(tokens_TE[:boundary]), *gathered(tokens_TE[boundary:])]
    of_each = torch.tensor(lengths, device=tokens_TE.device)
    return torch.cat(tokens), _all_documents(of_each, num_positives).tolist()
