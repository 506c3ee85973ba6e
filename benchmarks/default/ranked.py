"""How often is the right answer first?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vlm2vec.model.similarity import as_unit


def ranks(asked: NDArray[np.float32], found: NDArray[np.float32], answers: NDArray[np.intp]) -> NDArray[np.intp]:
    """The place of each question's answer, counted from 1; a tie counts against it.

    Args:
        asked: vectors of questions [Q, D]. found: of what is ranked [N, D].
        answers: for each question the row of its answer [Q].
    """
    scores = as_unit(asked) @ as_unit(found).T
    right = scores[np.arange(len(answers)), answers]
    places: NDArray[np.intp] = (scores >= right[:, None] - 1e-7).sum(1)
    return places


def hits(asked: NDArray[np.float32], found: NDArray[np.float32], answers: NDArray[np.intp]) -> dict[str, float]:
    """Percent of questions whose answer comes first, and among the first five; arguments are those of `ranks`."""
    places = ranks(asked, found, answers)
    return {f"hit@{most}": round(100 * float((places <= most).mean()), 1) for most in (1, 5)}
