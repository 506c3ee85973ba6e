"""How does a larger model teach? Its cached vectors of the same items, and the loss beside the contrastive one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm2vec.errors import ConfigError, DataError, InputError
from vlm2vec.items import Item
from vlm2vec.model.similarity import normalize
from vlm2vec.training.config import Teacher
from vlm2vec.training.losses import matryoshka
from vlm2vec.vectors.keys import uninstructed_key
from vlm2vec.vectors.store import VectorStore

TEACHER = "teacher.json"
"""Says whose vectors lie in a folder that `vlm2vec teach` filled."""

_NEVER = -1e4
"""Stands for minus infinity where a difference of two is taken: its exponential is nought."""


class TeacherVectors:
    """The vectors of a teacher, looked up by the content of an item: text and media count, instructions do not.

    Args:
        folder: of a `VectorStore` whose keys are `uninstructed_key`.

    Raises:
        DataError: it holds no vectors, or vectors of several dimensions.
    """

    def __init__(self, folder: Path) -> None:
        dims = VectorStore.dims(folder)
        if not dims:
            raise DataError(f"teachers: {folder} should hold vectors, and holds none", "teach")
        if len(dims) > 1:
            raise DataError(f"teachers: {folder} should hold vectors of one dimension, and holds {dims}")
        self.store = VectorStore.open(folder, dims[0])

    @property
    def dim(self) -> int:
        return self.store.dim

    def of(self, keys: Sequence[bytes]) -> Tensor:
        """Rows of length one, float32 [N, dim]; zeros where the teacher has no vector."""
        return normalize(torch.from_numpy(self.store.get(keys)[1]))


def write_teacher(folder: Path, items: Sequence[Item], vectors: np.ndarray) -> None:
    """Keep a teacher's vectors of some items where `teachers` of a training configuration finds them.

    Args:
        folder: made if it is missing; vectors of earlier calls are kept. It must hold one teacher alone: nothing in it
            says whose the vectors are.
        items: of equal content as the items of the training rows, whatever their instructions.
        vectors: float32 [N, dim].

    Raises:
        InputError: an item lacks a vector, or one is not finite.
        MediaError: a medium is missing or cannot be read.
        ConfigError: the folder holds vectors of another dimension, or those of `teach`.
        StorageError: it cannot be written.
    """
    if (folder / TEACHER).exists():
        raise ConfigError(f"{folder} holds the vectors of the model that {TEACHER} names", "other_out")
    if others := [dim for dim in VectorStore.dims(folder) if dim != vectors.shape[-1]]:
        raise ConfigError(
            f"{folder} holds vectors of {' and '.join(map(str, others))} dimensions, and these have "
            f"{vectors.shape[-1]}",
            "other_out",
        )
    if bad := np.flatnonzero(~np.isfinite(vectors).all(-1)).tolist():
        # A vector that is kept is never replaced.
        raise InputError(f"vectors of {len(bad)} items are not finite, first that of item {bad[0]}; nothing is written")
    VectorStore.open(folder, vectors.shape[-1]).put([uninstructed_key(item) for item in items], vectors)


class Distillation(nn.Module):
    """How far are our vectors of a batch from those of a teacher?

    Args:
        teacher: its weights and temperature.
        dim, teacher_dim: of our vectors and of its.
    """

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
            dims: numbers of leading dimensions, each of which is to show these similarities by itself.
            taught_NE: the teacher's, rows of length one; zeros for items that it does not know, which do not count.
            same_N: int64, equal for items of equal content: nothing is to be learned from how alike these are.
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
        divergence = matryoshka(
            lambda x: F.kl_div(self._others(x, same_NN), target_NN, reduction="batchmean", log_target=True), dims, x_ND
        )
        return self.teacher.regression * distance + self.teacher.similarity * divergence

    def _others(self, unit_ND: Tensor, same_NN: Tensor) -> Tensor:
        """Logarithm of the softmax over the similarities of each item to those that are not the same, [N, N]."""
        scores_NN = unit_ND @ unit_ND.T / self.teacher.temperature
        return scores_NN.masked_fill(same_NN, _NEVER).log_softmax(1)
