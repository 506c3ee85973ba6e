"""Which held-out pairs are ranked, and how."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from support.train_files import run_of, write_config, write_rows
from vlm2vec.errors import DataError
from vlm2vec.training.config import read_config
from vlm2vec.training.trainee import Trainee
from vlm2vec.training.validation import Validator


def test_validation_needs_pairs_that_differ_and_counts_what_is_no_number_as_not_found(folder: Path) -> None:
    (folder / "one.jsonl").write_text('{"query": "a", "positive": "b"}\n')
    with pytest.raises(DataError, match=r"one.jsonl holds 1 pair\(s\) of different labels and documents; 2 are"):
        run_of(write_config(folder, validation={"path": "one.jsonl", "every": 1}))
    config = read_config(write_config(folder, validation={"path": "image.jsonl", "every": 1, "pool": 8}))
    trainee = Trainee.build(config)
    assert config.validation is not None
    validator = Validator(config.validation, trainee)
    trainee.backbone.get_submodule("model.language_model.norm").state_dict()["weight"].fill_(torch.nan)
    scores = validator.measure(torch.device("cpu"), "float32")
    assert (scores["recall@1"], scores["recall@5"]) == (0.0, 0.0)


def test_validation_reads_no_more_rows_than_fill_its_pool(folder: Path) -> None:
    rows: list[object] = [{"query": f"query {n}", "positive": f"document {n}"} for n in range(9)]
    # Nine rows are looked at in the order 6, 8, 0, 2, 4, 3, 1, 5, 7.
    rows[7] = {"query": "no pair"}
    write_rows(folder / "held.jsonl", rows)
    config = read_config(write_config(folder, validation={"path": "held.jsonl", "every": 1, "pool": 8}))
    assert config.validation is not None
    trainee = Trainee.build(config)
    assert len(Validator(config.validation, trainee).documents) == 8
    with pytest.raises(DataError, match=r"held.jsonl:8"):
        Validator(config.validation.model_copy(update={"pool": 9}), trainee)
