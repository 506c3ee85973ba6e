"""Evaluates the golden tiny model and kills itself when it has been given so many vectors; 0: it lives.

python evaluate_and_die.py ROOT OUT AFTER TASK...     prints how many vectors it was given
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

from support.golden_cases import MODEL
from vlm2vec.errors import VLM2VecError
from vlm2vec.evaluation.runner import evaluate
from vlm2vec.model.backbone import Vectors
from vlm2vec.model.embedder import Embedder
from vlm2vec.tasks.registry import get_tasks
from vlm2vec.vectors.job import Flush

root, out, after = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
embedder = Embedder.load(MODEL, prompt_style="vlm2vec", device="cpu")
stream, given = embedder.stream, 0


def counted(*arguments: Any, **options: Any) -> Generator[tuple[int, Vectors | VLM2VecError], None, None]:
    global given
    for one in stream(*arguments, **options):
        given += 1
        if given == after:
            os.kill(os.getpid(), signal.SIGKILL)
        yield one


embedder.stream = counted  # type: ignore[method-assign]
# Every vector is kept at once, so that the moment of death says what is kept.
found = evaluate(embedder, get_tasks(names=sys.argv[4:]), root=root, out=out, flush=Flush(rows=1))
assert found.failures == {}, found.failures
print(given)
