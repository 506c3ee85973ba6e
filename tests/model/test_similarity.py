"""Token vectors: their scores, and a model that gives them beside its single vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from support.golden_cases import qwen
from support.train_files import write_config, write_data
from vlm2vec.errors import ConfigError, InputError, ModelError
from vlm2vec.items import Item
from vlm2vec.model.backbone import Ask
from vlm2vec.model.embedder import Embedder
from vlm2vec.model.similarity import maxsim, maxsim_with_graph
from vlm2vec.training.config import read_config
from vlm2vec.training.loop import train


def test_maxsim_is_the_sum_over_query_tokens_of_the_best_document_token() -> None:
    q = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32)
    d = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [0.8, 0.6]], np.float32)
    # Queries of 2 and 1 tokens, documents of 2 and 3.
    expected = np.array([[1 + 1, 0.8 + 0.6], [0.8, 0.48 + 0.48]], np.float32)
    np.testing.assert_allclose(maxsim([q[:2], q[2:]], [d[:2], d[2:]]), expected, rtol=1e-6)
    scores = maxsim_with_graph(torch.from_numpy(q), [2, 1], torch.from_numpy(d), [2, 3])
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("cells", [2**26, 13, 1])
def test_arrays_and_tensors_in_parts_of_any_size_have_the_same_scores(cells: int) -> None:
    generator = np.random.default_rng(3)
    queries, documents = (
        [generator.standard_normal((length, 4)).astype(np.float32) for length in lengths]
        for lengths in ([3, 1, 4, 2], [5, 2, 6])
    )
    sides = [(torch.from_numpy(np.concatenate(side)), [*map(len, side)]) for side in (queries, documents)]
    scores = maxsim(queries, documents, cells=cells)
    np.testing.assert_allclose(scores, maxsim(queries, documents), rtol=1e-6)
    np.testing.assert_allclose(scores, maxsim_with_graph(*sides[0], *sides[1], cells=cells).numpy(), rtol=1e-5)


def test_an_item_without_tokens_has_no_score() -> None:
    some, none = np.ones((2, 3), np.float32), np.empty((0, 3), np.float32)
    for queries, documents in (([none], [some]), ([some], [some, none])):
        with pytest.raises(InputError, match="items without tokens have no late similarity"):
            maxsim(queries, documents)


def test_nothing_against_nothing_is_an_empty_matrix(own: Embedder) -> None:
    tokens = [np.eye(3, dtype=np.float32)]
    assert own.late_similarity([], tokens).shape == (0, 1)
    assert own.late_similarity(tokens, []).shape == (1, 0)
    assert own.late_similarity([], []).shape == (0, 0)


def test_maxsim_in_small_parts_has_the_same_scores_and_gradients() -> None:
    torch.manual_seed(2)
    q_lengths, d_lengths = [3, 1, 4, 2], [5, 2, 6]
    results = []
    for cells in (2**26, 13):
        generator = torch.Generator().manual_seed(3)
        q = torch.randn(10, 4, generator=generator, requires_grad=True)
        d = torch.randn(13, 4, generator=generator, requires_grad=True)
        scores = maxsim_with_graph(q, q_lengths, d, d_lengths, cells=cells)
        scores.square().sum().backward()
        results.append((scores.detach(), q.grad, d.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.slow
def test_a_trained_token_head_is_saved_and_gives_a_vector_for_every_token(tmp_path: Path) -> None:
    write_data(tmp_path)
    train(read_config(write_config(tmp_path, steps=30, loss={"temperature": 0.1, "token_dim": 16})))
    embedder = Embedder.load(tmp_path / "out", device="cpu")
    colours = ["red", "green", "blue", "yellow"]
    queries = embedder.encode_tokens(colours, role="query", target="image")
    pictures = embedder.encode_tokens([tmp_path / f"{colour}.png" for colour in colours], role="document")
    prepared = qwen(embedder).processor.prepare
    assert [len(one) for one in queries] == [prepared(Item(colour), Ask("query", "image")).cost for colour in colours]
    assert all(one.shape[1] == 16 for one in pictures)
    np.testing.assert_allclose(np.linalg.norm(queries[0], axis=1), 1, atol=1e-5)
    scores = embedder.late_similarity(queries, pictures)
    assert scores.shape == (4, 4)
    expected = np.sum(np.max(queries[1] @ pictures[2].T, axis=1))
    assert scores[1, 2] == pytest.approx(expected, abs=1e-5)
    assert (scores.argmax(1) == np.arange(4)).sum() >= 2
    # The single vectors are there as well.
    assert embedder.encode("red").shape == (64,)


def test_a_model_without_token_head_says_so() -> None:
    with pytest.raises(ModelError, match="bundled has no token head"):
        Embedder.load(device="cpu").encode_tokens(["a"])


@pytest.mark.slow
def test_a_head_of_another_size_than_asked_for_is_refused_and_one_not_asked_for_stays_as_it_is(tmp_path: Path) -> None:
    write_data(tmp_path)
    train(read_config(write_config(tmp_path, out="first", steps=1, loss={"token_dim": 16})))
    changes: dict[str, object] = {"init": "first", "scratch": None, "steps": 1}
    with pytest.raises(ConfigError, match=r"loss.token_dim is 8, but the head of .*first gives 16"):
        train(read_config(write_config(tmp_path, out="second", loss={"token_dim": 8}, **changes)))
    train(read_config(write_config(tmp_path, out="third", **changes)))
    heads = [load_file(tmp_path / out / "token_head.safetensors")["weight"] for out in ("first", "third")]
    assert torch.equal(*heads)
