"""Token vectors: their scores, and a model that gives them beside its single vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from support.train_files import write_config, write_data
from vlm2vec.errors import ConfigError, ModelError
from vlm2vec.items import Item
from vlm2vec.model import late_interaction
from vlm2vec.model.backbone import Ask
from vlm2vec.model.embedder import Embedder
from vlm2vec.model.late_interaction import maxsim
from vlm2vec.training.config import read_config
from vlm2vec.training.loop import train


def test_maxsim_is_the_mean_over_query_tokens_of_the_best_document_token() -> None:
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    d = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [0.8, 0.6]])
    # Queries of 2 and 1 tokens, documents of 2 and 3.
    scores = maxsim(q, [2, 1], d, [2, 3])
    torch.testing.assert_close(scores, torch.tensor([[(1 + 1) / 2, (0.8 + 0.6) / 2], [0.8, 0.48 + 0.48]]))


def test_nothing_against_nothing_is_an_empty_matrix(own: Embedder) -> None:
    tokens = [np.eye(3, dtype=np.float32)]
    assert [own.late_similarity(*sides).shape for sides in (([], tokens), (tokens, []), ([], []))] == [
        (0, 1),
        (1, 0),
        (0, 0),
    ]


def test_maxsim_in_small_parts_has_the_same_scores_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    q_lengths, d_lengths = [3, 1, 4, 2], [5, 2, 6]
    results = []
    for cells in (2**26, 13):
        monkeypatch.setattr(late_interaction, "_CELLS", cells)
        generator = torch.Generator().manual_seed(3)
        q = torch.randn(10, 4, generator=generator, requires_grad=True)
        d = torch.randn(13, 4, generator=generator, requires_grad=True)
        scores = maxsim(q, q_lengths, d, d_lengths)
        scores.square().sum().backward()
        results.append((scores.detach(), q.grad, d.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_a_trained_token_head_is_saved_and_gives_a_vector_for_every_token(tmp_path: Path) -> None:
    write_data(tmp_path)
    train(read_config(write_config(tmp_path, steps=30, loss={"temperature": 0.1, "token_dim": 16})))
    embedder = Embedder.load(tmp_path / "out", device="cpu")
    colours = ["red", "green", "blue", "yellow"]
    queries = embedder.encode_tokens(colours, role="query", target="image")
    pictures = embedder.encode_tokens([tmp_path / f"{colour}.png" for colour in colours], role="document")
    prepared = embedder.backbone.processor.prepare
    assert [len(one) for one in queries] == [prepared(Item(colour), Ask("query", "image")).length for colour in colours]
    assert all(one.shape[1] == 16 for one in pictures)
    np.testing.assert_allclose(np.linalg.norm(queries[0], axis=1), 1, atol=1e-5)
    scores = embedder.late_similarity(queries, pictures)
    assert scores.shape == (4, 4)
    expected = np.mean(np.max(queries[1] @ pictures[2].T, axis=1))
    assert scores[1, 2] == pytest.approx(expected, abs=1e-5)
    assert (scores.argmax(1) == np.arange(4)).sum() >= 2
    # The single vectors are there as well.
    assert embedder.encode("red").shape == (64,)


def test_a_model_without_token_head_says_so() -> None:
    with pytest.raises(ModelError, match="bundled has no token head"):
        Embedder.load(device="cpu").encode_tokens(["a"])


def test_a_head_of_another_size_than_asked_for_is_refused_and_one_not_asked_for_stays_as_it_is(tmp_path: Path) -> None:
    write_data(tmp_path)
    train(read_config(write_config(tmp_path, out="first", steps=1, loss={"token_dim": 16})))
    changes: dict[str, object] = {"init": "first", "scratch": None, "steps": 1}
    with pytest.raises(ConfigError, match=r"loss.token_dim is 8, but the head of .*first gives 16"):
        train(read_config(write_config(tmp_path, out="second", loss={"token_dim": 8}, **changes)))
    train(read_config(write_config(tmp_path, out="third", **changes)))
    heads = [load_file(tmp_path / out / "token_head.safetensors")["weight"] for out in ("first", "third")]
    assert torch.equal(*heads)
