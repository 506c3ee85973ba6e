"""How well does a model in training rank held-out pairs? Recall at 1, 5 and 10 in a pool."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from vlm2vec.errors import DataError, VLM2VecError
from vlm2vec.model.backbone import Ask, Prepared, plan_packs
from vlm2vec.model.similarity import normalize
from vlm2vec.processes import Launch
from vlm2vec.sources.forms import OwnSource
from vlm2vec.training.config import Validation
from vlm2vec.training.distributed import gathered
from vlm2vec.training.trainee import Trainee
from vlm2vec.vectors.keys import uninstructed_key

_TOKEN_BUDGET = 8192


class Validator:
    """Held-out pairs, read and prepared once.

    Args:
        config: the `validation` section; up to `pool` pairs of different labels and documents.

    Raises:
        DataError: a row cannot be read, or there are fewer such pairs than processes, or than two.
    """

    def __init__(self, config: Validation, trainee: Trainee) -> None:
        self.every = config.every
        self.backbone = trainee.backbone
        self.processor = processor = trainee.backbone.processor
        self.queries: list[Prepared] = []
        self.documents: list[Prepared] = []
        seen: set[object] = set()
        rows = OwnSource(path=config.path, allow_outside=config.allow_outside).open("validation", None)
        # Read only until the pool is full.
        for row in random.Random(0).sample(range(len(rows)), len(rows)):
            pair = rows[row]
            try:
                query = processor.prepare(pair.query, Ask("query", pair.target))
                document = processor.prepare(pair.positive, Ask("document"))
                keys: set[object] = {uninstructed_key(pair.positive), pair.label or pair.origin}
            except VLM2VecError as error:
                raise DataError(f"validation: {pair.origin}: {error}") from error
            if keys & seen:
                continue
            seen |= keys
            self.queries.append(query)
            self.documents.append(document)
            if len(self.documents) == config.pool:
                break
        if len(self.documents) < (needed := max(2, Launch.own().size)):
            raise DataError(
                f"validation: {config.path} holds {len(self.documents)} pair(s) of different labels and documents; "
                f"{needed} are needed"
            )

    def measure(self, device: torch.device, precision: str) -> dict[str, float]:
        """`recall@1`, `@5` and `@10` of the queries in the pool of all documents; every process must call it."""
        self.backbone.eval()
        queries, documents = (self._encoded(side, device, precision) for side in (self.queries, self.documents))
        self.backbone.train()
        scores = queries @ documents.T
        # A tie counts against the right document, and so does a score that is no number.
        ranks = (~(scores < scores.diagonal()[:, None])).sum(1)
        return {f"recall@{k}": float((ranks <= k).double().mean()) for k in (1, 5, 10)} | {
            "pool": float(len(documents))
        }

    def _encoded(self, prepared: Sequence[Prepared], device: torch.device, precision: str) -> Tensor:
        """Vectors of all, each process encoding its share."""
        launch = Launch.own()
        own = list(range(launch.rank, len(prepared), launch.size))
        members = plan_packs([prepared[i].cost for i in own], _TOKEN_BUDGET)
        order = [own[i] for pack in members for i in pack]
        rows = []
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            for pack in members:
                batch = self.processor.pack([prepared[own[i]] for i in pack]).to(device)
                rows.append(normalize(self.backbone(batch).pooled))
        empty = torch.empty(0, self.backbone.dim, device=device)
        everything = torch.cat(gathered(torch.cat([empty, *rows])))
        places = torch.cat(gathered(torch.tensor(order, dtype=torch.int64, device=device)))
        return everything[torch.argsort(places)]
