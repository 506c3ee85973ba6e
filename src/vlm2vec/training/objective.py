"""How is the loss of a step computed over the batches of all processes: scores, masks, temperature and teachers?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm2vec.data.collate import PairBatch
from vlm2vec.model.families.trainable import TrainingPack
from vlm2vec.model.similarity import maxsim_with_graph, normalize
from vlm2vec.training.config import Loss, Teacher
from vlm2vec.training.distributed import gathered

_NEVER = -1e4
"""Stands for minus infinity where a difference of two is taken: its exponential is nought."""


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


class Objective(nn.Module):
    """InfoNCE as the configuration asks for it, and the teachers beside it.

    Args:
        config: the `loss` section.
        temperatures: one for each source, where it differs from `config.temperature`.
        dim: of our vectors.
        teachers: whose vectors ours are compared with, and the dimension of these, in the order of `PairBatch.taught`.
    """

    temperatures: Tensor

    def __init__(
        self,
        config: Loss,
        temperatures: Sequence[float | None],
        dim: int,
        teachers: Sequence[tuple[Teacher, int]] = (),
    ) -> None:
        super().__init__()
        self.config = config
        self.teachers = nn.ModuleList(_Distillation(teacher, dim, teacher_dim) for teacher, teacher_dim in teachers)
        own = [value if value is not None else config.temperature for value in temperatures]
        self.register_buffer("temperatures", torch.tensor(own, dtype=torch.float32), persistent=False)
        # One factor for all temperatures is learned, in logarithm as in CLIP.
        self.log_factor = nn.Parameter(torch.zeros(()), requires_grad=config.learn_temperature)

    def temperature(self) -> float:
        """The temperature of sources that have none of their own, as it stands."""
        return self.config.temperature * math.exp(self.log_factor.item())

    def forward(
        self, queries: tuple[Tensor, ...], documents: tuple[Tensor, ...], batch: PairBatch[TrainingPack]
    ) -> StepOutcome:
        """The loss over the rows of all processes, with a graph into the vectors of this one.

        Args:
            queries, documents: the vectors of the packs of `batch`, laid end to end: float32 [N, D], not normalised,
                and, of a model with a token head, those of the tokens: float32 [T, E], rows of length one.
        """
        asked = _Side.in_row_order(queries, batch.queries, batch.query_order)
        given = _Side.in_row_order(documents, batch.documents, batch.document_order)
        facts = _Facts.of(batch, asked.pooled.device)
        num_rows = len(batch.labels)
        q_BD, d_ND = torch.cat(gathered(asked.pooled)), _all_documents(given.pooled, num_rows)
        if self.config.center:
            # Vectors that all point the same way are the first thing that a random model learns, because that lowers
            # the loss of guessing; without their mean they cannot.
            q_BD, d_ND = q_BD - q_BD.mean(0), d_ND - d_ND.mean(0)
        dims = self.config.matryoshka or (q_BD.shape[1],)
        taught = [
            teacher(torch.cat([q_BD, d_ND]), said_XE, torch.cat([facts.asked, facts.given]), dims)
            for teacher, said_XE in zip(self.teachers, facts.taught, strict=True)
        ]
        temperature_B = self.temperatures[facts.sources] * self.log_factor.exp()

        def loss(scores_BN: Tensor) -> Tensor:
            mask_BN = self._unfair(scores_BN, facts)
            return info_nce(scores_BN, temperature=temperature_B, mask_BN=mask_BN, symmetric=self.config.symmetric)

        total = _matryoshka(lambda q, d: loss(q @ d.T), dims, q_BD, d_ND)
        if self.config.token_dim is not None and asked.tokens is not None and given.tokens is not None:
            q_TD, q_lengths = _all_tokens(asked.tokens, asked.lengths, num_rows)
            scores_BN = maxsim_with_graph(q_TD, q_lengths, *_all_tokens(given.tokens, given.lengths, num_rows))
            # The mean keeps the meaning of the temperature for queries of any length.
            mean_BN = scores_BN / torch.tensor(q_lengths, device=q_BD.device)[:, None]
            total = total + self.config.token_weight * loss(mean_BN)
        per_row, hits = self._told(q_BD, d_ND, facts, temperature_B)
        known = tuple(float(said_XE.any(1).float().mean()) for said_XE in facts.taught)
        return StepOutcome(
            total + sum(taught), per_row, hits, facts.sources, tuple(value.item() for value in taught), known
        )

    @torch.no_grad()
    def _told(self, q_BD: Tensor, d_ND: Tensor, facts: _Facts, temperature_B: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each row, and whether its own positive scored best, [B] each."""
        scores_BN = normalize(q_BD) @ normalize(d_ND).T
        target = torch.arange(len(scores_BN), device=scores_BN.device)
        fair_BN = scores_BN.masked_fill(self._unfair(scores_BN, facts), float("-inf"))
        per_row = F.cross_entropy(fair_BN / temperature_B[:, None], target, reduction="none")
        # A document that beats the positive by a margin does beat it, also where it does not count as a negative.
        return per_row, scores_BN.masked_fill(self._answers(facts), float("-inf")).argmax(1) == target

    def _unfair(self, scores_BN: Tensor, facts: _Facts) -> Tensor:
        """bool [B, N]: True where document j must not count as a negative for query i, by content or by its score."""
        mask_BN = self._answers(facts)
        if (margin := self.config.mask_margin) is not None:
            # A document that scores so high is more likely an unmarked answer (the rule of arXiv 2407.15831, with the
            # model itself as judge).
            mask_BN |= scores_BN.detach() > scores_BN.detach().diagonal()[:, None] + margin
        return mask_BN

    def _answers(self, facts: _Facts) -> Tensor:
        """bool [B, N]: True where document j must not count as a negative for query i, whatever its score."""
        num_queries = len(facts.rows)
        mask_BN = facts.given[:num_queries, None] == facts.given
        if not self.config.mask_same_content:
            # The hard negative of one row may be the positive of another: mined ones all are, of some row.
            mask_BN[:, :num_queries] = False
        # A row of a small source may stand in a batch twice, and one that replaces another may.
        mask_BN[:, :num_queries] |= facts.rows[:, None] == facts.rows
        if self.config.mask_same_label:
            mask_BN[:, :num_queries] |= facts.labels[:, None] == facts.labels
        return mask_BN.fill_diagonal_(False)


def info_nce(
    scores_BN: Tensor, *, temperature: float | Tensor, mask_BN: Tensor | None = None, symmetric: bool = False
) -> Tensor:
    """InfoNCE: mean cross entropy of picking document i for query i among all documents.

    Args:
        scores_BN: similarities; document i of the first B is the positive of query i, the others are hard negatives.
        temperature: divides the similarities; a tensor [B] has one for each row.
        mask_BN: True where document j must not count as a negative for query i; the diagonal is never masked.
        symmetric: average with the same over the queries for each positive (as CLIP, arXiv 2103.00020).

    Returns:
        a scalar, in nats.
    """
    per_row = temperature.unsqueeze(1) if isinstance(temperature, Tensor) and temperature.ndim else temperature
    if mask_BN is None:
        mask_BN = torch.zeros_like(scores_BN, dtype=torch.bool)
    diagonal = torch.eye(*scores_BN.shape, dtype=torch.bool, device=scores_BN.device)
    mask_BN = mask_BN & ~diagonal
    target = torch.arange(len(scores_BN), device=scores_BN.device)
    # Masked after dividing, or a learned temperature would have the gradient 0 * infinity.
    loss = F.cross_entropy((scores_BN / per_row).masked_fill(mask_BN, float("-inf")), target)
    if not symmetric:
        return loss
    # Row j of the transposed scores belongs to the pair j, whose temperature it takes.
    back_BB, unfair_BB = (x[:, : len(target)].T for x in (scores_BN, mask_BN))
    return (loss + F.cross_entropy((back_BB / per_row).masked_fill(unfair_BB, float("-inf")), target)) / 2


def _matryoshka(loss: Callable[..., Tensor], dims: Sequence[int], *vectors: Tensor) -> Tensor:
    """Mean of a loss over the first dimensions of vectors, each time scaled to length one (arXiv 2205.13147).

    Args:
        loss: of as many tensors as there are `vectors`, with rows of length one.
        dims: numbers of leading dimensions; name the full number too if it is to count.
        vectors: [N, D] each; need not be of length one.
    """
    return torch.stack([loss(*(normalize(x_ND[:, :dim]) for x_ND in vectors)) for dim in dims]).mean()


class _Distillation(nn.Module):
    """How far are our vectors of a batch, of `dim` dimensions, from those of a teacher, of `teacher_dim`?"""

    def __init__(self, teacher: Teacher, dim: int, teacher_dim: int) -> None:
        super().__init__()
        self.teacher = teacher
        self.map = nn.Linear(dim, teacher_dim, bias=False)
        """From our space to the teacher's; trained with the model and left behind with the run."""

    def forward(self, x_ND: Tensor, taught_NE: Tensor, same_N: Tensor, dims: Sequence[int]) -> Tensor:
        """`regression` times the distance plus `similarity` times the divergence.

        The distance is one minus the cosine between the map of our vector and the teacher's, as a mean over the items.
        The divergence is that of the softmax over our similarities to all items of other content from the softmax over
        the teacher's (relational distillation, as in arXiv 2203.05180): no map stands between, so it moves the
        very space of a search (with `loss.center`, that space less each side's mean, as in the other losses).

        Args:
            x_ND: our vectors, not normalised.
            taught_NE: the teacher's, rows of length one; zeros for items that it does not know, which do not count.
            same_N: int64, equal for items of equal content: nothing is to be learned from how alike these are.
            dims: numbers of leading dimensions, each of which is to show these similarities by itself.
        """
        known = taught_NE.any(1)
        x_ND, taught_NE, same_N = x_ND[known], taught_NE[known], same_N[known]
        if not len(x_ND):
            # Still a gradient for every parameter, which the processes expect of each other.
            return self.map.weight.sum() * 0 + x_ND.sum() * 0
        distance = (1 - (F.normalize(self.map(x_ND), dim=1) * taught_NE).sum(1)).mean()
        if len(x_ND) < 2:
            return self.teacher.regression * distance
        same_NN = same_N[:, None] == same_N
        target_NN = self._others(taught_NE, same_NN)
        divergence = _matryoshka(
            lambda x: F.kl_div(self._others(x, same_NN), target_NN, reduction="batchmean", log_target=True), dims, x_ND
        )
        return self.teacher.regression * distance + self.teacher.similarity * divergence

    def _others(self, unit_ND: Tensor, same_NN: Tensor) -> Tensor:
        """Logarithm of the softmax over the similarities of each item to those that are not the same, [N, N]."""
        scores_NN = unit_ND @ unit_ND.T / self.teacher.temperature
        return scores_NN.masked_fill(same_NN, _NEVER).log_softmax(1)


class _Side(NamedTuple):
    """Encoded queries or documents of one process, in the order of the rows.

    Args:
        pooled: float32 [N, D], not normalised.
        tokens: float32 [T, E], rows of length one, of a model with a token head.
        lengths: tokens of each item.
    """

    pooled: Tensor
    tokens: Tensor | None
    lengths: tuple[int, ...]

    @classmethod
    def in_row_order(cls, parts: tuple[Tensor, ...], packs: Sequence[TrainingPack], order: Tensor) -> _Side:
        lengths = [length for pack in packs for length in pack.lengths]
        tokens = None
        if len(parts) > 1:
            sequences = parts[1].split(lengths)
            tokens = torch.cat([sequences[i] for i in order.tolist()])
        return cls(parts[0][order.to(parts[0].device)], tokens, tuple(lengths[i] for i in order.tolist()))


class _Facts(NamedTuple):
    """The rows of all processes besides our vectors: B queries, then N documents.

    Args:
        labels, rows, sources: int64 [B].
        asked, given: the contents of queries and documents, int64 [B] and [N].
        taught: the vectors of each teacher, float32 [B + N, E].
    """

    labels: Tensor
    rows: Tensor
    sources: Tensor
    asked: Tensor
    given: Tensor
    taught: tuple[Tensor, ...]

    @classmethod
    def of(cls, batch: PairBatch[TrainingPack], device: torch.device) -> _Facts:
        def queries(x: Tensor) -> Tensor:
            return torch.cat(gathered(x.to(device)))

        def documents(x: Tensor) -> Tensor:
            return _all_documents(x.to(device), len(batch.labels))

        return cls(
            queries(batch.labels),
            queries(batch.rows),
            queries(batch.sources),
            queries(batch.contents[0]),
            documents(batch.contents[1]),
            tuple(torch.cat([queries(asked), documents(given)]) for asked, given in batch.taught),
        )


def _all_documents(x: Tensor, num_positives: int) -> Tensor:
    """Positives of all processes in their order, then the hard negatives of all."""
    return torch.cat([*gathered(x[:num_positives]), *gathered(x[num_positives:])])


def _all_tokens(tokens_TE: Tensor, lengths: Sequence[int], num_positives: int) -> tuple[Tensor, list[int]]:
    """Token vectors of all processes, and the lengths they belong to, in the order of `_all_documents`."""
    boundary = sum(lengths[:num_positives])
    tokens = [*gathered(tokens_TE[:boundary]), *gathered(tokens_TE[boundary:])]
    of_each = torch.tensor(lengths, device=tokens_TE.device)
    return torch.cat(tokens), _all_documents(of_each, num_positives).tolist()
